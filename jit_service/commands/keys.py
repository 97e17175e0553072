"""`jit-service keys`: the keys that tokens are signed with, and the key that seals the store."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Annotated

import typer

from jit_service.commands.bar import bar
from jit_service.commands.given import one_line_errors, settings_of, store_of
from jit_service.commands.options import STORING, Flags, takes
from jit_service.domain.audit.event import SERVICE
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.errors import KeysUnavailable, StoreUnavailable
from jit_service.domain.tokens.signing_key import KeyState, SigningKey
from jit_service.runtime.service import ServiceError, issuing_of
from jit_service.use_cases import resealing, signing_keys

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="See and rotate the keys that tokens are signed with, and the sealing key.",
)


@app.command("list")
@takes(*STORING)
def keys_list(*, flags: Flags) -> None:
    """Print the keys that tokens are signed with, one JSON object a line, without the private parts."""
    with one_line_errors(), closing(store_of(settings_of(flags))) as store:
        for key, state in signing_keys.list_all(store):
            _say_key(key, state)


@app.command("rotate")
@takes(*STORING)
def keys_rotate(
    *,
    compromised: Annotated[
        bool, typer.Option("--compromised", help="Sign with the new key at once, and remove all others.")
    ] = False,
    flags: Flags,
) -> None:
    """Add a key: it is published now, and signs once every verifier has it; tokens of other keys stay valid."""
    with one_line_errors():
        settings = settings_of(flags)
        issuing = issuing_of(settings)
        if issuing is None:
            raise ServiceError("no tokens are issued: set JIT_TOKEN_ISSUER")
        by = Caller(principal=SERVICE, origin=Origin(method="jit-service keys rotate"))
        with closing(store_of(settings)) as store:
            add = signing_keys.replace_all if compromised else signing_keys.rotate
            added = add(store, issuing, by=by)
            _say_key(added, KeyState.SIGNING if compromised else KeyState.PUBLISHED)


@app.command("reseal")
@takes(*STORING)
def keys_reseal(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Verify everything, and change nothing.")] = False,
    flags: Flags,
) -> None:
    """Seal the store with the first key of the key file, once all of it is verified; the service may run meanwhile.

    Each host must have the new key and the old one by then, the new one first. Afterwards the old key opens nothing.
    """
    with one_line_errors(), bar() as report, closing(store_of(settings_of(flags))) as store:
        by = Caller(principal=SERVICE, origin=Origin(method="jit-service keys reseal"))
        try:
            done = resealing.examine(store, report=report) if dry_run else resealing.reseal(store, by=by, report=report)
        except (StoreUnavailable, KeysUnavailable) as fault:
            raise ServiceError(f"nothing was sealed anew: {fault}") from fault
    if done.before == done.now:
        told = f"key {done.now} seals the store, and is the first of the key file: nothing to do"
    elif dry_run:
        told = f"{done.rows} rows are as the service left them; key {done.now} would seal them instead of {done.before}"
    else:
        told = f"key {done.now} seals the store, {done.rows} rows; remove key {done.before} from the key file now"
    typer.echo(told, err=True)
    print(json.dumps({"replacedKey": "" if done.before == done.now else done.before, "sealingKey": done.now,
                      "rows": done.rows, "dryRun": dry_run}))  # fmt: skip


def _say_key(key: SigningKey, state: KeyState) -> None:
    facts = {"kid": key.kid, "state": state, "createTime": key.created_at, "signsFrom": key.signs_at}
    print(json.dumps(facts | {"lastExpireTime": key.last_expires_at}, default=lambda instant: instant.isoformat()))
