"""Use cases of signals. Each is one transaction; the very next check sees the change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pydantic import TypeAdapter

from jit_service.domain.caller import Caller
from jit_service.domain.conditions import signal
from jit_service.domain.conditions.signal import Signal
from jit_service.domain.errors import SignalNotFound
from jit_service.domain.language import etag as etags
from jit_service.domain.language import paging
from jit_service.storage import Snapshot, Store
from jit_service.use_cases.idempotency import answered_before, remember

_SIGNALS = TypeAdapter(Signal)


class SignalAnswer(NamedTuple):
    """A signal, and the instant by which it is stale or not."""

    signal: Signal
    at: datetime


@dataclass(frozen=True, kw_only=True)
class SignalPage:
    """One page of a list, judged at `at`. An empty token: the last page."""

    signals: tuple[Signal, ...]
    next_page_token: str
    at: datetime


def put(store: Store, caller: Caller, wanted: Signal, *, etag: str) -> SignalAnswer:
    """Sets a signal, new or not. Raises InvalidField, StaleEtag, RequestIdReused."""
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, _SIGNALS)) is not None:
            return SignalAnswer(*earlier)
        current = tx.signal(wanted.name)
        etags.demand(etag, wanted.name, current.revision if current else 0)
        saved = tx.save_signal(*signal.put(wanted, replaces=current, by=caller, now=tx.now))
        return SignalAnswer(*remember(tx, caller, _SIGNALS, saved))


def get(store: Store, name: str) -> SignalAnswer:
    """Reads a signal. Raises SignalNotFound."""
    with store.snapshot() as snapshot:
        return SignalAnswer(_find(snapshot, name), snapshot.now)


def list_page(store: Store, caller: Caller, *, page_size: int, page_token: str) -> SignalPage:
    """Lists the signals by name, expired ones too. Raises InvalidField."""
    size = paging.page_size(page_size)
    this_query = paging.digest("signals", caller.principal)
    last = str(paging.decode(page_token, query=this_query, shape=(str,))[0]) if page_token else ""
    with store.snapshot() as snapshot:
        after = [found for found in snapshot.signals() if found.name > last]
        shown = tuple(after[:size])
        token = paging.encode((shown[-1].name,), query=this_query) if len(after) > size else ""
        return SignalPage(signals=shown, next_page_token=token, at=snapshot.now)


def delete(store: Store, caller: Caller, name: str, *, etag: str) -> SignalAnswer:
    """Deletes a signal; conditions then miss it. Raises SignalNotFound, StaleEtag, RequestIdReused."""
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, _SIGNALS)) is not None:
            return SignalAnswer(*earlier)
        found = _find(tx, name)
        etags.demand(etag, name, found.revision)
        tx.delete_signal(found, signal.deletion_event(found, by=caller, now=tx.now))
        return SignalAnswer(*remember(tx, caller, _SIGNALS, found))


def _find(snapshot: Snapshot, name: str) -> Signal:
    found = snapshot.signal(name)
    if found is None:
        raise SignalNotFound(f"there is no {name}", signal=name)
    return found
