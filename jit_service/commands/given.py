"""What every command begins with: its settings, its store, and one line for what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from jit_service.commands.options import Flags
from jit_service.configuration import logs
from jit_service.configuration.redaction import without_tokens
from jit_service.domain.errors import JitError
from jit_service.rpc.policy_file import PolicyFileError
from jit_service.runtime.dev_issuer import NoDevIssuer
from jit_service.runtime.envoy import EdgeError
from jit_service.runtime.service import ServiceError, demand_schema, open_store
from jit_service.settings import LISTENS, Settings, SettingsError, config_of_environment
from jit_service.storage import Store
from jitaccess.extras import ExtraMissing


def store_of(settings: Settings) -> Store:
    """Returns the store, which has the schema of this version. Raises ServiceError, StoreUnavailable."""
    store = open_store(settings)
    demand_schema(store)
    return store


class Commands(TyperGroup):
    """The commands, whose errors of use quote no credentials: a database's URL may stand where its flag is missing."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except Exception as fault:
            if isinstance(message := getattr(fault, "message", None), str):
                fault.message = without_tokens(message)  # type: ignore[attr-defined]
            raise


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the command with exit code 1 and one line on stderr for a fault that an operator can mend."""
    try:
        yield
    except (SettingsError, ServiceError, EdgeError, PolicyFileError, NoDevIssuer, JitError, ExtraMissing) as fault:
        typer.echo(f"jit-service: error: {without_tokens(' '.join(str(fault).split()))}", err=True)
        raise typer.Exit(1) from fault


def loaded(flags: Flags, *, listens: Sequence[str] = LISTENS) -> Settings:
    """Returns the settings with these flags. `listens` are the ports of the command. Raises SettingsError."""
    given = {flag: value for flag, value in flags.items() if value is not None}
    settings = Settings.load(config=given.pop("config", None) or config_of_environment(), listens=listens, **given)
    logs.set_up(settings.log_format, settings.log_level)
    return settings


def settings_of(flags: Flags, *, listens: Sequence[str] = LISTENS) -> Settings:
    """Does what `loaded` does, and makes the data directory."""
    settings = loaded(flags, listens=listens)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return settings
