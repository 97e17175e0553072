"""What `jit inbox` and `jit show` last printed, so that a decision is on that and on nothing that took its place since.

It is in `$XDG_STATE_HOME/jit/shown.json` (`~/.local/state/jit/shown.json`), a file of the user's own: of the latest
grants their etags, by the service's address and who the token says that its user is. Where it cannot be read nothing
was shown, and where it cannot be written nothing will have been: then somebody is asked, or `--etag` is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from jitaccess.cli.session import Output, Session

if TYPE_CHECKING:
    from jitaccess import Grant, JitClient
    from jitaccess.cli.screen import Screen

MAX_KEPT = 1000


def remember(session: Session, grants: Iterable[Grant]) -> None:
    """Keeps which grants were printed, with their etags."""
    whose, kept = _whose(session), _read()
    for grant in grants:
        key = f"{whose} {grant.name}"
        kept.pop(key, None)
        kept[key] = grant.etag
    with suppress(OSError):
        _write(dict(list(kept.items())[-MAX_KEPT:]))


def to_decide_on(session: Session, client: JitClient, text: str, *, etag: str, verb: str) -> tuple[Grant, str]:
    """Returns the grant that a decision is on, and the etag that binds it to what was shown.

    What was not shown as it is now is shown on a terminal, where somebody is asked. Elsewhere what has changed since is
    refused by the service, a request that was never shown is what its id says, and more time that was never shown
    raises InvalidArgument: it can be asked for again and again under one id.
    """
    from jitaccess.cli import describe, ids
    from jitaccess.errors import InvalidArgument

    found = ids.find(client, text)
    if etag:
        return found, etag
    seen = _read().get(f"{_whose(session)} {found.name}", "")
    if seen == found.etag:
        return found, seen
    if session.output in (None, Output.TABLE) and session.can_ask:
        _demand_yes(session, found, verb=verb, since="It has changed since you saw it" if seen else "")
        return found, found.etag
    if not seen and describe.awaited_extension(found):
        raise InvalidArgument(
            f"more time for {found.name} was not shown here yet; look at it with `jit show {found.id}`, or give --etag",
            reason="NOT_SHOWN",
        )
    return found, seen or found.etag


def _demand_yes(session: Session, grant: Grant, *, verb: str, since: str) -> None:
    from jitaccess.cli import describe

    def show(screen: Screen) -> None:
        screen.fields(describe.fields(grant, screen))

    session.show(show)
    remember(session, [grant])
    if not typer.confirm(f"{since}. {verb} it as it is now?" if since else f"{verb} it?", err=True):
        raise typer.Abort


def _whose(session: Session) -> str:
    """Returns who looks at which service, as one word."""
    from jitaccess.login.claims import read_claims

    settings = session.settings()
    token = settings.token()
    claims = read_claims(token)
    who = [str(claims[key]) for key in ("iss", "sub") if key in claims] or [token.strip()]
    return hashlib.sha256(json.dumps([settings.address, *who]).encode()).hexdigest()[:32]


def _path() -> Path:
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    # The XDG base directory specification: a path that is not absolute is to be ignored.
    return (base if base.is_absolute() else Path("~/.local/state").expanduser()) / "jit" / "shown.json"


def _read() -> dict[str, str]:
    try:
        kept = json.loads(_path().read_text(encoding="ascii"))
    except (OSError, RuntimeError, ValueError, RecursionError):
        return {}
    if not isinstance(kept, dict):
        return {}
    return {key: etag for key, etag in kept.items() if isinstance(etag, str)}


def _write(kept: dict[str, str]) -> None:
    path = _path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Made with mode 0600, and there whole or not at all.
    descriptor, name = tempfile.mkstemp(prefix=".shown.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump(kept, file)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
