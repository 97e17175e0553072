"""`jit-service audit`: prune the audit log by hand, or see what would be pruned."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Annotated, Any

import typer

from jit_service.commands.given import one_line_errors, settings_of, store_of
from jit_service.commands.options import STORING, Flags, takes
from jit_service.domain.audit.event import SERVICE
from jit_service.domain.caller import Caller, Origin
from jit_service.runtime.retention import pruning_by
from jit_service.runtime.service import ServiceError, issuing_of
from jit_service.use_cases import audit_pruning
from jit_service.use_cases.audit_pruning import Range
from jitaccess.naming import rfc3339

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Prune the audit log by JIT_AUDIT_RETENTION.")


@app.command("prune")
@takes(*STORING)
def audit_prune(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be pruned next, and prune nothing.")
    ] = False,
    flags: Flags,
) -> None:
    """Archive and prune what is older than JIT_AUDIT_RETENTION, beside a running service that may do the same.

    It prints one JSON object for each range of records.
    """
    with one_line_errors():
        settings = settings_of(flags)
        pruning = pruning_by(settings, issuing_of(settings))
        if pruning is None:
            raise ServiceError("nothing is pruned: set JIT_AUDIT_RETENTION")
        by = Caller(principal=SERVICE, origin=Origin(method="jit-service audit prune"))
        with closing(store_of(settings)) as store:
            if dry_run:
                _say(audit_pruning.due(store, pruning.retention), dry_run=True)
                return
            try:
                while (pruned := audit_pruning.prune_next(store, pruning, by)) is not None:
                    _say(pruned, dry_run=False)
            except OSError as fault:
                raise ServiceError(f"nothing more is pruned: the archive cannot be written: {fault}") from fault


def _say(found: Range | None, *, dry_run: bool) -> None:
    if found is None:
        typer.echo("nothing is due", err=True)
        return
    facts: dict[str, Any] = {"firstSeq": found.first_seq, "lastSeq": found.last_seq}
    facts |= {"lastTime": rfc3339.exact(found.last_at), "archive": found.archive, "pruned": not dry_run}
    print(json.dumps({key: value for key, value in facts.items() if value != ""}))
