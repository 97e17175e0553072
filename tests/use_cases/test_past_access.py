"""Answers about the past: as a check or a search would have answered then, from the record alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlmodel import Session, update

from jit_service.check import AuditMode, Recorder
from jit_service.check.questions import demand_reader_of_past, past_question
from jit_service.check.search import SearchPage, search_query
from jit_service.domain.audit.event import Event
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.checks import past as past_rules
from jit_service.domain.checks.decision import Question
from jit_service.domain.conditions.signal import Signal
from jit_service.domain.errors import InvalidField, RoleRequired, StoreUnavailable
from jit_service.domain.grants.grant import Grant, Justification
from jit_service.domain.grants.lock import NewLock, Target
from jit_service.domain.grants.more_time import MoreTime
from jit_service.domain.grants.request import Ask
from jit_service.domain.grants.terms import Edits
from jit_service.domain.policies.policy import ExtensionRule, Policy, PrincipalSet
from jit_service.storage import Store, predicates
from jit_service.storage.readers.past import PastReader
from jit_service.storage.tables import PolicyRevisionRow
from jit_service.use_cases import grants, locks, past_access, policies, signals
from jit_service.use_cases.past_access import PastAccess, PastCheck
from tests import checking
from tests.conftest import HOUR, TICK, Clock
from tests.domain.checks import test_past
from tests.domain.factories import deny_policy
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.people import ADMIN, ALICE, AUDITOR, BOB, GATEWAY, add_policy, approve, ask

RESOURCE = "database/orders/eu"
MINUTE = timedelta(minutes=1)
WHY = Justification(text="because")


@pytest.fixture
def past(store: Store) -> Iterator[PastAccess]:
    recorder = Recorder(store, AuditMode.COMMITTED)
    yield PastAccess(store, recorder)
    recorder.stop()


def denial(resource: str = "database/**", groups: tuple[str, ...] = ("engineering",)) -> Policy:
    eligible = PrincipalSet(groups=groups)
    return deny_policy(name="policies/no", revision=0, resources=(resource,), eligible=eligible)


def could(
    past: PastAccess,
    at: datetime,
    *,
    subject: str = ALICE.principal,
    resource: str = RESOURCE,
    by: Caller = AUDITOR,
    **asserted: object,
) -> PastCheck:
    asked = past_question(by, subject=subject, action="read", resource=resource, asserted=dict(asserted))
    return past.check(by, asked, at)


def reason(past: PastAccess, at: datetime, **asked: str) -> str:
    return could(past, at, **asked).decision.reason  # type: ignore[arg-type]


def found(past: PastAccess, at: datetime, *, by: Caller = AUDITOR, page_size: int = 0, **sides: str) -> SearchPage:
    sides = {"subject": "", "action": "", "resource": ""} | sides
    return past.search(by, search_query(by, **sides, read_at=at), page_size=page_size, page_token="")


def names(page: SearchPage) -> list[str]:
    return [one.name for one in page.found]


def who(past: PastAccess, at: datetime) -> list[str]:
    return names(found(past, at, action="read", resource=RESOURCE))


def last_event(store: Store) -> Event:
    with store.snapshot() as snapshot:
        (record,) = snapshot.audit_records(after=snapshot.seq - 1, until=snapshot.seq, enough=1)
        return record.recorded.event


def test_each_state_of_a_grant_is_there_from_its_instant_on(store: Store, clock: Clock, past: PastAccess) -> None:
    add_policy(store)
    asked_at = clock() + MINUTE
    clock.now = asked_at
    grant = ask(store)
    approved_at = clock() + MINUTE
    clock.now = approved_at
    approve(store, grant)
    revoked_at = clock() + MINUTE
    clock.now = revoked_at
    grants.revoke(store, ADMIN, grant.name, comment="over", etag="")
    clock.advance(24 * HOUR)

    assert reason(past, asked_at - TICK) == "NO_GRANT"
    assert reason(past, asked_at) == "PENDING"
    assert reason(past, approved_at - TICK) == "PENDING"
    assert reason(past, approved_at) == "ALLOWED"
    assert reason(past, revoked_at - TICK) == "ALLOWED"
    assert reason(past, revoked_at) == "REVOKED"
    assert reason(past, clock()) == "REVOKED"
    for at, expected in ((approved_at - TICK, []), (approved_at, [ALICE.principal]), (revoked_at, [])):
        assert who(past, at) == expected


def test_a_grant_is_over_exactly_at_the_end_that_it_had_then(store: Store, clock: Clock, past: PastAccess) -> None:
    add_policy(store, steps=(), extension=ExtensionRule(max_extensions=1, max_total_duration=8 * HOUR))
    started_at = clock()
    grant = ask(store)
    extended_at = started_at + HOUR - TICK
    clock.now = extended_at
    grants.extend(store, ALICE, grant.name, MoreTime(duration=HOUR, justification=WHY), etag="")
    clock.advance(24 * HOUR)

    assert reason(past, started_at + 2 * HOUR - TICK) == "ALLOWED"
    assert reason(past, started_at + 2 * HOUR) == "EXPIRED"
    planned = could(past, extended_at - TICK).decision.grant
    assert planned is not None
    assert planned.expires_at == started_at + HOUR


def test_a_grant_has_the_terms_that_it_had_then(store: Store, clock: Clock, past: PastAccess) -> None:
    """What a reviewer narrowed waited for more until then."""
    add_policy(store)
    other = "database/orders/us"
    asked = Ask(subject=ALICE.principal, resources=("database/orders/*",), actions=("read",))
    grant = grants.ask(store, ALICE, asked).grant
    asked_at = clock()
    clock.advance(MINUTE)
    grants.approve(store, BOB, grant.name, comment="", etag="", edits=Edits(resources=(RESOURCE,)))

    assert reason(past, asked_at, resource=other) == "PENDING"
    assert reason(past, clock(), resource=other) == "NO_GRANT"
    assert reason(past, clock()) == "ALLOWED"
    assert names(found(past, clock(), subject=ALICE.principal, action="read")) == [RESOURCE]


def test_policies_locks_and_signals_are_those_of_then(store: Store, clock: Clock, past: PastAccess) -> None:
    add_policy(store, steps=(), check_condition="signals.incident == true")
    instants = {}

    def then(name: str) -> None:
        instants[name] = clock()
        clock.advance(MINUTE)

    ask(store)
    then("unset")
    signals.put(store, ADMIN, Signal(name="signals/incident", value=True, expires_at=clock() + 3 * MINUTE), etag="")
    then("set")
    denying = policies.create(store, ADMIN, denial())
    then("denied")
    policies.delete(store, ADMIN, denying.name, etag="")
    then("not denied")
    then("stale")
    signals.put(store, ADMIN, Signal(name="signals/incident", value=True, expires_at=clock() + 24 * HOUR), etag="")
    lock = locks.create(store, ADMIN, NewLock(target=Target(principal=ALICE.principal), comment="left")).lock
    then("locked")
    locks.delete(store, ADMIN, lock.name, etag="")
    then("not locked")
    signals.delete(store, ADMIN, "signals/incident", etag="")
    clock.advance(24 * HOUR)

    assert {name: reason(past, at) for name, at in instants.items()} == {
        "unset": "CONDITION_ERROR",
        "set": "ALLOWED",
        "denied": "DENIED_BY_POLICY",
        "not denied": "ALLOWED",
        "stale": "SIGNAL_STALE",
        "locked": "LOCKED",
        "not locked": "ALLOWED",
    }
    assert [name for name, at in instants.items() if who(past, at)] == ["set", "not denied", "not locked"]


def test_a_lock_that_ran_out_stood_until_its_end(store: Store, clock: Clock, past: PastAccess) -> None:
    add_policy(store, steps=())
    ask(store)
    over_at = clock() + MINUTE
    locks.create(store, ADMIN, NewLock(target=Target(principal=ALICE.principal), comment="left", expires_at=over_at))
    clock.advance(HOUR)

    assert reason(past, over_at - TICK) == "LOCKED"
    assert reason(past, over_at) == "ALLOWED"


def test_uses_are_those_that_were_counted_by_then_and_asking_counts_none(
    store: Store, clock: Clock, past: PastAccess
) -> None:
    add_policy(store, steps=(), max_uses=2)
    ask(store)
    question = Question(subject=ALICE.principal, action="read", resource=RESOURCE)
    instants = [clock()]
    for _ in range(2):
        clock.advance(MINUTE)
        assert checking.check(store, GATEWAY, question).decision.allowed
        instants.append(clock())

    for _ in range(3):
        assert [reason(past, at) for at in instants] == ["ALLOWED", "ALLOWED", "USES_EXHAUSTED"]
    with store.snapshot() as snapshot:
        assert [grant.usage.count for grant in snapshot.live_grants(ALICE.principal)] == [2]


def test_what_was_passed_on_ended_with_what_it_came_from(store: Store, clock: Clock, past: PastAccess) -> None:
    add_policy(store, steps=(), max_child_depth=1)
    parent = ask(store)
    child = Ask(subject="service:job", resources=parent.resources, actions=parent.actions, parent=parent.name)
    grants.ask(store, ALICE, child)
    passed_on_at = clock()
    clock.advance(MINUTE)
    grants.release(store, ALICE, parent.name, comment="", etag="")
    clock.advance(HOUR)

    assert who(past, passed_on_at) == ["service:job", ALICE.principal]
    assert reason(past, passed_on_at, subject="service:job") == "ALLOWED"
    assert who(past, passed_on_at + MINUTE) == []


def test_each_side_is_searched_with_its_patterns_and_exceptions(store: Store, clock: Clock, past: PastAccess) -> None:
    add_policy(store, steps=())
    ask(store, resource="database/orders/**")
    policies.create(store, ADMIN, denial("database/orders/secret/**"))
    then = clock()
    clock.advance(24 * HOUR)

    (where,) = found(past, then, subject=ALICE.principal, action="read").found
    assert (where.name, where.excepted) == ("database/orders/**", ("database/orders/secret/**",))
    assert names(found(past, then, subject=ALICE.principal, resource=RESOURCE)) == ["read"]
    assert names(found(past, clock(), subject=ALICE.principal, action="read")) == []


def test_pages_of_subjects_are_of_one_instant(
    store: Store, clock: Clock, past: PastAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_policy(store, steps=())
    people = [ALICE._replace(principal=f"user:p{number}@example.com") for number in range(5)]
    given = [ask(store, caller=person) for person in people]
    then = clock()
    clock.advance(MINUTE)
    for grant in given:
        grants.revoke(store, ADMIN, grant.name, comment="over", etag="")
    wanted = search_query(AUDITOR, subject="", action="read", resource=RESOURCE, read_at=then)

    def walk(size: int) -> list[list[str]]:
        pages, token = [], ""
        while not pages or token:
            page = past.search(AUDITOR, wanted, page_size=size, page_token=token)
            pages.append(names(page))
            token = page.next_page_token
        return pages

    everybody = [person.principal for person in people]
    assert walk(2) == [everybody[:2], everybody[2:4], everybody[4:]]
    assert walk(5) == [everybody]
    monkeypatch.setattr(past_access, "MAX_JUDGED", 1)
    assert walk(5) == [[name] for name in everybody]
    elsewhere = replace(wanted, read_at=then - TICK)
    token = past.search(AUDITOR, wanted, page_size=2, page_token="").next_page_token
    with pytest.raises(InvalidField, match="page_token"):
        past.search(AUDITOR, elsewhere, page_size=2, page_token=token)


def test_one_subject_with_too_many_grants_is_refused(
    store: Store, clock: Clock, past: PastAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_policy(store, steps=())
    for number in range(3):
        ask(store, resource=f"database/orders/{number}")
    monkeypatch.setattr(past_access, "MAX_JUDGED", 2)

    with pytest.raises(InvalidField, match="subject: held more than 2 grants"):
        could(past, clock())
    with pytest.raises(InvalidField, match="subject: held more than 2 grants"):
        found(past, clock(), subject=ALICE.principal, action="read")
    # Of those three only one reaches the resource.
    assert names(found(past, clock(), subject=ALICE.principal, resource="database/orders/1")) == ["read"]


def test_only_what_is_on_record_is_answered(store: Store, clock: Clock, past: PastAccess) -> None:
    with pytest.raises(InvalidField, match=r"read_time: is .*; nothing is on record yet"):
        could(past, clock())
    add_policy(store)
    begins_at = clock()
    clock.advance(HOUR)

    for at, fault in ((begins_at - TICK, "the record begins at 2026-03-02T12:00:00Z"), (clock() + TICK, "after now")):
        with pytest.raises(InvalidField, match=f"read_time: is .*{fault}"):
            could(past, at)
        with pytest.raises(InvalidField, match=f"read_time: is .*{fault}"):
            who(past, at)
    assert reason(past, begins_at) == reason(past, clock()) == "NO_GRANT"


def test_auditors_and_admins_ask_about_others_and_everybody_about_itself(
    store: Store, clock: Clock, past: PastAccess
) -> None:
    add_policy(store, steps=())
    ask(store)

    for by in (AUDITOR, ADMIN, ALICE):
        assert could(past, clock(), by=by).decision.allowed
        assert names(found(past, clock(), by=by, subject=ALICE.principal, action="read")) == [RESOURCE]
    for by in (GATEWAY, BOB):
        with pytest.raises(RoleRequired, match="auditor or admin"):
            could(past, clock(), by=by)
        for sides in ({"resource": RESOURCE}, {"subject": ALICE.principal}):
            with pytest.raises(RoleRequired, match="auditor or admin"):
                found(past, clock(), by=by, action="read", **sides)


def test_what_the_caller_is_now_says_nothing_of_then(store: Store, clock: Clock, past: PastAccess) -> None:
    """Neither its groups nor its address; it may say what it was, and that is noted."""
    add_policy(store, steps=(), check_condition='context.source_ip == "192.0.2.7" && "engineering" in groups')
    ask(store)
    policies.create(store, ADMIN, denial(groups=("contractors",)))
    here = ALICE._replace(groups=frozenset({"contractors"}), origin=Origin(source_address="192.0.2.7"))

    assert could(past, clock(), by=here).decision.reason == "CONDITION_ERROR"
    then = could(past, clock(), by=here, source_ip="192.0.2.7")
    assert then.decision.allowed
    notes = " ".join(then.not_on_record)
    assert "reads context: what was asserted then is not on record" in notes
    assert "reads groups" in notes
    assert f"policies/no denies groups: {ALICE.principal}'s groups after the request are not on record" in notes


def test_what_depends_on_nothing_unknown_has_no_note(store: Store, clock: Clock, past: PastAccess) -> None:
    add_policy(store, steps=())
    ask(store)

    assert could(past, clock()).not_on_record == ()
    assert found(past, clock(), action="read", resource=RESOURCE).not_on_record == ()


def test_it_is_recorded_as_a_search_and_reads_like_no_decision(store: Store, clock: Clock, past: PastAccess) -> None:
    add_policy(store, steps=())
    grant: Grant = ask(store)
    then = clock()
    clock.advance(HOUR)

    answer = could(past, then)

    event = last_event(store)
    assert (event.type, event.decision, event.reason) == ("ACCESS_SEARCHED", "", "")
    assert (event.principal, event.subject, event.grant) == (AUDITOR.principal, ALICE.principal, grant.name)
    assert event.decision_id == answer.decision_id
    assert event.message.startswith("as of 2026-03-02T12:00:00Z: allowed then: ")
    who(past, then)
    assert last_event(store).message == "1 found of what was left out, the subject, as of 2026-03-02T12:00:00Z"


def test_a_revision_of_a_policy_that_somebody_changed_is_not_believed(
    store: Store, clock: Clock, past: PastAccess
) -> None:
    """Revisions have no seal of their own; the log has the seal of each."""
    add_policy(store, steps=())
    ask(store)
    denying = policies.create(store, ADMIN, denial())
    then = clock()
    clock.advance(MINUTE)
    policies.delete(store, ADMIN, denying.name, etag="")
    assert reason(past, then) == "DENIED_BY_POLICY"

    with Session(store.engine) as session, session.begin():
        row = session.get(PolicyRevisionRow, (denying.name, denying.revision))
        assert row is not None
        harmless = {**row.document, "disabled": True}
        session.execute(
            update(PolicyRevisionRow)
            .where(
                PolicyRevisionRow.name == denying.name,  # type: ignore[arg-type]
                PolicyRevisionRow.revision == denying.revision,  # type: ignore[arg-type]
            )
            .values(document=harmless)
        )

    with pytest.raises(StoreUnavailable, match="policies/no@3 is not as this service left it"):
        reason(past, then)


TWINS: list[tuple[str, Any, str, str, Callable[[Store, Clock, PastAccess], None]]] = [
    (
        "a change that is seen a moment late",
        PastReader.grant_as_of,
        "col(GrantChangeRow.at) <= at",
        "col(GrantChangeRow.at) < at",
        test_each_state_of_a_grant_is_there_from_its_instant_on,
    ),
    (
        "a grant as it was at first",
        PastReader.grant_as_of,
        "col(GrantChangeRow.revision).desc()",
        "col(GrantChangeRow.revision)",
        test_each_state_of_a_grant_is_there_from_its_instant_on,
    ),
    (
        "a grant as it is now",
        PastReader.grant_as_of,
        "col(GrantChangeRow.at) <= at",
        "True",
        test_a_grant_is_over_exactly_at_the_end_that_it_had_then,
    ),
    (
        "a search that misses what was revoked since",
        predicates.was_granted,
        ", col(GrantRow.ended_at) > at)",
        ")",
        test_each_state_of_a_grant_is_there_from_its_instant_on,
    ),
    (
        "a check that misses what was revoked since",
        predicates.was_live,
        ", col(GrantRow.ended_at) > at)",
        ")",
        test_each_state_of_a_grant_is_there_from_its_instant_on,
    ),
    (
        "policies and signals as they are now",
        PastReader._last_changes,
        "col(SettingChangeRow.at) <= at, ",
        "",
        test_policies_locks_and_signals_are_those_of_then,
    ),
    (
        "a lock that never was, once it is lifted",
        past_rules.locks_at,
        "replace(lock, deleted_at=None) if",
        "lock if",
        test_policies_locks_and_signals_are_those_of_then,
    ),
    (
        "a lock before it was made",
        past_rules.locks_at,
        "if lock.created_at <= instant",
        "",
        lambda *_: test_past.test_a_lock_stood_from_its_creation_until_it_was_lifted_or_over(),
    ),
    (
        "a revision that is believed without its seal",
        PastReader.recorded_revision,
        "self._sealer.demand(revision_name(row.name, row.revision), policy, row.seal)",
        "pass",
        test_a_revision_of_a_policy_that_somebody_changed_is_not_believed,
    ),
    (
        "a future that is answered",
        past_rules.demand_on_record,
        "if instant > now:",
        "if False:",
        test_only_what_is_on_record_is_answered,
    ),
    (
        "a time before the record that is answered",
        past_rules.demand_on_record,
        "if instant < begins_at:",
        "if False:",
        test_only_what_is_on_record_is_answered,
    ),
    (
        "an asker who is now as then",
        past_question,
        "asserted, itself=False)",
        "asserted, itself=True)",
        test_what_the_caller_is_now_says_nothing_of_then,
    ),
    (
        "anybody who asks about anybody",
        demand_reader_of_past,
        "if not caller.has(Role.AUDITOR, Role.ADMIN):",
        "if False:",
        test_auditors_and_admins_ask_about_others_and_everybody_about_itself,
    ),
    (
        "an answer that reads like a decision",
        past_rules.past_check_event,
        "EventType.ACCESS_SEARCHED",
        "EventType.ACCESS_CHECKED",
        test_it_is_recorded_as_a_search_and_reads_like_no_decision,
    ),
    (
        "nothing said of what nobody knows",
        PastAccess.check,
        "then.note(past.not_on_record(question, judged, evidence))",
        "pass",
        test_what_the_caller_is_now_says_nothing_of_then,
    ),
]


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str,
    function: Any,
    sound: str,
    bug: str,
    caught_by: Callable[[Store, Clock, PastAccess], None],
    sqlite_url: str,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(sqlite_url, clock=clock)
    recorder = Recorder(store, AuditMode.COMMITTED)
    try:
        twin = Twin(name, function, sound, bug, lambda: caught_by(store, clock, PastAccess(store, recorder)))
        demand_caught(twin, monkeypatch)
    finally:
        recorder.stop()
        store.close()
