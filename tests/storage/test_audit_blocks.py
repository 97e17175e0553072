"""The audit log in rows, blocks and pieces: however records are stored, they are the same records, and found alike."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from jit_service.domain.audit.audit_filter import AUDIT_FIELDS
from jit_service.domain.audit.chain import GENESIS, link
from jit_service.domain.audit.checkpoint import Checkpoint
from jit_service.domain.audit.event import Event, EventType, RecordedEvent
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.checks.decision import Decision, Question, Reason
from jit_service.domain.checks.decision_id import decided_at, decision_ids
from jit_service.domain.language.filter import And, Comparison, Kind, Node, Not, Or
from jit_service.storage import (
    CheckRecords,
    Outline,
    Store,
    audit_block,
    audit_compaction,
    audit_search,
    audit_summary,
    parts_of_check,
    payload_of,
)
from jit_service.storage.audit_append import Appended
from jit_service.storage.audit_block import Block, Mark, join_marks, pack, read_marks, unpack
from jit_service.storage.audit_compaction import OwnBlocks
from jit_service.storage.audit_log import FIELD, AuditLog
from jit_service.storage.audit_summary import DIGEST_BYTES, FIELDS
from jit_service.storage.grant_loader import AnotherHistory
from jit_service.use_cases import audit
from jit_service.use_cases.audit import LogVerification, Verifying
from tests.conftest import NOON, TICK, Clock
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.examples import examples
from tests.storage.people import ADMIN, add_policy, approve, ask
from tests.storage.test_races import at_once

SMALL = 5
WORDS = ("", "a", "b", "grants/a", "grants/ab", "é", 'q"\\', "Z")
words = st.sampled_from(WORDS)
several = st.lists(words, max_size=2).map(tuple)
ids = st.one_of(words, st.sampled_from([NOON, NOON + timedelta(seconds=1)]).map(lambda at: decision_ids(1, at=at)[0]))
instants = st.sampled_from([NOON, NOON + TICK, NOON + timedelta(seconds=1)])
events = st.builds(
    Event,
    type=st.sampled_from([EventType.CALL_REFUSED, EventType.ACCESS_CHECKED]),
    at=instants,
    principal=words,
    origin=st.builds(
        Origin, method=words, source_address=words, trace_id=words, request_id=words, user_agent=st.just("")
    ),
    subject=words,
    resources=several,
    actions=several,
    decision=words,
    reason=words,
    grant=words,
    policy=words,
    subject_source_ip=words,
)
_SIGNS = {Kind.LIST: [":"], Kind.ENUM: ["=", "!="], Kind.NAME: ["=", "!="]}
# The others are no values of which a piece has digests, and have tests of their own.
_JUDGED = sorted(set(AUDIT_FIELDS) - {"covers", "covers_action", "decision_id", "acr", "amr"})
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def comparisons(field: str) -> st.SearchStrategy[Node]:
    kind = AUDIT_FIELDS[field].kind
    values: dict[Kind, st.SearchStrategy[Any]] = {
        Kind.INTEGER: st.integers(-1, 12),
        Kind.INSTANT: st.sampled_from([NOON - TICK, NOON, NOON + TICK, NOON + timedelta(seconds=1)]),
        Kind.ENUM: st.sampled_from(["CALL_REFUSED", "ACCESS_CHECKED", "GRANT_REQUESTED"]),
        Kind.NAME: st.sampled_from([*WORDS, "grants/*", "*", "g*a"]),
    }
    signs = st.sampled_from(_SIGNS.get(kind, ["=", "!=", "<", "<=", ">", ">="]))
    return st.builds(Comparison, st.just(field), st.just(""), signs, values.get(kind, words))


nodes: st.SearchStrategy[Node] = st.recursive(
    st.sampled_from(_JUDGED).flatmap(comparisons),
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.lists(inner, min_size=2, max_size=3).map(lambda found: And(tuple(found))),
        st.lists(inner, min_size=2, max_size=3).map(lambda found: Or(tuple(found))),
    ),
    max_leaves=5,
)


def means(node: Node, seq: int, event: Event) -> bool:
    """Whether the filter means the record, as docs/reference.md says: a second reading of it, for the test."""
    if isinstance(node, And):
        return all(means(operand, seq, event) for operand in node.operands)
    if isinstance(node, Or):
        return any(means(operand, seq, event) for operand in node.operands)
    if isinstance(node, Not):
        return not means(node.operand, seq, event)
    fields = {"seq": seq, "event_type": event.type, "event_time": event.at}
    origin = event.origin
    fields |= {name: getattr(origin, name) for name in ("method", "source_address", "trace_id", "request_id")}
    value: Any = fields[node.field] if node.field in fields else getattr(event, node.field)
    if node.operator == ":":
        return node.value in value
    if node.field == "grant" and node.operator == "=" and str(node.value).endswith("*"):
        return str(value).startswith(str(node.value)[:-1])
    return _COMPARE[node.operator](value, node.value)


class Log:
    """An audit log whose records the test stores in a form of its choice."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.events: list[Event] = []

    def put(self, events: list[Event], *, together: bool) -> None:
        self.events += events
        payloads = [payload_of(event) for event in events]
        for group in [payloads] if together else [[payload] for payload in payloads]:
            self.store.append(group, at=NOON)

    def merge(self) -> int:
        return sum(iter(self.store.merge_audit, 0))

    def search(self, node: Node | None, *, backwards: bool, limit: int) -> list[RecordedEvent]:
        """Returns what the pages of a search have, one after the other."""
        found: list[RecordedEvent] = []
        beyond: int | None = None
        while True:
            with self.store.snapshot() as snapshot:
                page = snapshot.audit_events(node=node, backwards=backwards, beyond=beyond, limit=limit)
            assert len(page.events) <= limit
            found += page.events
            beyond = page.resume
            if beyond is None:
                return found


@pytest.fixture
def log(store: Store, monkeypatch: pytest.MonkeyPatch) -> Log:
    """A log whose pieces have few records."""
    monkeypatch.setattr(audit_compaction, "PIECE", SMALL)
    return Log(store)


def refused(number: int, **more: Any) -> Event:
    return Event(type=EventType.CALL_REFUSED, at=NOON + number * TICK, principal=f"user:p{number}", **more)


def numbered(count: int) -> list[Event]:
    return [refused(number) for number in range(count)]


@pytest.fixture
def merged_log(log: Log) -> Log:
    """Twelve records: two pieces of a row and a block each, and two rows."""
    log.put(numbered(1), together=False)
    log.put(numbered(4), together=True)
    log.put(numbered(2), together=False)
    log.put(numbered(3), together=True)
    log.put(numbered(2), together=False)
    assert log.merge() == 10
    return log


def chained(events: list[Event]) -> list[bytes]:
    """Returns the hashes that ADR 3 defines, computed anew."""
    hashes, previous = [], GENESIS
    for seq, event in enumerate(events, start=1):
        previous = link(previous, seq, payload_of(event))
        hashes.append(previous)
    return hashes


def test_a_search_finds_the_same_records_however_they_are_stored(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = st.lists(st.tuples(st.lists(events, min_size=1, max_size=4), st.booleans(), st.booleans()), max_size=5)

    @settings(
        max_examples=examples(80),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        # The log goes on growing, so no example can be run again as it was.
        phases=(Phase.generate,),
    )
    @given(
        groups=groups,
        asked=nodes,
        limit=st.sampled_from([1, 2, 1000]),
        budget=st.sampled_from([0, 10**6]),
        at_once=st.sampled_from([1, 32]),
    )
    def holds(groups: list[tuple[list[Event], bool, bool]], asked: Node, limit: int, budget: int, at_once: int) -> None:
        monkeypatch.setattr(audit_search, "_BUDGET", budget)
        monkeypatch.setattr(audit_search, "_FEWEST_PIECES", at_once)
        first = len(log.events) - 4
        node = And((Comparison("seq", "", ">=", first), asked))
        for some, together, merge in groups:
            log.put(some, together=together)
            if merge:
                log.merge()
        wanted = [seq for seq, event in enumerate(log.events, start=1) if means(node, seq, event)]
        assert [found.seq for found in log.search(node, backwards=False, limit=limit)] == wanted
        newest = log.search(node, backwards=True, limit=limit)
        assert [found.seq for found in newest] == wanted[::-1]
        hashes = chained(log.events)
        assert all((found.event, found.hash) == (log.events[found.seq - 1], hashes[found.seq - 1]) for found in newest)

    holds()
    assert audit.verify(log.store).problem == ""


@pytest.mark.parametrize(
    ("asked", "seqs"),
    [
        (Comparison("acr", "", "=", "phr"), [1, 3]),
        (Comparison("amr", "", ":", "mfa"), [1, 4]),
        (Not(Comparison("amr", "", ":", "mfa")), [2, 3, 5]),
        (And((Comparison("amr", "", ":", "mfa"), Comparison("acr", "", "!=", "phr"))), [4]),
    ],
)
@pytest.mark.parametrize("merged", [False, True])
def test_decisions_are_found_by_how_whoever_made_them_had_logged_in(
    log: Log, asked: Node, seqs: list[int], merged: bool
) -> None:
    log_ins: list[dict[str, Any]] = [{"acr": "phr", "amr": ("hwk", "mfa")}, {}, {"acr": "phr"}, {"amr": ("mfa",)}, {}]
    log.put([refused(number, **shown) for number, shown in enumerate(log_ins)], together=not merged)
    assert not merged or log.merge() == len(log_ins)

    assert [found.seq for found in log.search(asked, backwards=False, limit=9)] == seqs


@pytest.mark.parametrize("operand", [("seq", 2, 9), ("event_time", NOON + 1 * TICK, NOON + 2 * TICK)])
def test_what_one_alternative_excludes_another_may_mean(
    log: Log, operand: tuple[str, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    log.put(numbered(12), together=False)
    log.merge()
    field, one, other = operand
    node = Or((Comparison(field, "", "=", one), Comparison(field, "", "=", other)))

    assert len(log.search(node, backwards=True, limit=50)) == 2


@pytest.mark.parametrize("number", [0, 7, 12, 19])
def test_a_record_of_any_piece_is_found_where_each_page_looks_into_one(
    log: Log, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_search, "_BUDGET", 0)
    monkeypatch.setattr(audit_search, "_FEWEST_PIECES", 1)
    log.put(numbered(20), together=False)
    assert log.merge() == 20
    asked = Comparison("principal", "", "=", f"user:p{number}")

    for backwards in (False, True):
        assert [found.seq for found in log.search(asked, backwards=backwards, limit=9)] == [number + 1]


def test_a_record_has_the_same_hash_in_a_row_a_block_and_a_piece(log: Log) -> None:
    log.put(numbered(9), together=True)
    wanted = chained(log.events)

    for _ in range(2):
        with log.store.snapshot() as snapshot:
            read = snapshot.audit_records(after=0, until=9, enough=99)
            assert [recorded.hash for recorded in read] == wanted
            assert [snapshot.record_hash(seq) for seq in range(1, 10)] == wanted
            assert snapshot.record_hash(10) is None
        log.merge()


def test_a_record_of_before_a_field_was_added_is_read_and_verified_as_it_was_written(log: Log) -> None:
    payload = b'{"type":"GRANT_APPROVED","at":"2026-03-02T12:00:00Z","principal":"user:bob","grant":"grants/g1"}'

    log.store.append([payload], at=NOON)

    (found,) = log.search(Comparison("acr", "", "=", ""), backwards=True, limit=9)
    assert (found.hash, payload_of(found.event)) == (link(GENESIS, 1, payload), payload)
    assert audit.verify(log.store).problem == ""


def test_merging_again_changes_nothing(merged_log: Log) -> None:
    before = audit.verify(merged_log.store)

    assert merged_log.merge() == 0
    assert audit.verify(merged_log.store) == before


def test_of_several_who_merge_at_once_each_piece_is_made_by_one(log: Log) -> None:
    log.put(numbered(40), together=False)

    made = at_once(*[log.merge] * 4)

    assert sum(made) <= 40
    log.merge()
    assert [found.seq for found in log.search(None, backwards=False, limit=1000)] == list(range(1, 41))
    assert audit.verify(log.store).problem == ""


def test_rows_that_another_process_merged_meanwhile_are_left_to_it(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.put(numbered(7), together=False)
    merged = audit_compaction.merged

    def overtaken(*given: Any, **more: Any) -> Any:
        monkeypatch.undo()
        monkeypatch.setattr(audit_compaction, "PIECE", SMALL)
        assert log.store.merge_audit() == 5
        return merged(*given, **more)

    monkeypatch.setattr(audit_compaction, "merged", overtaken)

    assert log.store.merge_audit() == 0
    assert audit.verify(log.store).problem == ""


def test_what_this_process_wrote_is_merged_without_being_read_and_into_the_same_piece(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same checks twice: merged by their writer, and by a process that has to read them."""
    by, asked, decision = (
        Caller(principal="service:s"),
        Question("user:u", "read", "a/b"),
        Decision(Reason.NO_GRANT, "no", None, ()),
    )
    records, parts = CheckRecords(at=NOON, revision=1), parts_of_check(asked, decision)
    for _ in range(2):
        payloads = [records.payload(by, asked, parts, "d") for _ in range(SMALL)]
        outline = Outline(NOON, NOON, [records.digests(by, asked, parts)] * SMALL)
        log.store.append(payloads, at=NOON, outline=outline)
    with monkeypatch.context() as unread:
        unread.setattr(audit_summary, "_read", lambda _: pytest.fail("a record was read"))
        assert log.store.merge_audit() == SMALL
    monkeypatch.setattr(log.store, "_own_blocks", OwnBlocks())
    assert log.store.merge_audit() == SMALL

    with log.store.engine.connect() as connection:
        audit_log = AuditLog.of(connection)
        mine, others = ([audit_log.digests(field, 1, 99)[seq] for field in FIELDS.values()] for seq in (5, 10))
    assert mine == others
    assert audit.verify(log.store).problem == ""


def test_a_row_that_somebody_changed_is_not_merged_for_what_its_writer_knows_of_it(log: Log) -> None:
    payloads = [payload_of(event) for event in numbered(SMALL)]
    log.store.append(payloads, at=NOON, outline=Outline(NOON, NOON, [bytes(DIGEST_BYTES * len(FIELDS))] * SMALL))
    with log.store._writing.begin() as connection:
        connection.execute(text("UPDATE audit_event SET payload = :other"), {"other": b"nothing"})

    with pytest.raises(ValueError, match="record 1 is not as it was recorded; verify the log"):
        log.merge()


def test_what_a_process_knows_of_its_blocks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_compaction, "_MOST_BYTES", 2 * len(b"stored" + b"digests" * 2))
    own = OwnBlocks()

    for seq in (2, 2, 2, 4, 6):
        own.add(Appended(seq, b"stored"), Outline(NOON, NOON, [b"digests"] * 2))

    known = [own.outline_of(Block(seq, b"stored", 2, (Mark(2, b""),))) is not None for seq in (2, 4, 6)]
    assert known == [False, True, True]


def test_a_merge_that_fails_changes_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.put(numbered(7), together=False)
    with monkeypatch.context() as broken:
        broken.setattr(AuditLog, "_execute", failing(AuditLog._execute, "INSERT INTO audit_digests"))
        with pytest.raises(OSError, match="no space"):
            log.store.merge_audit()

    assert audit.verify(log.store).problem == ""
    assert log.merge() == 5
    assert audit.verify(log.store).problem == ""


def failing(execute: Callable[..., Any], statement: str) -> Callable[..., Any]:
    def run(self: AuditLog, sql: str, *values: Any) -> Any:
        if sql.startswith(statement):
            raise OSError("no space left on device")
        return execute(self, sql, *values)

    return run


def test_who_reads_while_rows_are_merged_sees_each_record_once(log: Log) -> None:
    log.put(numbered(12), together=False)
    with log.store.snapshot() as snapshot:
        if log.store.engine.dialect.name == "sqlite":
            assert snapshot.record_hash(1)
        merging = threading.Thread(target=log.merge)
        merging.start()
        read = snapshot.audit_records(after=0, until=12, enough=99)
    merging.join()

    assert [recorded.seq for recorded in read] == list(range(1, 13))


def test_checks_go_on_when_the_place_where_they_were_is_merged(log: Log) -> None:
    add_policy(log.store)
    approve(log.store, ask(log.store))
    loader = log.store.grant_loader()
    with loader.load(lambda *_: None) as loaded:
        held = {grant.name: grant for chunk in loaded.grants for grant in chunk}
        place = loaded.head.place
    log.put(numbered(SMALL), together=True)
    assert log.merge() > 0

    assert loader.since(place, held.get).head.place.seq > place.seq
    with pytest.raises(AnotherHistory):
        loader.since(place._replace(hash=b"another"), held.get)
    loader.close()


# What somebody who can write to the database may do to what is stored.
TAMPERED = {
    "the records of a piece": "UPDATE audit_piece SET payload = (SELECT payload FROM audit_event WHERE seq = 12)",
    "the hash of a piece": "UPDATE audit_piece SET hash = (SELECT hash FROM audit_event WHERE seq = 12) WHERE seq = 5",
    "the number of its records": "UPDATE audit_piece SET count = 4 WHERE seq = 5",
    "a piece that is gone": "DELETE FROM audit_piece WHERE seq = 5",
    "the last piece that is gone": "DELETE FROM audit_piece WHERE seq = 10",
    "the digests of a field": "UPDATE audit_digests SET digests = (SELECT max(digests) FROM audit_digests)",
    "digests that are gone": "DELETE FROM audit_digests WHERE place = (SELECT min(place) FROM audit_digests)",
    "the instants of a piece": "UPDATE audit_piece SET first_at = first_at + 1 WHERE seq = 5",
    "the seal of a piece": "UPDATE audit_piece SET seal = hash WHERE seq = 10",
    "a row that is no bytes of a block": "UPDATE audit_event SET count = 2 WHERE seq = 12",
    "a piece put in place of another": "UPDATE audit_piece SET seq = 7 WHERE seq = 5",
}


@pytest.mark.parametrize("statement", TAMPERED.values(), ids=TAMPERED.keys())
def test_what_somebody_changed_is_found(merged_log: Log, statement: str) -> None:
    with merged_log.store.engine.begin() as connection:
        connection.execute(text(statement))

    verified = audit.verify(merged_log.store)

    assert verified.first_bad_seq, verified
    assert verified.problem
    # Nor does it keep anybody from reading the rest.
    page = audit.list_page(merged_log.store, ADMIN, filter_text="", order_by="", page_size=1, page_token="")
    assert [recorded.seq for recorded in page.events] in ([12], [10])


def test_a_changed_record_within_a_piece_is_told_as_one_of_those_between_two_hashes(log: Log) -> None:
    payloads = [payload_of(event) for event in numbered(6)]
    log.put(numbered(6), together=True)
    log.merge()
    payloads[3] = payloads[3].replace(b"p3", b"p9")
    with log.store.engine.begin() as connection:
        connection.execute(text("UPDATE audit_piece SET payload = :payload"), {"payload": pack(payloads)})

    verified = audit.verify(log.store)

    assert (verified.first_bad_seq, verified.problem) == (1, "one of the records 1 to 6 is not what was hashed")


def test_what_cannot_be_read_is_told_as_unreadable_and_its_neighbours_as_they_are(merged_log: Log) -> None:
    with merged_log.store.engine.begin() as connection:
        connection.execute(text("UPDATE audit_piece SET payload = hash WHERE seq = 5"))

    with merged_log.store.snapshot() as snapshot:
        read = snapshot.audit_records(after=3, until=7, enough=99)

    assert [recorded.seq for recorded in read] == [4, 5, 6, 7]
    assert [record.recorded.event.type is EventType.UNREADABLE for record in read] == [True, True, False, False]


def test_rows_that_are_not_as_they_were_recorded_are_not_merged(log: Log) -> None:
    log.put(numbered(7), together=False)
    with log.store.engine.begin() as connection:
        connection.execute(text("UPDATE audit_event SET count = 3 WHERE seq = 2"))

    with pytest.raises(ValueError, match="record 0 is not as it was recorded"):
        log.merge()


def test_a_row_that_would_unpack_to_gigabytes_is_not_unpacked() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(audit_block._MAX_BYTES + 1))

    assert len(bomb) < 100_000
    assert unpack(bomb) == b""
    assert unpack(b"no frame") == b""
    assert unpack("text") == b""


def test_a_record_with_a_line_break_cannot_be_stored_with_others() -> None:
    with pytest.raises(ValueError, match="line break"):
        pack([b"{}", b"{\n}"])


def test_a_piece_keeps_a_hash_for_every_64_records() -> None:
    blocks = [Block(last, b"", 1, (Mark(1, bytes([last]) * 32),), is_packed=False) for last in range(1, 151)]

    marks = read_marks(join_marks(blocks), Mark(150, bytes([150]) * 32))

    assert [mark.number for mark in marks] == [64, 128, 150]
    assert [mark.hash[0] for mark in marks] == [64, 128, 150]


def test_the_hashes_of_a_commits_records_are_recomputed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page has fifty of them, the last first: each from the mark before it, they took 70 ms in a commit of 700."""
    payloads = [b'{"number":%d}' % number for number in range(200)]
    hashes, previous = [], b"before"
    for seq, payload in enumerate(payloads, start=1):
        hashes.append(previous := link(previous, seq, payload))
    block = Block(200, pack(payloads), 200, [Mark(number, hashes[number - 1]) for number in (64, 150, 200)])
    linked: list[int] = []
    monkeypatch.setattr(
        audit_block, "link", lambda before, seq, payload: linked.append(seq) or link(before, seq, payload)
    )

    found = [block.hash_of(line, lambda: b"before") for line in block.lines()]
    again = [block.hash_of(line, lambda: b"before") for line in sorted(block.lines())]

    assert found[::-1] == again == hashes
    # Of the records at the marks the hashes are stored.
    assert linked[:197] == [*range(151, 200), *range(65, 150), *range(1, 64)]


def test_the_id_of_a_decision_tells_its_instant() -> None:
    at = datetime.fromisoformat("2026-03-02T12:00:00.123987+00:00")
    one, other = decision_ids(2, at=at)

    assert one != other
    assert decided_at(one) == at.replace(microsecond=123_000)
    assert decided_at("0b0f53b8-4b6b-4c0e-8f0e-3f6f0d3c1a5e") is None
    assert decided_at("d") is None


def test_a_decision_is_found_by_its_id_in_the_pieces_of_its_instant_alone(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    ats = [NOON + timedelta(minutes=number) for number in range(40)]
    checks = [
        Event(type=EventType.ACCESS_CHECKED, at=at, principal="service:s", decision_id=decision_ids(1, at=at)[0])
        for at in ats
    ]
    log.put(checks, together=False)
    log.merge()
    wanted = checks[17]
    read: list[int] = []
    pieces = AuditLog.pieces
    monkeypatch.setattr(AuditLog, "pieces", lambda self, seqs: read.extend(seqs) or pieces(self, seqs))

    found = log.search(Comparison("decision_id", "", "=", wanted.decision_id), backwards=True, limit=50)

    assert [recorded.event for recorded in found] == [wanted]
    assert read == [20]


def test_a_decision_is_looked_for_in_an_index_that_has_no_records(
    merged_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A piece has kilobytes of records in its row: to read ten thousand rows that are not in memory took 400 ms."""
    asked: list[tuple[str, tuple[Any, ...]]] = []
    execute = AuditLog._execute
    monkeypatch.setattr(
        AuditLog, "_execute", lambda self, sql, *values: asked.append((sql, values)) or execute(self, sql, *values)
    )
    merged_log.search(Comparison("decision_id", "", "=", decision_ids(1, at=NOON)[0]), backwards=True, limit=50)
    (heads,) = [(sql, values) for sql, values in asked if "first_at" in sql]

    with merged_log.store.engine.connect() as connection:
        log = AuditLog.of(connection)
        if not log._sqlite:
            # Of so few rows PostgreSQL would read the table.
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        explain = "EXPLAIN QUERY PLAN" if log._sqlite else "EXPLAIN"
        plan = str(log._rows(f"{explain} {heads[0]}", *heads[1]))

    # On PostgreSQL each partition has its part of it.
    assert "audit_piece_heads" in plan or "audit_piece_0_heads" in plan
    assert "COVERING" in plan.upper() or "INDEX ONLY" in plan.upper()


def test_a_search_for_what_is_nowhere_reads_no_piece(merged_log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AuditLog, "pieces", lambda *_: pytest.fail("a piece was read"))

    for field in ("principal", "subject", "grant", "policy", "decision", "reason", "request_id"):
        assert not merged_log.search(Comparison(field, "", "=", "nobody's"), backwards=True, limit=50)


def test_a_piece_whose_digests_are_lost_is_read(log: Log) -> None:
    log.put(numbered(2 * SMALL), together=False)
    log.merge()
    with log.store.engine.begin() as connection:
        connection.execute(text(f"DELETE FROM audit_digests WHERE place & {FIELD - 1} = {SMALL}"))

    found = log.search(Comparison("principal", "", "=", "user:p1"), backwards=True, limit=50)

    assert [recorded.event for recorded in found] == [refused(1)]


def test_each_alternative_is_looked_for_in_pieces_of_its_own(log: Log) -> None:
    log.put(numbered(3 * SMALL), together=False)
    log.merge()
    principals = "user:p0", f"user:p{SMALL}", f"user:p{3 * SMALL - 1}"

    either = Or(tuple(Comparison("principal", "", "=", name) for name in principals))

    assert [found.seq for found in log.search(either, backwards=True, limit=50)] == [3 * SMALL, SMALL + 1, 1]


def test_pieces_are_read_several_at_a_time(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement for each takes as long on PostgreSQL as to look into the piece."""
    log.put(20 * numbered(SMALL), together=False)
    log.merge()
    read: list[list[int]] = []
    pieces = AuditLog.pieces
    monkeypatch.setattr(AuditLog, "pieces", lambda self, seqs: read.append([*seqs]) or pieces(self, seqs))

    newest, oldest = (
        log.search(Comparison("principal", "", "=", "user:p1"), backwards=backwards, limit=50)
        for backwards in (True, False)
    )

    assert [found.seq for found in newest] == [seq + 2 for seq in range(19 * SMALL, -1, -SMALL)]
    assert newest == oldest[::-1]
    assert [len(some) for some in read] == 2 * [8, 8, 4]


def test_a_search_that_would_take_long_ends_early_and_its_next_page_goes_on(
    merged_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_search, "_BUDGET", 0)
    pages: list[int] = []
    token, found = "", 0
    while not pages or token:
        page = audit.list_page(
            merged_log.store, ADMIN, filter_text='principal = "user:p1"', order_by="", page_size=50, page_token=token
        )
        pages.append(len(page.events))
        token, found = page.next_page_token, found + len(page.events)

    assert found == 4
    assert len(pages) > 2
    assert 0 in pages


def test_a_busy_service_merges_its_rows_by_itself(log: Log) -> None:
    from jit_service.runtime.audit_compactor import AuditCompactor

    log.put(numbered(12), together=False)
    compactor = AuditCompactor(log.store, interval=timedelta(milliseconds=1))
    compactor.start()
    try:
        while _unmerged(log.store) >= SMALL:
            assert compactor.is_alive()
    finally:
        compactor.stop()

    assert _unmerged(log.store) == 2


def _unmerged(store: Store) -> int:
    with store.engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM audit_event")).scalar_one())


TWINS: list[tuple[str, Any, str, str, Callable[[Log, pytest.MonkeyPatch], None]]] = [
    (
        "a digest that is looked for in another field",
        audit_search._possible,
        "without(FIELDS[node.field]",
        "without(FIELDS['subject']",
        lambda log, monkeypatch: test_a_record_of_any_piece_is_found_where_each_page_looks_into_one(
            log, 12, monkeypatch
        ),
    ),
    (
        "one alternative for all",
        audit_search._possible,
        "for operand in operands for seq",
        "for operand in operands[:1] for seq",
        lambda log, _: test_each_alternative_is_looked_for_in_pieces_of_its_own(log),
    ),
    (
        "lost digests that hide a piece",
        audit_search._possible,
        "if seq not in impossible",
        "if not impossible",
        lambda log, _: test_a_piece_whose_digests_are_lost_is_read(log),
    ),
    (
        "pieces between that are not read",
        audit_search.Search._read,
        "range(0, len(seqs), _PIECES_AT_ONCE)",
        "range(0, len(seqs), _PIECES_AT_ONCE + 1)",
        lambda log, monkeypatch: test_pieces_are_read_several_at_a_time(log, monkeypatch),
    ),
    (
        "a text that a record need not contain",
        audit_search._needles,
        "isinstance(node, And)",
        "isinstance(node, And | Or)",
        lambda log, _: test_each_alternative_is_looked_for_in_pieces_of_its_own(log),
    ),
    (
        "bounds of one operand for all",
        audit_search._narrowed,
        "isinstance(node, And)",
        "isinstance(node, And | Or)",
        lambda log, monkeypatch: test_what_one_alternative_excludes_another_may_mean(log, ("seq", 2, 9), monkeypatch),
    ),
    (
        "a piece that is passed over",
        audit_search.Search._in_pieces,
        "self._resume = last.seq - last.size + 1",
        "self._resume = last.seq - 2 * last.size + 1",
        lambda log, monkeypatch: test_a_record_of_any_piece_is_found_where_each_page_looks_into_one(
            log, 12, monkeypatch
        ),
    ),
    (
        "a hash from the wrong place",
        Block.hash_of,
        "hashes[number - begin - 1]",
        "hashes[number - begin - 2]",
        test_a_search_finds_the_same_records_however_they_are_stored,
    ),
    (
        "hashes after another mark",
        Block.hash_of,
        "begin != after or ",
        "",
        lambda _, monkeypatch: test_the_hashes_of_a_commits_records_are_recomputed_once(monkeypatch),
    ),
]


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str,
    function: Any,
    sound: str,
    bug: str,
    caught_by: Callable[[Log, pytest.MonkeyPatch], None],
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demand_caught(Twin(name, function, sound, bug, lambda: caught_by(log, monkeypatch)), monkeypatch)


def test_a_checkpoint_of_before_the_merge_still_verifies(merged_log: Log, clock: Clock) -> None:
    hashes = chained(merged_log.events)

    for seq in (1, 3, 5, 8, 11):
        since = Checkpoint(event_count=seq, head_hash=hashes[seq - 1])
        assert audit.verify(merged_log.store, since=since).problem == ""
        wrong = Checkpoint(event_count=seq, head_hash=hashes[seq % 11])
        assert audit.verify(merged_log.store, since=wrong).first_bad_seq == seq


def new_since(log: Log, seq: int) -> Verifying:
    """Returns the steps of verifying what came after a checkpoint at that place."""
    since = Checkpoint(event_count=seq, head_hash=chained(log.events)[seq - 1])
    return audit.verification_of_new(log.store, since=since)


def ended(steps: Verifying) -> LogVerification:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            verified: LogVerification = end.value
            return verified


@pytest.mark.parametrize("at_once", [1, 10**6])
def test_what_is_new_begins_within_a_piece_or_block(
    merged_log: Log, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_AT_ONCE", at_once)

    for seq in range(1, 13):
        verified = ended(new_since(merged_log, seq))
        assert (verified.problem, verified.event_count) == ("", 12)


def test_a_record_after_the_checkpoint_in_the_same_piece_is_recomputed(log: Log) -> None:
    payloads = [payload_of(event) for event in numbered(6)]
    log.put(numbered(6), together=True)
    log.merge()
    payloads[3] = payloads[3].replace(b"p3", b"p9")
    with log.store.engine.begin() as connection:
        connection.execute(text("UPDATE audit_piece SET payload = :payload"), {"payload": pack(payloads)})

    assert ended(new_since(log, 2)).problem == "one of the records 3 to 6 is not what was hashed"
    assert ended(new_since(log, 5)).first_bad_seq == 5
    assert ended(new_since(log, 6)).problem == ""


def test_a_piece_that_says_that_it_begins_before_the_checkpoint_is_found(merged_log: Log) -> None:
    """A piece that has records twice, of which only the second ones are new."""
    with merged_log.store.engine.begin() as connection:
        connection.execute(text("UPDATE audit_piece SET count = 7 WHERE seq = 10"))

    assert ended(new_since(merged_log, 5)).problem == "record 6 is missing"


@pytest.mark.parametrize("since", [0, 3, 11])
def test_a_verification_goes_on_while_records_are_added_and_merged(
    merged_log: Log, since: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_AT_ONCE", 1)
    steps = new_since(merged_log, since) if since else audit.verification(merged_log.store)
    next(steps)
    for _ in range(2):
        merged_log.put(numbered(9), together=False)
        merged_log.merge()
        next(steps)

    verified = ended(steps)

    assert (verified.problem, verified.event_count) == ("", 30)


def test_a_change_of_a_policy_among_checks_is_not_passed_over(log: Log) -> None:
    """Not even where the context of a check looks as if more records were checks."""
    check = Event(type=EventType.ACCESS_CHECKED, at=NOON, principal="user:p")
    context = {"type": "ACCESS_CHECKED", "x": '{"type":"ACCESS_CHECKED"'}
    posed = Event(type=EventType.ACCESS_CHECKED, at=NOON, principal="user:p", context=context)
    change = Event(type=EventType.POLICY_CREATED, at=NOON, principal="user:p", policy="policies/p")
    log.put([posed, posed, change, check, check], together=True)
    log.merge()

    verified = audit.verify(log.store)

    # No table lists this change.
    assert (verified.first_bad_seq, verified.problem) == (3, "record 3 is listed as another change of policies/p")
