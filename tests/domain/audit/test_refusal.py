"""The event of a refused call: what was wrong, and what the caller wrote, made harmless."""

from __future__ import annotations

from jit_service.domain.audit.event import EventType
from jit_service.domain.audit.refusal import About, refusal_event, unauthenticated_event
from jit_service.domain.caller import Origin
from jit_service.domain.errors import Locked, NotEligible, ReviewAssuranceRequired, WrongState
from tests.domain.factories import ALICE, HOUR, NOON, alice

ERROR = WrongState("grants/g7 is REVOKED, not PENDING", grant="grants/g7")


def test_a_refused_call_is_recorded_with_who_what_and_why() -> None:
    about = About(
        subject="user:eve",
        resources=("database/orders/eu",),
        actions=("read",),
        grant="grants/g7",
        policy="policies/orders",
    )

    event = refusal_event(alice(), ERROR, about, at=NOON)

    assert (event.type, event.at, event.principal, event.origin) == (
        EventType.CALL_REFUSED,
        NOON,
        ALICE,
        alice().origin,
    )
    assert (event.decision, event.reason, event.message) == (
        "REFUSED",
        "WRONG_STATE",
        "grants/g7 is REVOKED, not PENDING",
    )
    assert (event.subject, event.resources, event.actions) == ("user:eve", ("database/orders/eu",), ("read",))
    assert (event.grant, event.policy) == ("grants/g7", "policies/orders")


def test_a_call_about_nothing_leaves_those_sides_empty() -> None:
    event = refusal_event(alice(), ERROR, About(), at=NOON)

    assert (event.subject, event.resources, event.actions, event.grant, event.policy) == ("", (), (), "", "")


def test_control_and_bidi_characters_of_the_caller_do_not_reach_the_record() -> None:
    wild = "a\x1b[2J\u202eb\n"
    about = About(subject=wild, resources=(wild,), actions=(wild,), grant=wild, policy=wild)

    event = refusal_event(alice(), NotEligible(wild), about, at=NOON)

    tame = "a\\u001b[2J\\u202eb\\u000a"
    assert (event.subject, event.resources, event.actions) == (tame, (tame,), (tame,))
    assert (event.grant, event.policy, event.message) == (tame, tame, tame)


def test_a_long_text_of_the_caller_is_cut_and_says_so() -> None:
    event = refusal_event(alice(), ERROR, About(subject="x" * 1025, grant="x" * 1024), at=NOON)

    assert event.subject == "x" * 1024 + "... (1025 characters)"
    assert event.grant == "x" * 1024


def test_at_most_a_hundred_resources_and_actions_are_recorded() -> None:
    names = tuple(f"database/t{index}" for index in range(101))

    event = refusal_event(alice(), ERROR, About(resources=names, actions=names[:100]), at=NOON)

    assert event.resources == names[:100]
    assert event.actions == names[:100]


def test_what_was_asked_for_is_recorded_with_its_length_and_context() -> None:
    event = refusal_event(alice(), ERROR, About(duration=HOUR, context={"ticket": "T-1"}), at=NOON)

    assert (event.duration, event.context) == (HOUR, {"ticket": "T-1"})


def test_groups_are_recorded_where_access_was_asked_for() -> None:
    """They are long, and say nothing of a call that is about no resource."""
    unknown = alice()._replace(groups=None)

    assert refusal_event(alice(), ERROR, About(resources=("a",)), at=NOON).groups == ("engineering",)
    assert refusal_event(unknown, ERROR, About(resources=("a",)), at=NOON).groups_left_out
    assert refusal_event(alice(), ERROR, About(), at=NOON).groups == ()
    assert not refusal_event(unknown, ERROR, About(), at=NOON).groups_left_out


def test_a_call_that_a_lock_refused_names_the_lock() -> None:
    assert refusal_event(alice(), Locked("user:alice is locked", lock="locks/l1"), About(), at=NOON).lock == "locks/l1"
    assert refusal_event(alice(), ERROR, About(), at=NOON).lock == ""


def test_calls_of_nobody_leave_one_record_with_their_number_and_nothing_that_they_wrote() -> None:
    origin = Origin(
        method="RequestGrant", source_address="192.0.2.7", user_agent="curl", trace_id="7", request_id="8", issuer="i"
    )

    event = unauthenticated_event(origin, reason="TOKEN_MISSING", count=3, at=NOON)

    assert (event.type, event.at, event.principal) == (EventType.CALL_REFUSED, NOON, "")
    assert event.origin == Origin(method="RequestGrant", source_address="192.0.2.7")
    assert (event.decision, event.reason, event.repeat_count) == ("REFUSED", "TOKEN_MISSING", 3)


def test_a_single_call_of_nobody_is_no_repetition() -> None:
    counts = [
        unauthenticated_event(Origin(), reason="TOKEN_MISSING", count=count, at=NOON).repeat_count for count in (1, 2)
    ]

    assert counts == [0, 2]


def test_a_decision_that_a_log_in_did_not_suffice_for_is_recorded_with_that_log_in() -> None:
    by = alice()._replace(claims={"acr": "pwd", "amr": ["pwd"], "auth_time": NOON.timestamp()})

    weak = refusal_event(by, ReviewAssuranceRequired("too weak"), About(grant="grants/g7"), at=NOON)
    other = refusal_event(by, ERROR, About(grant="grants/g7"), at=NOON)

    assert (weak.acr, weak.amr, weak.logged_in_at) == ("pwd", ("pwd",), NOON)
    assert (other.acr, other.amr, other.logged_in_at) == ("", (), None)
