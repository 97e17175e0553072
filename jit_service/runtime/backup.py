"""Backups: a copy of the database with a manifest that says, under the sealing key, how far the copy goes.

A restored database is not believed before it was verified: the copy against the manifest, the manifest against the
sealing key, then the chain, every seal and the signing keys. At last a record, STORE_RESTORED, begins another history:
no host, replica or watcher that saw the one of before continues from it (docs/adr/0067-back-up-and-restore.md).
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from hmac import compare_digest
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

from jit_service.configuration import durable_file
from jit_service.domain.audit.event import SERVICE, Event, EventType
from jit_service.domain.caller import Caller, Origin, Role
from jit_service.domain.errors import JitError, KeysUnavailable, TokensOff
from jit_service.runtime.sealing import any_sealing_keys_of, note_in_effect
from jit_service.runtime.service import ServiceError, issuing_of, migrate, open_store, sole_user_of
from jit_service.settings import Settings
from jit_service.storage import Store, copies
from jit_service.storage.copies import Place
from jit_service.storage.inspection import sqlite_file
from jit_service.storage.readers.reading import Clock
from jit_service.storage.sealing import Sealer
from jit_service.use_cases import bulk_revocation, checkpoints, resealing, signing_keys
from jit_service.use_cases.signing_keys import Issuing

MANIFEST: Final = "backup.json"
"""Written last: a directory without it is no complete backup."""
_KEY: Final = "token.key"
_FORMAT: Final = 1
_RESTORED_BY: Final = "jit-service restore"
_log = logging.getLogger(__name__)
Report = Callable[[str, int, int], None]
"""Called with what is done, and how much of how much is done."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a backup is. `time` is when it was begun, in UTC; `seal` is of all the rest, in hexadecimal.

    `checkpoint` is a signed checkpoint of the log, empty where the service issues no tokens. `sealing_key` is the id of
    the key that sealed the manifest, empty in one from before keys had ids.
    """

    version: str
    schema: str
    store: str
    time: str
    event_count: int
    head_hash: str
    file: str
    size: int
    sha256: str
    checkpoint: str = ""
    format: int = _FORMAT
    sealing_key: str = ""
    seal: str = ""

    def sealed(self, sealer: Sealer) -> Manifest:
        """Returns the manifest with its seal."""
        return replace(self, seal=sealer.of("backup", replace(self, seal="")).hex())


class Restored(NamedTuple):
    """A restored store: how far its log goes, and how many grants give access in it or were revoked."""

    manifest: Manifest
    live: int
    revoked: int
    set_aside: Path | None


def back_up(settings: Settings, directory: Path, *, clock: Clock, with_key: bool, report: Report) -> Manifest:
    """Writes a backup into the directory, which must be empty or not there. The service may run meanwhile.

    Raises ServiceError, StoreUnavailable.
    """
    _demand_key_of(settings)
    if with_key and settings.key_command:
        raise ServiceError("the key of JIT_KEY_COMMAND cannot be included; keep what gives it")
    _make_empty(directory)
    with closing(open_store(settings, clock=clock)) as store:
        begun_at, issuing = clock(), issuing_of(settings)
        # Before the copy, so that the copy has all that is signed.
        checkpoint = _checkpoint(store, issuing)
        place, file = _copied(settings, directory, report)
        with store.snapshot() as snapshot:
            sealer = store.keys.sealer(snapshot.sealing_key)
        manifest = Manifest(
            version=version("jit-service"),
            schema=place.schema,
            store=store.engine.dialect.name,
            time=begun_at.isoformat(),
            event_count=place.event_count,
            head_hash=place.head_hash.hex(),
            file=file.name,
            size=file.stat().st_size,
            sha256=_digest(file, report),
            checkpoint=checkpoint,
            sealing_key=sealer.key_id,
        ).sealed(sealer)
    if with_key:
        durable_file.write_new(directory / _KEY, settings.key_path.read_bytes())
    durable_file.write(directory / MANIFEST, json.dumps(asdict(manifest), indent=1).encode() + b"\n")
    return manifest


def restore(
    settings: Settings, directory: Path, *, clock: Clock, replacing: bool, revoke_all: bool, report: Report
) -> Restored:
    """Restores a backup, once all of it is verified. Raises ServiceError, StoreUnavailable.

    With `replacing`, SQLite's database is moved out of the way first; it must be in nobody's use. PostgreSQL's must be
    empty. With `revoke_all`, no grant of the backup gives access any more.
    """
    manifest, file = _read(directory, report)
    _demand_key(settings, directory)
    with sole_user_of(settings.data_dir):
        path = sqlite_file(settings.store_url)
        if (path is None) != (manifest.store == "postgresql"):
            raise ServiceError(f"the backup is of {manifest.store}; JIT_DATABASE_URL names another kind of database")
        if path is None:
            _demand_sealed(settings, manifest)
            report("restoring", 0, 1)
            copies.restore_postgresql(settings.store_url, file)
            live, revoked, key = _verified(settings, manifest, clock, revoke_all, report)
            note_in_effect(settings, key)
            return Restored(manifest, live, revoked, None)
        return _restore_sqlite(settings, path, manifest, file, clock, replacing, revoke_all, report)


def _restore_sqlite(
    settings: Settings,
    path: Path,
    manifest: Manifest,
    file: Path,
    clock: Clock,
    replacing: bool,
    revoke_all: bool,
    report: Report,
) -> Restored:
    there = [path] if path.exists() else copies.left_beside(path)
    if there and not replacing:
        raise ServiceError(f"{there[0]} is there; stop the service, and give --replace to have it moved out of the way")
    _demand_sealed(settings, manifest)
    # Verified beside its place: a database that failed must never be one that can be started.
    made = path.with_name(f"{path.name}.restoring")
    with _nothing_half_restored(made):
        shutil.copyfile(file, made)
        made.chmod(0o600)
        copies.demand_sound_sqlite(made)
        elsewhere = settings.model_copy(update={"database_url": f"sqlite:///{made.absolute()}"})
        live, revoked, key = _verified(elsewhere, manifest, clock, revoke_all, report)
        aside = path.with_name(f"{path.name}.before-{clock():%Y%m%dT%H%M%S}") if there else None
        if aside is not None:
            copies.set_aside(path, name=aside)
        copies.put_in_place(made, path)
        note_in_effect(settings, key)
    return Restored(manifest, live, revoked, aside)


def _verified(
    settings: Settings, manifest: Manifest, clock: Clock, revoke_all: bool, report: Report
) -> tuple[int, int, str]:
    """Verifies the store, begins another history, and seals it with the newest key.

    Returns how many grants give access, how many were revoked, and the id of the key.
    """
    # A backup may be of a time when another key was in effect; nobody uses what is restored before it is verified.
    migrate(settings, keys=any_sealing_keys_of(settings))
    with closing(open_store(settings, clock=clock, keys=any_sealing_keys_of(settings))) as store:
        _demand_whole(store, settings, manifest, report)
        by = Caller(principal=SERVICE, roles=frozenset({Role.ADMIN}), origin=Origin(method=_RESTORED_BY))
        message = f"restored from the backup of {manifest.time}, at record {manifest.event_count}"
        with store.transaction() as tx:
            tx.record(Event(type=EventType.STORE_RESTORED, at=tx.now, principal=SERVICE, origin=by.origin,
                            message=message))  # fmt: skip
        sealed = resealing.reseal(store, by=by, report=report)
        revoked = 0
        if revoke_all:
            revoked = bulk_revocation.end_all(store, by, comment=message, report=lambda *at: report("revoking", *at))
        with store.snapshot() as snapshot:
            return snapshot.count_granted(), revoked, sealed.now


def _demand_whole(store: Store, settings: Settings, manifest: Manifest, report: Report) -> None:
    """Raises ServiceError unless the log is whole and ends as the manifest says, and every seal and key is right."""
    head = store.head()
    if (head.seq, head.hash.hex()) != (manifest.event_count, manifest.head_hash):
        raise ServiceError(f"the log ends at record {head.seq}, the manifest says {manifest.event_count}, or another")
    issuing = issuing_of(settings)
    # Who has no issuer any more cannot read the checkpoint; what it says is in the sealed manifest as well.
    text = manifest.checkpoint if issuing is not None else ""
    for step in checkpoints.stream_verification(store, issuing, text, only_new=False, gone=lambda: False):
        report("verifying", step.at.checked_count, step.at.event_count)
        found = step.result.verified if step.result is not None else None
    if found is None or found.first_bad_seq or found.differing:
        said = f"{found.problem} {found.differing} {found.difference}".strip() if found is not None else "no result"
        raise ServiceError(f"the backup is not what the service left: {said}")
    if issuing is not None:
        # Raises KeysUnavailable for a key that this key file does not open.
        signing_keys.key_set(store, issuing)


def _checkpoint(store: Store, issuing: Issuing | None) -> str:
    """Returns a signed checkpoint of the log; nothing where there is no key to sign it with."""
    try:
        return checkpoints.make(store, issuing).text
    except (TokensOff, KeysUnavailable) as fault:
        _log.warning("the backup has no signed checkpoint: %s", fault)
        return ""


def _copied(settings: Settings, directory: Path, report: Report) -> tuple[Place, Path]:
    path = sqlite_file(settings.store_url)
    if path is None:
        file = directory / "jit.dump"
        report("dumping", 0, 1)
        return copies.dump_postgresql(settings.store_url, file), file
    file = directory / "jit.db"
    return copies.copy_sqlite(path, file, lambda done, of: report("copying", done, of)), file


def _read(directory: Path, report: Report) -> tuple[Manifest, Path]:
    """Returns the manifest and the copy, which is what the manifest says. Raises ServiceError."""
    path = directory / MANIFEST
    try:
        told: dict[str, Any] = json.loads(path.read_bytes())
        if told["format"] != _FORMAT:
            raise ServiceError(f"{path} has the format {told['format']}; this version reads {_FORMAT}")
        manifest = Manifest(**told)
        datetime.fromisoformat(manifest.time)
    except FileNotFoundError:
        raise ServiceError(f"{path} is not there: {directory} is no complete backup") from None
    except (OSError, ValueError, TypeError, KeyError) as fault:
        raise ServiceError(f"{path} is no manifest of a backup: {fault}") from fault
    file = directory / Path(str(manifest.file)).name
    if not file.is_file():
        raise ServiceError(f"{file} is not there: the backup is not complete")
    if file.stat().st_size != manifest.size or _digest(file, report) != manifest.sha256:
        raise ServiceError(f"{file} is not what was backed up: its size or its SHA-256 is not that of {path}")
    return manifest, file


def _demand_sealed(settings: Settings, manifest: Manifest) -> None:
    keys = any_sealing_keys_of(settings)
    if not any(compare_digest(manifest.sealed(sealer).seal, str(manifest.seal)) for sealer in keys.sealers()):
        source = "the key of JIT_KEY_COMMAND" if settings.key_command else settings.key_path
        why = "it is another key, or somebody changed the manifest"
        if manifest.sealing_key not in ("", *keys.ids):
            why = (
                f"key {manifest.sealing_key} did, and this host has only {', '.join(keys.ids)}; put that key into a "
                "line after the others for the restore"
            )
        raise ServiceError(f"{source} did not seal this backup: {why}")


def _demand_key(settings: Settings, directory: Path) -> None:
    path, kept = settings.key_path, directory / _KEY
    if not settings.key_command and not path.exists() and kept.exists():
        durable_file.write_new(path, kept.read_bytes())
    _demand_key_of(settings)


def _demand_key_of(settings: Settings) -> None:
    """Raises ServiceError where there is no key yet: what opens the store would make one, which sealed nothing."""
    path = settings.key_path
    if not settings.key_command and not path.exists():
        raise ServiceError(f"the key file {path} is not there: put the one that seals the database there first")


def _make_empty(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise ServiceError(f"{directory} is not empty; name a new directory for each backup")
    except OSError as fault:
        raise ServiceError(f"{directory}: {fault.strerror}") from fault


def _digest(path: Path, report: Report) -> str:
    size, done = path.stat().st_size, 0
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**22):
            found.update(piece)
            done += len(piece)
            report("hashing", done, size)
    return found.hexdigest()


@contextmanager
def _nothing_half_restored(made: Path) -> Iterator[None]:
    """Removes the file and SQLite's files beside it, if the block has not put it in its place."""
    try:
        yield
    except JitError as fault:
        raise ServiceError(f"nothing was restored: {fault}") from fault
    finally:
        for path in (made, *copies.left_beside(made)):
            path.unlink(missing_ok=True)
