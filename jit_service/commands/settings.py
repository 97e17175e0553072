"""`jit-service init`, `config`, `settings`, `check` and `doctor`: what settings there are, and whether they work."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from jit_service.commands.given import loaded, one_line_errors
from jit_service.commands.options import SERVING, Flags, takes
from jit_service.configuration import table, template
from jit_service.configuration.environment import PREFIX
from jit_service.runtime import doctor, preflight
from jit_service.runtime.preflight import Form, Report
from jit_service.runtime.service import ServiceError, utc_now
from jit_service.settings import Settings, Source


@takes("http", *SERVING)
def check(
    *,
    output: Annotated[Form, typer.Option("-o", "--output", help="Lines for people, or one JSON object.")] = Form.TEXT,
    strict: Annotated[bool, typer.Option("--strict", help="Fail for warnings too.")] = False,
    flags: Flags,
) -> None:
    """Try settings, files, database, receivers and issuers, without starting or changing anything.

    Exit code 1 if the service would not start or nobody could use it, else 0: fit for systemd's ExecStartPre.
    """
    report = _reported(preflight.report, flags, strict=strict)
    print(report.text(output))
    raise typer.Exit(int(report.fails))


@takes("http", *SERVING)
def examine(
    *,
    output: Annotated[Form, typer.Option("-o", "--output", help="A table for people, or one JSON object.")] = Form.TEXT,
    strict: Annotated[bool, typer.Option("--strict", help="Fail for warnings too.")] = False,
    flags: Flags,
) -> None:
    """Examine the settings, the store, its log, the keys, the clock, the disk and what waits, beside the service.

    It changes nothing. Exit code 1 if something is wrong, else 0.
    """
    report = _reported(doctor.report, flags, strict=strict)
    print(report.text(output) if output is Form.JSON else report.table())
    raise typer.Exit(int(report.fails))


def _reported(examine: Callable[..., Report], flags: Flags, *, strict: bool) -> Report:
    # What is wrong is among the findings, in plain words.
    logging.disable(logging.CRITICAL)
    try:
        return examine(lambda: loaded(flags), clock=utc_now, strict=strict)
    finally:
        logging.disable(logging.NOTSET)


def list_settings() -> None:
    """Print all settings: the variable with its default, the form of its value, and what it means."""
    for row in table.rows(Settings):
        print(f"{row.variable} [{row.default}]\n    {row.form}\n    {row.meaning}")


@takes("http", *SERVING)
def show_config(
    *,
    output: Annotated[Form, typer.Option("-o", "--output", help="A table for people, or one JSON object.")] = Form.TEXT,
    try_them: Annotated[
        bool, typer.Option("--check", help="Try the settings, as `jit-service check` does, instead of showing them.")
    ] = False,
    flags: Flags,
) -> None:
    """Show the settings that hold, each with where it comes from: flag, environment, file or default; no secrets."""
    if try_them:
        check(output=output, **flags)
    with one_line_errors():
        settings = loaded(flags)
        if output is Form.JSON:
            print(json.dumps(_told(settings), indent=1))
            return
        values = table.values(settings, instead=settings.instead_of_secrets)
        width = max(map(len, values))
        for name, value in values.items():
            print(f"{name:<{width}}  {value or '-'}  ({_from(settings, name)})")


def init(
    file: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="Where it is written; - prints it.", show_default=True)
    ] = Path("jit-service.yaml"),
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a settings file with every setting in a comment: its default, its form and its meaning."""
    with one_line_errors():
        if str(file) == "-":
            print(template.text(Settings, path="jit-service.yaml"), end="")
            return
        try:
            with file.open("w" if force else "x", encoding="utf-8") as written:
                written.write(template.text(Settings, path=str(file)))
        except FileExistsError:
            raise ServiceError(f"{file} is there; --force replaces it") from None
        except OSError as fault:
            raise ServiceError(f"{file} cannot be written: {fault.strerror}") from fault
        print(file.resolve())


def _told(settings: Settings) -> dict[str, Any]:
    values = table.values(settings, instead=settings.instead_of_secrets)
    told = {
        name: {"value": value, "source": settings.sources[name].value, "variable": f"{PREFIX}{name.upper()}"}
        for name, value in values.items()
    }
    return {"file": str(settings.file.path) if settings.file else None, "settings": told}


def _from(settings: Settings, name: str) -> str:
    source = settings.sources[name]
    if source is Source.ENVIRONMENT:
        return f"environment, {PREFIX}{name.upper()}"
    if source is Source.FILE and settings.file is not None:
        return f"file, {settings.file.path}:{settings.file.line_of(name)}"
    return source.value
