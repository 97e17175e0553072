"""`jit-service backup` and `restore`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from jit_service.commands.bar import bar
from jit_service.commands.given import one_line_errors, settings_of
from jit_service.commands.options import STORING, Flags, takes
from jit_service.runtime import backup as backups
from jit_service.runtime.service import utc_now


@takes(*STORING)
def backup(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory, one for each backup.")],
    *,
    include_key: Annotated[
        bool, typer.Option("--include-key", help="Copy the key file too; then guard the backup as you guard the key.")
    ] = False,
    flags: Flags,
) -> None:
    """Back up the database beside the running service, with a manifest that `restore` verifies.

    The key file that seals the database is not part of it: keep it elsewhere, since nothing can be restored without.
    """
    with one_line_errors(), bar() as report:
        made = backups.back_up(settings_of(flags), directory, clock=utc_now, with_key=include_key, report=report)
    typer.echo(f"{directory} has the store up to record {made.event_count}", err=True)
    print(json.dumps({"directory": str(directory), "eventCount": made.event_count, "headHash": made.head_hash,
                      "file": made.file, "size": made.size, "sha256": made.sha256}))  # fmt: skip


@takes(*STORING)
def restore(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `jit-service backup` wrote.")],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Move SQLite's database that is there out of the way.")
    ] = False,
    revoke_all: Annotated[
        bool, typer.Option("--revoke-all", help="End all access of the backup: what was revoked since is live again.")
    ] = False,
    flags: Flags,
) -> None:
    """Restore a backup, with the service stopped: verify it whole, put it in place, and begin another history."""
    with one_line_errors(), bar() as report:
        done = backups.restore(
            settings_of(flags), directory, clock=utc_now, replacing=replace, revoke_all=revoke_all, report=report
        )
    typer.echo(f"the store is as on {done.manifest.time}, at record {done.manifest.event_count}", err=True)
    if done.set_aside is not None:
        typer.echo(f"what was there is {done.set_aside}", err=True)
    if done.live:
        typer.secho(
            f"{done.live} grants give access, also those that were revoked since the backup; locks and revoked tokens "
            "of that time are not known any more. `--revoke-all` would have ended them.",
            err=True,
            fg=typer.colors.YELLOW,
        )
    print(json.dumps({"eventCount": done.manifest.event_count, "headHash": done.manifest.head_hash,
                      "liveGrants": done.live, "revokedGrants": done.revoked}))  # fmt: skip
