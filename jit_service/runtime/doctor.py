"""`jit-service doctor`: all that `check` tries, and then how the service's store, keys, clock and disk are.

It writes nothing, and may run beside the service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from shutil import disk_usage
from typing import Final

from jit_service.check import AuditMode
from jit_service.configuration.forms import shown_span
from jit_service.domain.audit.checkpoint import Checkpoint
from jit_service.domain.errors import JitError
from jit_service.domain.tokens import signing_key as key_rules
from jit_service.runtime import preflight
from jit_service.runtime.preflight import Finding, Level, Report
from jit_service.runtime.sealing import known_sealing_keys_of
from jit_service.runtime.service import ServiceError, fault_of_clock, issuing_of, open_store
from jit_service.settings import Settings
from jit_service.storage import Store
from jit_service.storage.audit_partitions import RECORDS
from jit_service.storage.readers.figures import Backlog, Figures
from jit_service.storage.readers.reading import Clock
from jit_service.use_cases import audit, signing_keys
from jit_service.use_cases.long_work import result_of

_TAIL: Final = 10_000
"""So many of the last records are recomputed; `jit audit verify` recomputes all."""
_CLOCK: Final = timedelta(seconds=5)
"""So far clocks may be apart: tokens allow 30 s, and grants end by the service's clock."""
_WAITS: Final = timedelta(minutes=10)
_UNMERGED: Final = 1_000_000
_LEAST_FREE: Final = 0.1
_NO_ROOM: Final = 256 * 2**20
_LATE: Final = timedelta(days=1)
_LONG_TOKENS: Final = timedelta(days=1)
_STORE: Final = ("database", "key file", "data directory")
_ok: Final = partial(Finding, Level.OK)
_warning: Final = partial(Finding, Level.WARNING)
_fault: Final = partial(Finding, Level.FAULT)


def report(load: Callable[[], Settings], *, clock: Clock, strict: bool = False) -> Report:
    """Examines everything. `load` may raise SettingsError."""
    return preflight.examined(load, partial(_findings, clock=clock), strict=strict)


def _findings(settings: Settings, clock: Clock) -> Iterator[Finding]:
    tried = list(preflight.findings(settings, clock=clock))
    yield from tried
    yield from _dangerous(settings)
    yield from _room(settings)
    # What opens the store would make a key file where there is none.
    if not any(each.level is Level.FAULT and each.about in _STORE for each in tried):
        yield from _store(settings, clock)


def _store(settings: Settings, clock: Clock) -> Iterator[Finding]:
    try:
        with closing(open_store(settings, clock=clock, keys=known_sealing_keys_of(settings))) as store:
            for examine in (
                _chain,
                _index,
                partial(_figures, settings=settings),
                _partitions,
                partial(_clock, settings=settings),
                _sealing_key,
                partial(_keys, settings=settings),
            ):
                yield from examine(store)
    except (JitError, ServiceError) as fault:
        yield _fault("database", " ".join(str(fault).split()))


def _chain(store: Store) -> Iterator[Finding]:
    with store.snapshot() as snapshot:
        since = max(snapshot.seq - _TAIL, snapshot.log_beginning.seq)
        hash_ = snapshot.record_hash(since)
    if hash_ is None:
        yield _fault("audit log", f"record {since} is not there, so the log is not whole; see `jit audit verify`")
        return
    found = result_of(audit.verification_of_new(store, since=Checkpoint(event_count=since, head_hash=hash_)))
    if found.first_bad_seq or found.differing:
        yield _fault("audit log", f"{found.problem} {found.differing} {found.difference}".strip())
    else:
        yield _ok("audit log", f"the last {found.event_count - since} of {found.event_count} records are whole")


def _index(store: Store) -> Iterator[Finding]:
    """Loads what Check keeps in memory, which holds every row that it rests on against its seal and their sum."""
    loader = store.grant_loader()
    try:
        with loader.load(lambda _, __: None) as everything:
            count = sum(len(chunk) for chunk in everything.grants)
    finally:
        loader.close()
    yield _ok("grants", f"{count} pending or live grants are as the service left them")


def _figures(store: Store, *, settings: Settings) -> Iterator[Finding]:
    with store.snapshot() as snapshot:
        figures = snapshot.figures()
    yield from _delivery(figures, settings)
    if figures.unmerged_records > _UNMERGED:
        yield _warning("audit log", f"{figures.unmerged_records} records wait to be merged: does the service run?")
    late = figures.unrecorded_end_at
    if late is not None and figures.now - late > _WAITS:
        yield _warning("sweeper", f"an end of {late:%Y-%m-%d %H:%M} UTC is not on record yet: does the service run?")


def _partitions(store: Store) -> Iterator[Finding]:
    with store.snapshot() as snapshot:
        found, seq, gone = snapshot.audit_layout, snapshot.seq, snapshot.pruned_partitions()
    if not found.partitions:
        return
    about, room = "partitions", max(0, found.end - seq)
    if found.uses_rest:
        yield _warning(about, "audit_piece_rest has records of the audit log: it shrinks by DELETE and VACUUM alone")
    if gone:
        yield _warning(
            about, f"{len(gone)} of the audit log are pruned and not dropped yet: is a table in use for long?"
        )
    if found.may_change:
        told = "the service makes more by itself"
    else:
        told = f"the service's user may not make more: run `jit-service migrate` as {found.owner}"
    level = _ok if found.may_change or room >= RECORDS else _warning
    yield level(about, f"{len(found.partitions)} of the audit log, with room for {room} records; {told}")


def _clock(store: Store, *, settings: Settings) -> Iterator[Finding]:
    about, ours, (theirs, newest) = "clock", store.clock(), store.clocks()
    if newest is not None and newest - ours > _CLOCK:
        yield _fault(about, f"is {newest - ours} behind the newest record of the store; does NTP run on every host?")
    elif fault := fault_of_clock(ours, theirs, newest, settings.longest_idle):
        yield _fault(about, fault)
    elif theirs is not None and abs(ours - theirs) > _CLOCK:
        yield _warning(about, f"is {abs(ours - theirs)} off the database server's; does NTP run on every host?")
    else:
        yield _ok(about, "agrees with " + ("the store" if theirs is None else "the database server's"))


def _delivery(figures: Figures, settings: Settings) -> Iterator[Finding]:
    stuck = [each for each in figures.outbox if _is_stuck(each, figures.now)]
    known = {receiver.name for receiver in settings.notifications}
    for each in stuck:
        if each.receiver not in known:
            after = shown_span(settings.notification_retention)
            yield _warning(
                f"receiver {each.receiver}",
                f"is not in the settings, and {each.waiting + each.given_up} of its notifications are not delivered; "
                f"they are forgotten once they are {after} old, and keep their audit records until then",
            )
            continue
        yield _warning(
            f"receiver {each.receiver}",
            f"{each.waiting} notifications wait, {each.given_up} are given up; see `jit-service notifications list`",
        )
    if not stuck:
        yield _ok("notifications", f"{sum(each.waiting for each in figures.outbox)} wait for their delivery")


def _is_stuck(backlog: Backlog, now: datetime) -> bool:
    return backlog.given_up > 0 or (backlog.oldest_at is not None and now - backlog.oldest_at > _WAITS)


def _sealing_key(store: Store) -> Iterator[Finding]:
    """Tells since when the key is in effect; `preflight` tells which one that is, and what is to do."""
    by, asked = signing_keys.service_caller(), 'event_type = "STORE_RESEALED"'
    page = partial(audit.list_page, store, by, filter_text=asked, order_by="seq desc", page_size=1)
    found = page(page_token="")
    while not found.events and found.next_page_token:
        found = page(page_token=found.next_page_token)
    about = "sealing key"
    if not found.events:
        yield _ok(about, "none has replaced another in this log")
        return
    (resealed,) = found.events
    days = (store.clock() - resealed.event.at).days
    yield _ok(about, f"{resealed.event.sealing_key} is in effect for {days} days, since record {resealed.seq}")


def _keys(store: Store, *, settings: Settings) -> Iterator[Finding]:
    issuing = issuing_of(settings)
    if issuing is None:
        return
    about = "signing keys"
    with store.snapshot() as snapshot:
        keys, now = snapshot.signing_keys(), snapshot.now
    current = key_rules.signing(keys, now)
    if current is None:
        yield _warning(about, "there is none yet; the service makes one at its start")
        return
    age = now - current.signs_at
    if age > issuing.rotation.every + _LATE:
        yield _warning(
            about, f"{current.kid} signs for {age.days} days; it should have been replaced: see the service's log"
        )
    else:
        yield _ok(about, f"{current.kid} signs for {age.days} days, of {len(keys)} keys")


def _room(settings: Settings) -> Iterator[Finding]:
    database = preflight.database_file(settings)
    for directory in sorted({settings.data_dir.absolute(), *([database.parent] if database is not None else [])}):
        if directory.exists():
            yield _room_in(directory)


def _room_in(directory: Path) -> Finding:
    usage = disk_usage(directory)
    told = f"{directory} has {usage.free / 2**30:.1f} GiB of {usage.total / 2**30:.1f} GiB free"
    if usage.free < _NO_ROOM:
        return _fault("disk", f"{told}: soon nothing can be written, and every check is refused")
    return (_warning if usage.free < _LEAST_FREE * usage.total else _ok)("disk", told)


def _dangerous(settings: Settings) -> Iterator[Finding]:
    """Yields the settings that are allowed and that take away what the service promises."""
    risks: Sequence[tuple[bool, str, str]] = (
        (settings.insecure_listen or settings.allow_plaintext, "JIT_INSECURE_LISTEN",
         "tokens may cross the network in clear"),
        (settings.trust_any_proxy, "JIT_TRUST_ANY_PROXY", "anybody who reaches the port writes the caller's address"),
        (settings.audit_checks is AuditMode.OFF, "JIT_AUDIT_CHECKS", "no check is on record"),
        (settings.audit_checks is AuditMode.DENIED, "JIT_AUDIT_CHECKS", "only refused checks are on record"),
        (settings.audit_checks is AuditMode.BUFFERED, "JIT_AUDIT_CHECKS",
         "a crash loses the records of the last answers"),
        (settings.max_token_lifetime > _LONG_TOKENS, "JIT_MAX_TOKEN_LIFETIME",
         f"tokens may live for {settings.max_token_lifetime}: a stolen one works as long, unless it is locked"),
        (settings.reflection and not settings.grpc.is_loopback, "JIT_REFLECTION",
         "whoever reaches the port may read the whole contract"),
        (settings.audit_retention is not None and settings.audit_archive is None, "JIT_AUDIT_RETENTION",
         "old records are removed and kept nowhere: JIT_AUDIT_ARCHIVE is not set"),
    )  # fmt: skip
    found = [_warning("settings", f"{name}: {means}") for is_set, name, means in risks if is_set]
    yield from found or [_ok("settings", "none of them is dangerous")]
