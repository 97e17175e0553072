"""The hash chain: whoever changes a record is found out. And expiries, recorded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from sqlalchemy import text

from jit_service.domain.audit.checkpoint import Checkpoint
from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Origin
from jit_service.domain.grants.grant import GrantState
from jit_service.rpc.audit_formats.ocsf import ocsf_event
from jit_service.rpc.services.audit_messages import audit_message
from jit_service.runtime import sweeper
from jit_service.storage import Store, payload_of
from jit_service.storage.tables import AuditRow
from jit_service.use_cases import audit
from jit_service.use_cases.audit import LogVerification
from jit_service.use_cases.audit_export import export
from tests.conftest import HOUR, NOON, TICK, Clock
from tests.storage.people import ADMIN, ALICE, BOB, add_policy, approve, ask
from tests.storage.test_races import at_once


def tamper(store: Store, *statements: str) -> LogVerification:
    """Changes the table behind the service's back, and verifies."""
    with store.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    return audit.verify(store)


def events(store: Store, kind: EventType) -> list[Event]:
    page = audit.list_page(
        store, ADMIN, filter_text=f"event_type = {kind}", order_by="seq", page_size=1000, page_token=""
    )
    return [recorded.event for recorded in page.events]


@pytest.fixture
def five_records(store: Store) -> Store:
    add_policy(store)
    for number in range(4):
        ask(store, resource=f"database/orders/{number}")
    return store


def test_an_untouched_log_is_valid(five_records: Store) -> None:
    verified = audit.verify(five_records)

    assert (verified.event_count, verified.first_bad_seq, verified.problem) == (5, 0, "")


def test_an_edited_record_is_found(five_records: Store) -> None:
    edited = tamper(
        five_records, "UPDATE audit_event SET payload = (SELECT payload FROM audit_event WHERE seq = 2) WHERE seq = 3"
    )

    assert edited.first_bad_seq == 3
    assert edited.problem


def test_a_change_of_a_policy_that_is_not_listed_is_found(five_records: Store) -> None:
    """Questions about the past would be answered as if there had been none."""
    assert tamper(five_records, "DELETE FROM setting_change").first_bad_seq == 1


def test_a_change_that_is_listed_and_never_was_is_found(five_records: Store) -> None:
    listed = "INSERT INTO setting_change (seq, at, name) VALUES (3, 0, 'policies/p')"

    assert tamper(five_records, listed).first_bad_seq == 3


def test_a_record_edited_with_its_own_hash_is_found_at_the_next(five_records: Store) -> None:
    """A new hash for the edited record does not go with what follows."""
    from jit_service.domain.audit.chain import link

    with five_records.engine.begin() as connection:
        rows = connection.execute(text("SELECT seq, hash, payload FROM audit_event ORDER BY seq")).all()
        payload = bytes(rows[2].payload).replace(b"alice", b"malic")
        connection.execute(
            text("UPDATE audit_event SET payload = :payload, hash = :hash WHERE seq = 3"),
            {"payload": payload, "hash": link(bytes(rows[1].hash), 3, payload)},
        )

    assert audit.verify(five_records).first_bad_seq in (3, 4)


@pytest.mark.parametrize("seq", [1, 3, 5])
def test_a_deleted_record_is_found(five_records: Store, seq: int) -> None:
    assert tamper(five_records, f"DELETE FROM audit_event WHERE seq = {seq}").first_bad_seq == seq


def test_a_cut_tail_is_found(five_records: Store) -> None:
    cut = tamper(five_records, "DELETE FROM audit_event WHERE seq > 2")

    assert (cut.first_bad_seq, cut.problem) == (3, "the log should have 5 records and has 2")


def test_an_emptied_log_is_found(five_records: Store) -> None:
    assert tamper(five_records, "DELETE FROM audit_event").first_bad_seq == 1


def test_reordered_records_are_found(five_records: Store) -> None:
    swapped = tamper(
        five_records,
        "UPDATE audit_event SET seq = 99 WHERE seq = 2",
        "UPDATE audit_event SET seq = 2 WHERE seq = 3",
        "UPDATE audit_event SET seq = 3 WHERE seq = 99",
    )

    assert swapped.first_bad_seq == 2


def test_an_inserted_record_is_found(five_records: Store) -> None:
    with five_records.engine.begin() as connection:
        names = [name for name in AuditRow.model_fields if name != "seq"]
        listed = ", ".join(names)
        connection.execute(
            text(f"INSERT INTO audit_event (seq, {listed}) SELECT 6, {listed} FROM audit_event WHERE seq = 5")
        )

    assert audit.verify(five_records).first_bad_seq == 6


@pytest.mark.parametrize("sqlite_store", ["text", "integer", "real"], indirect=True)
def test_a_record_that_is_no_bytes_any_more_is_found_and_told_as_unreadable(sqlite_store: tuple[Store, str]) -> None:
    """As `replace()` in the sqlite3 shell leaves it (operating.md, stumble 6)."""
    store, kind = sqlite_store
    add_policy(store)
    ask(store)
    ask(store, resource="database/orders/us")
    checkpoint = Checkpoint(event_count=2, head_hash=b"?" * 32)
    with store.engine.begin() as connection:
        connection.execute(text(f"UPDATE audit_event SET payload = CAST(payload AS {kind}) WHERE seq = 2"))

    verified = [audit.verify(store), audit.verify(store, since=checkpoint)]
    page = audit.list_page(store, ADMIN, filter_text="", order_by="seq", page_size=9, page_token="")
    exported = [
        record.recorded
        for part in export(store, filter_text="", start_seq=0, end_seq=0, gone=lambda: False)
        for record in part
    ]

    assert [found.first_bad_seq for found in verified] == [2, 2]
    for told in (page.events, exported):
        kinds = ["POLICY_CREATED", "EVENT_TYPE_UNSPECIFIED", "GRANT_REQUESTED"]
        assert [recorded.event.type for recorded in told] == kinds
        assert "not what was recorded" in told[1].event.message
        assert audit_message(told[1]).event_type == 0
        assert ocsf_event(told[1])


@pytest.fixture
def sqlite_store(request: pytest.FixtureRequest, sqlite_url: str, clock: Clock) -> Iterator[tuple[Store, str]]:
    store = Store(sqlite_url, clock=clock)
    yield store, request.param
    store.close()


def test_a_payload_that_is_no_event_is_found(five_records: Store) -> None:
    edited = tamper(five_records, "UPDATE audit_event SET payload = hash WHERE seq = 4")

    assert edited.first_bad_seq == 4


def expired(store: Store, clock: Clock) -> None:
    approve(store, ask(store, duration=HOUR))
    clock.advance(HOUR)


def lapsed(store: Store, clock: Clock) -> None:
    ask(store)
    clock.advance(8 * HOUR)


@pytest.mark.parametrize(
    ("ends", "kind"), [(expired, EventType.GRANT_EXPIRED), (lapsed, EventType.GRANT_LAPSED)], ids=["expired", "lapsed"]
)
def test_a_grant_that_runs_out_is_recorded_once(
    store: Store, clock: Clock, ends: Callable[[Store, Clock], None], kind: EventType
) -> None:
    add_policy(store)
    ends(store, clock)

    at_once(*[lambda: sweeper.record_run_out(store)] * 3)
    sweeper.record_run_out(store)

    (event,) = events(store, kind)
    assert event.subject == ALICE.principal
    assert event.held == (HOUR if kind is EventType.GRANT_EXPIRED else None)
    assert not audit.verify(store).problem


def test_nothing_is_recorded_before_its_time(store: Store, clock: Clock) -> None:
    add_policy(store)
    approve(store, ask(store, duration=HOUR))
    clock.advance(HOUR - TICK)

    assert sweeper.record_run_out(store) == 0
    assert not events(store, EventType.GRANT_EXPIRED)


def test_what_somebody_ended_does_not_run_out(store: Store, clock: Clock) -> None:
    from jit_service.use_cases import grants

    add_policy(store)
    grants.withdraw(store, ALICE, ask(store).name, comment="", etag="")
    grants.revoke(store, BOB, approve(store, ask(store)).name, comment="x", etag="")
    clock.advance(24 * HOUR)

    assert sweeper.record_run_out(store) == 0


def test_recording_an_expiry_changes_nothing_of_the_grant_but_its_revision(store: Store, clock: Clock) -> None:
    from jit_service.use_cases import grants

    add_policy(store)
    grant = approve(store, ask(store, duration=HOUR))
    clock.advance(HOUR)
    sweeper.record_run_out(store)

    read = grants.get(store, ALICE, grant.name)

    assert read.grant == replace(grant, revision=read.grant.revision)
    assert read.grant.state(read.at) is GrantState.EXPIRED


def test_records_of_every_shape_are_found_as_what_was_hashed(store: Store) -> None:
    plain = Event(type=EventType.CALL_REFUSED, at=NOON, principal="")
    full = Event(
        type=EventType.ACCESS_CHECKED,
        at=NOON + TICK,
        principal='user:"quoted"\\ña',
        origin=Origin(method="/m", source_address="::1", user_agent="u", trace_id="t", request_id="r"),
        subject="user:jürgen",
        resources=("a/b", 'c/"d"'),
        actions=("read",),
        decision="DENIED",
        reason="NO_GRANT",
        message="line\nline",
        grant="grants/g",
        policy="policies/p",
        decision_id="d",
        context={"list": [1, {"deep": None}]},
    )
    store.append([payload_of(plain), payload_of(full)], at=NOON)

    assert audit.verify(store).problem == ""
    assert events(store, EventType.ACCESS_CHECKED) == [full]


def test_a_record_that_is_no_json_any_more_is_told_and_keeps_nobody_from_searching(store: Store) -> None:
    add_policy(store)
    statement = text("UPDATE audit_event SET payload = :payload WHERE seq = 1")
    with store.engine.begin() as connection:
        connection.execute(statement, {"payload": b"{"})
    store.append([payload_of(Event(type=EventType.CALL_REFUSED, at=NOON, principal=""))], at=NOON)

    assert len(events(store, EventType.CALL_REFUSED)) == 1
    assert audit.verify(store).first_bad_seq == 1
