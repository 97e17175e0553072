"""The commands about the caller itself: who it is, and its shell's completion."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from jitaccess.cli.command import command
from jitaccess.cli.session import Session, rest_json
from jitaccess.cli.text import listed

if TYPE_CHECKING:
    from jitaccess import JitError
    from jitaccess.cli.screen import Screen
    from jitaccess.config import Config

COMPLETE_VARIABLE = "_JIT_COMPLETE"
_UNKNOWN_GROUPS = "not known: the token leaves them out, so they permit nothing"
# What a refusal says of tokens that count, by its metadata.
_TAKES = {"issuers": "iss", "audience": "aud"}


class Shell(StrEnum):
    """The shells that completion is there for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"
    PWSH = "pwsh"


def whoami(session: Session) -> None:
    """Show whom the service takes you for: principal, roles, groups, and until when.

    Where it refuses the token or cannot be asked, what the token says is shown instead, as read here and not proved.
    """
    from jitaccess import JitError
    from jitaccess.login.claims import read_claims

    settings = session.settings()
    token = settings.token()
    with session.client() as client:
        try:
            found = client.who_am_i()
        except JitError as error:
            _show_unproved(session, read_claims(token), settings, error)
            raise

    def show(screen: Screen) -> None:
        screen.fields(
            [
                ("principal", found.principal),
                ("roles", listed(found.roles) or "none"),
                ("groups", _UNKNOWN_GROUPS if found.groups_left_out else listed(found.groups) or "none"),
                ("issuer", found.issuer),
                ("sub", found.issuer_subject),
                ("jti", found.jti or "none: no lock can name this token"),
                ("expires", screen.moment(found.expire_time)),
                *_source(settings),
                ("service", f"{settings.address} accepts the token"),
            ]
        )

    data = rest_json(found.raw) | {"readFrom": "service", "address": settings.address, "accepted": True}
    data |= _source_data(settings)
    session.answer_data(data, show)


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh, fish, powershell or pwsh.")],
) -> None:
    """Print a shell's completion script.

    For bash: source <(jit completion bash)
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    typer.echo(get_completion_script(prog_name="jit", complete_var=COMPLETE_VARIABLE, shell=shell.value))


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    command(app)(whoami)
    app.command()(completion)


def _show_unproved(session: Session, claims: Mapping[str, object], settings: Config, error: JitError) -> None:
    """Shows what the token says beside what the service said of it."""
    address = settings.address
    refused = error.code == "UNAUTHENTICATED"
    takes = {key: error.metadata[key] for key in _TAKES if key in error.metadata} if refused else {}
    said = {name: _shown(claims.get(name)) for name in ("sub", "iss", "aud", "groups", "roles", "jti")}
    expires = _expiry(claims)
    data = {
        "readFrom": "token",
        "claims": {name: claims[name] for name in said if name in claims},
        "expireTime": expires.strftime("%Y-%m-%dT%H:%M:%SZ") if expires else None,
        "address": address,
        "accepted": False if refused else None,
        "takes": takes,
    } | _source_data(settings)

    def show(screen: Screen) -> None:
        heading = "as read here from the token, not proved" if claims else "the token cannot be read here: it is no JWT"
        service = f"{address} {'refuses the token' if refused else 'did not say whether it accepts the token'}"
        screen.fields(
            [
                ("", f"({heading})"),
                *said.items(),
                ("expires", screen.moment(expires)),
                *_source(settings),
                ("service", service),
                *((f"it takes {_TAKES[key]}", value) for key, value in takes.items()),
            ]
        )

    session.answer_data(data, show)


def _source(settings: Config) -> list[tuple[str, str]]:
    """Returns which context is in effect, and where the token comes from."""
    from jitaccess.login.renewal import Renewed

    rows = [("context", settings.context.name)] if settings.context is not None and settings.context.found else []
    if isinstance(settings.token, Renewed):
        rows.append(("renewed", "by itself, before it ends" if settings.token.goes_on else "not: then log in again"))
    return [*rows, ("token from", settings.token_from)]


def _source_data(settings: Config) -> dict[str, object]:
    context = settings.context.name if settings.context is not None and settings.context.found else None
    return {"context": context, "tokenFrom": settings.token_from}


def _shown(claim: object) -> str:
    if isinstance(claim, list):
        return listed(str(item) for item in claim)
    return "" if claim is None else str(claim)


def _expiry(claims: Mapping[str, object]) -> datetime | None:
    seconds = claims.get("exp")
    if not isinstance(seconds, (int, float)):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
