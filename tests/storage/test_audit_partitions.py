"""The audit log of PostgreSQL is partitioned by seq: parts are made before they are needed, and dropped as a whole."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from jit_service.domain.audit.event import Event, EventType
from jit_service.runtime.doctor import _partitions
from jit_service.runtime.retention import drop_partitions
from jit_service.storage import Store, audit_compaction, audit_partitions, payload_of
from jit_service.storage.audit_log import AuditLog
from jit_service.storage.audit_partitions import Partition
from jit_service.storage.migrate import migrate
from jit_service.storage.readers.audit import _LONGEST_SNAPSHOT
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.use_cases import audit, audit_pruning, signing_keys
from jit_service.use_cases.audit_pruning import Pruning
from jit_service.use_cases.keyring import KeyRing
from jit_service.use_cases.signing_keys import service_caller
from jitaccess.jose import archives
from tests.conftest import HOUR, TICK, Clock
from tests.storage.people import AUDITOR, add_policy
from tests.storage.test_migrations import downgrade, everything
from tests.use_cases.test_tokens import DAY, SECRET, issuing_with

PIECE, RECORDS = 4, 8


@pytest.fixture
def store(postgresql_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty store; a piece has four records, and a partition, the first one too, two pieces."""
    monkeypatch.setattr(audit_compaction, "PIECE", PIECE)
    monkeypatch.setattr(audit_partitions, "RECORDS", RECORDS)
    store = Store(postgresql_url, clock=clock)
    with store.engine.begin() as connection:
        for table, key in (("audit_piece", "seq"), ("audit_digests", "place")):
            for each in (f"{table}_0", f"{table}_{2**26}"):
                connection.execute(text(f"DROP TABLE {each}"))
            connection.execute(text(f"CREATE TABLE {table}_0 (LIKE {table} INCLUDING STORAGE, PRIMARY KEY ({key}))"))
            connection.execute(
                text(f"ALTER TABLE {table} ATTACH PARTITION {table}_0 FOR VALUES FROM (MINVALUE) TO ({RECORDS})")
            )
    yield store
    store.close()


def record(store: Store, count: int) -> None:
    """Records so many events, one a row, merges them, and makes room for more as the service does each minute."""
    for number in range(count):
        store.audit_partitions.make_ahead()
        event = Event(type=EventType.CALL_REFUSED, at=store.clock(), principal=f"user:{number % 3}")
        store.append([payload_of(event)], at=store.clock())
        while store.merge_audit():
            pass


def partitions(store: Store) -> list[tuple[int, int]]:
    with store.snapshot() as snapshot:
        return [(each.first, each.end) for each in snapshot.audit_layout.partitions]


def uses_rest(store: Store) -> bool:
    with store.snapshot() as snapshot:
        return snapshot.audit_layout.uses_rest


def stored(store: Store, table: str = "audit_piece") -> list[tuple[str, int]]:
    with store.engine.connect() as connection:
        found = connection.execute(text(f"SELECT tableoid::regclass::text, seq FROM {table} ORDER BY seq"))
        return [(name, seq) for name, seq in found]


def seqs(store: Store, filter_text: str = "", order_by: str = "seq") -> list[int]:
    page = audit.list_page(store, AUDITOR, filter_text=filter_text, order_by=order_by, page_size=1000, page_token="")
    return [event.seq for event in page.events]


def test_each_piece_is_in_the_partition_of_its_seq_and_the_log_is_one(store: Store) -> None:
    record(store, 24)

    assert stored(store) == [
        ("audit_piece_0", 4),
        ("audit_piece_8", 8),
        ("audit_piece_8", 12),
        ("audit_piece_16", 16),
        ("audit_piece_16", 20),
        ("audit_piece_24", 24),
    ]
    assert seqs(store) == list(range(1, 25))
    assert seqs(store, order_by="seq desc") == list(range(24, 0, -1))
    assert seqs(store, 'principal = "user:1"') == list(range(2, 25, 3))
    assert [recorded.seq for recorded in everything(store)] == list(range(1, 25))
    assert audit.verify(store).problem == ""


def test_a_partition_is_there_before_the_first_record_of_it(store: Store) -> None:
    for _ in range(24):
        record(store, 1)
        (_, end) = partitions(store)[-1]
        with store.snapshot() as snapshot:
            assert end >= snapshot.seq + RECORDS - 1

    assert not uses_rest(store)


def test_hosts_that_make_partitions_at_once_make_each_once(store: Store, postgresql_url: str) -> None:
    with closing(Store(postgresql_url, clock=store.clock)) as other, ThreadPoolExecutor(8) as pool:
        made = pool.map(lambda each: each.audit_partitions.make_ahead(room=5 * RECORDS), [store, other] * 8)

    assert sum(made) == 4
    assert partitions(store) == [(first, first + RECORDS) for first in range(0, 5 * RECORDS, RECORDS)]


def test_a_record_without_a_partition_is_kept_and_later_ones_have_their_own(store: Store) -> None:
    """As where no host could make one for days."""
    for number in range(12):
        store.append([payload_of(Event(type=EventType.CALL_REFUSED, at=store.clock(), principal=f"user:{number}"))],
                     at=store.clock())  # fmt: skip
        while store.merge_audit():
            pass

    record(store, 12)

    places = {seq: name for name, seq in stored(store)}
    assert places == {4: "audit_piece_0", 8: "audit_piece_rest", 12: "audit_piece_rest",
                      16: "audit_piece_16", 20: "audit_piece_16", 24: "audit_piece_24"}  # fmt: skip
    assert seqs(store) == list(range(1, 25))
    assert audit.verify(store).problem == ""


class Explained:
    """The driver's connection, which first asks for the plan of each statement and keeps the tables that it names."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self.tables: set[str] = set()

    def execute(self, sql: str, values: tuple[Any, ...], *, binary: bool) -> Any:
        plan = self._driver.execute(f"EXPLAIN {sql}", values).fetchall()
        self.tables |= set(
            re.findall(r" on (audit_(?:piece|digests)_(?:\d+|rest))\b", "\n".join(line for (line,) in plan))
        )
        return self._driver.execute(sql, values, binary=binary)


def test_a_statement_touches_only_the_partitions_that_have_what_it_asks_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jit_service.storage.audit_log.MAX_RECORDS", PIECE)
    monkeypatch.setattr("jit_service.storage.audit_log._TAIL", RECORDS)
    record(store, 40)
    with store.engine.connect() as connection:
        explained = Explained(connection.connection.dbapi_connection)
        log = AuditLog(explained, sqlite=False)

        def touched(run: Any) -> set[str]:
            explained.tables.clear()
            run()
            return set(explained.tables)

        assert touched(lambda: log.hash_at(20)) == {"audit_piece_16"}
        assert touched(lambda: log.pieces([20])) <= {"audit_piece_16", "audit_piece_24"}
        assert touched(lambda: log.digests(2, 17, 20)) == {"audit_digests_16"}
        assert touched(log.merged_until) <= {"audit_piece_32", "audit_piece_40"}
        ever = {"since": -(2**62), "until": 2**62}
        newest = touched(lambda: log.pieces_between(1, 40, **ever, backwards=True, limit=1))
        assert newest <= {"audit_piece_32", "audit_piece_40", "audit_piece_rest"}
        within = touched(lambda: log.pieces_between(9, 14, **ever, backwards=False, limit=9))
        assert within <= {"audit_piece_8", "audit_piece_16"}


@pytest.fixture
def pruning(store: Store, tmp_path: Path) -> Pruning:
    issuing = issuing_with(KeyRing(SealingKeys.of(SECRET)))
    signing_keys.maintain(store, issuing)
    archive = tmp_path / "archive"
    archive.mkdir()
    return Pruning(retention=DAY, archive=archive, issuing=issuing)


def prune(store: Store, pruning: Pruning) -> list[int]:
    """Prunes all that is due, and returns where the log began after each step."""
    found = iter(lambda: audit_pruning.prune_next(store, pruning, service_caller()), None)
    return [pruned.last_seq for pruned in found if pruned is not None]


def test_a_pruned_partition_is_dropped_as_a_whole_once_nobody_can_read_it_any_more(
    store: Store, pruning: Pruning, clock: Clock
) -> None:
    record(store, 23)
    clock.advance(DAY + HOUR + TICK)

    prune(store, pruning)

    with store.snapshot() as snapshot:
        assert snapshot.log_beginning.seq == 24
    left = [seq for _, seq in stored(store)]
    assert left == [4, 8, 12, 16, 20], "closed partitions stay; of the open one the pieces are deleted"
    assert min(seqs(store)) == 25
    assert audit.verify(store).problem == ""
    assert archives.verify(pruning.archive or Path(), wanted=[24]).count == 24
    clock.advance(_LONGEST_SNAPSHOT - TICK)
    drop_partitions(store)
    assert len(partitions(store)) == 4

    clock.advance(TICK)
    drop_partitions(store)

    assert partitions(store) == [(24, 32)]
    assert stored(store) == []
    assert audit.verify(store).problem == ""
    record(store, 20)
    assert audit.verify(store).problem == ""


def test_what_is_pruned_and_not_dropped_yet_cannot_be_read(store: Store, pruning: Pruning, clock: Clock) -> None:
    record(store, 23)
    with store.snapshot() as snapshot:
        assert next(snapshot.blocks(after=2, until=9)).last == 4
    clock.advance(DAY + HOUR + TICK)
    prune(store, pruning)

    with store.snapshot() as snapshot:
        assert snapshot.record_hash(3) is None
        assert not [*snapshot.blocks(after=2, until=9)]
        found = snapshot.audit_events(node=None, backwards=False, beyond=3, limit=5).events
        assert [event.type for event in (recorded.event for recorded in found)] == [EventType.AUDIT_PRUNED] * 2
        assert snapshot.merged_seq == 24
        assert snapshot.oldest_pieces(9) == []


def test_pieces_wait_for_their_partition_where_it_can_be_dropped_soon(
    store: Store, pruning: Pruning, clock: Clock
) -> None:
    """For an hour of a day's retention: no row is deleted that goes with its table an hour later."""
    record(store, 10)  # The records 2 to 11, after that of the key.
    clock.advance(HOUR * 1.5)
    record(store, 9)
    clock.advance(DAY - HOUR / 2 + TICK)

    assert prune(store, pruning) == [4], "all of the first partition is too old, and half of the second"
    assert [seq for _, seq in stored(store)] == [4, 8, 12, 16, 20]
    clock.advance(HOUR / 2 - TICK)
    assert prune(store, pruning) == []
    clock.advance(TICK)
    assert prune(store, pruning) == [12]
    assert [seq for _, seq in stored(store)] == [4, 8, 12, 16, 20], "they stay until they are dropped"


def test_a_partition_that_somebody_reads_is_dropped_later(store: Store, pruning: Pruning, clock: Clock) -> None:
    record(store, 23)
    clock.advance(DAY + HOUR + TICK)
    prune(store, pruning)
    clock.advance(_LONGEST_SNAPSHOT)

    with store.engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM audit_piece"))
        drop_partitions(store)
        assert len(partitions(store)) == 4
        assert "3 of the audit log are pruned and not dropped yet" in told(store)

    drop_partitions(store)
    assert partitions(store) == [(24, 32)]


def test_a_user_that_may_not_make_partitions_says_who_may_and_loses_nothing(
    store: Store, postgresql_url: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS jit_writer"))
        connection.execute(text("CREATE ROLE jit_writer LOGIN"))
        connection.execute(text("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO jit_writer"))
        owner = connection.execute(text("SELECT current_user")).scalar_one()
    as_writer = re.sub(r"//[^@/]*@", "//jit_writer@", postgresql_url)
    with closing(Store(as_writer, clock=clock)) as writer:
        record(writer, 12)

        assert uses_rest(writer)
        assert seqs(writer) == list(range(1, 13))
        assert len([message for message in caplog.messages if f"run `jit-service migrate` as {owner}" in message]) == 1
        assert f"run `jit-service migrate` as {owner}" in told(writer)
        assert "audit_piece_rest has records" in told(writer)
        assert store.audit_partitions.make_ahead(room=3 * RECORDS) == 3
        record(writer, 12)
        assert ("audit_piece_16", 20) in stored(writer)
        assert audit.verify(writer).problem == ""


def told(store: Store) -> str:
    return "\n".join(finding.message for finding in _partitions(store))


def test_the_doctor_says_how_much_room_there_is(store: Store) -> None:
    record(store, 3)

    assert told(store) == "2 of the audit log, with room for 13 records; the service makes more by itself"


def test_the_log_there_was_becomes_the_first_partition_and_keeps_its_rights(
    postgresql_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(audit_compaction, "PIECE", PIECE)
    with closing(Store(postgresql_url, clock=clock)) as store:
        add_policy(store)
    downgrade(postgresql_url, "0028")
    with closing(Store(postgresql_url, clock=clock)) as store:
        with store.engine.begin() as connection:
            connection.execute(text("DROP ROLE IF EXISTS jit_reader"))
            connection.execute(text("CREATE ROLE jit_reader"))
            connection.execute(text("GRANT SELECT ON audit_piece, audit_digests TO jit_reader"))
            tables = connection.execute(text("SELECT 'audit_piece'::regclass::oid")).scalar_one()
    caplog.set_level(logging.INFO, logger="jit_service.storage")

    migrate(postgresql_url)

    assert "AccessExclusiveLock of audit_digests, AccessExclusiveLock of audit_piece" in caplog.text
    with closing(Store(postgresql_url, clock=clock)) as store:
        record(store, 20)
        assert audit.verify(store).problem == ""
        assert {name for name, _ in stored(store)} == {"audit_piece_0"}
        with store.engine.begin() as connection:
            assert connection.execute(text("SELECT 'audit_piece_0'::regclass::oid")).scalar_one() == tables
            connection.execute(text("SET LOCAL ROLE jit_reader"))
            assert connection.execute(text("SELECT count(*) FROM audit_piece")).scalar_one() == 5
        before = everything(store)
    downgrade(postgresql_url, "0028")
    migrate(postgresql_url)
    with closing(Store(postgresql_url, clock=clock)) as store:
        assert everything(store) == before


def test_a_downgrade_puts_all_partitions_together_again(store: Store, postgresql_url: str) -> None:
    record(store, 24)
    before = everything(store)

    downgrade(postgresql_url, "0028")

    assert {name for name, _ in stored(store)} == {"audit_piece"}
    migrate(postgresql_url)
    assert everything(store) == before
    assert audit.verify(store).problem == ""


def test_sqlite_has_no_partitions(sqlite_url: str, clock: Clock) -> None:
    with closing(Store(sqlite_url, clock=clock)) as store:
        assert store.audit_partitions.make_ahead() == 0
        assert partitions(store) == []
        assert told(store) == ""
        drop_partitions(store)


def test_a_partition_is_found_by_the_seq_of_its_pieces() -> None:
    layout = audit_partitions.Layout((Partition("_0", 0, 8), Partition("_8", 8, 16)))

    assert [layout.of(seq) for seq in (7, 8, 15)] == [layout.partitions[0], *[layout.partitions[1]] * 2]
    assert layout.of(16) is None
    assert timedelta() < _LONGEST_SNAPSHOT
