"""`jit-service notifications`: those that are not delivered."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Annotated

import typer

from jit_service.commands.given import one_line_errors, settings_of, store_of
from jit_service.commands.options import STORING, Flags, takes
from jit_service.domain.notification import seq_of
from jit_service.notifications import delivery

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="See the notifications that are not delivered, and retry them."
)


@app.command("list")
@takes(*STORING)
def notifications_list(
    *,
    given_up: Annotated[
        bool, typer.Option("--given-up", help="Only those that the service no longer retries.")
    ] = False,
    flags: Flags,
) -> None:
    """Print the undelivered notifications, one JSON object a line, the oldest first."""
    with one_line_errors(), closing(store_of(settings_of(flags))) as store:
        for waiting in delivery.list_waiting(store, only_given_up=given_up):
            print(json.dumps(delivery.told(waiting)))


@app.command("retry")
@takes(*STORING)
def notifications_retry(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids from `list`; all by default.")] = None,
    *,
    receiver: Annotated[
        list[str] | None, typer.Option("--receiver", help="Only this receiver's; may be repeated.")
    ] = None,
    flags: Flags,
) -> None:
    """Retry failed notifications now, with all their attempts; the running service delivers them."""
    with one_line_errors(), closing(store_of(settings_of(flags))) as store:
        seqs = [seq_of(text) for text in ids or ()]
        count = delivery.retry(store, receivers=receiver or (), seqs=seqs)
        typer.echo(f"{count} will be retried", err=True)
