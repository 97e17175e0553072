"""The event of a refused call: what was wrong, and what the caller wrote, made harmless."""

from __future__ import annotations

from jit_service.domain.audit.event import EventType
from jit_service.domain.audit.refusal import About, refused
from jit_service.domain.errors import NotEligible, WrongState
from tests.domain.factories import ALICE, NOON, alice

ERROR = WrongState("grants/g7 is REVOKED, not PENDING", grant="grants/g7")


def test_a_refused_call_is_recorded_with_who_what_and_why() -> None:
    about = About(
        subject="user:eve",
        resources=("database/orders/eu",),
        actions=("read",),
        grant="grants/g7",
        policy="policies/orders",
    )

    event = refused(alice(), ERROR, about, at=NOON)

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
    event = refused(alice(), ERROR, About(), at=NOON)

    assert (event.subject, event.resources, event.actions, event.grant, event.policy) == ("", (), (), "", "")


def test_control_and_bidi_characters_of_the_caller_do_not_reach_the_record() -> None:
    wild = "a\x1b[2J\u202eb\n"
    about = About(subject=wild, resources=(wild,), actions=(wild,), grant=wild, policy=wild)

    event = refused(alice(), NotEligible(wild), about, at=NOON)

    tame = "a\\u001b[2J\\u202eb\\u000a"
    assert (event.subject, event.resources, event.actions) == (tame, (tame,), (tame,))
    assert (event.grant, event.policy, event.message) == (tame, tame, tame)


def test_a_long_text_of_the_caller_is_cut_and_says_so() -> None:
    event = refused(alice(), ERROR, About(subject="x" * 1025, grant="x" * 1024), at=NOON)

    assert event.subject == "x" * 1024 + "... (1025 characters)"
    assert event.grant == "x" * 1024


def test_at_most_a_hundred_resources_and_actions_are_recorded() -> None:
    names = tuple(f"database/t{index}" for index in range(101))

    event = refused(alice(), ERROR, About(resources=names, actions=names[:100]), at=NOON)

    assert event.resources == names[:100]
    assert event.actions == names[:100]
