"""`jit-service check` and `settings`: what settings there are, and whether these work."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from jit_service.commands.given import loaded
from jit_service.commands.options import SERVING, Flags, takes
from jit_service.configuration import table
from jit_service.runtime import preflight
from jit_service.runtime.preflight import Form
from jit_service.runtime.service import utc_now
from jit_service.settings import Settings


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
    # What is wrong is among the findings, in plain words.
    logging.disable(logging.CRITICAL)
    try:
        report = preflight.report(lambda: loaded(flags), clock=utc_now, strict=strict)
    finally:
        logging.disable(logging.NOTSET)
    print(report.text(output))
    raise typer.Exit(int(report.fails))


def list_settings() -> None:
    """Print all settings: the variable with its default, the form of its value, and what it means."""
    for row in table.rows(Settings):
        print(f"{row.variable} [{row.default}]\n    {row.form}\n    {row.meaning}")
