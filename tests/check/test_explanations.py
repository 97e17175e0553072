"""The ended grants that explain a no are kept for whoever was asked about lately, and never more than a bound."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jit_service.check import GrantCache, explanations
from jit_service.check.index import Index
from jit_service.domain.checks.ended_grant import EndedGrant, shorten
from jit_service.storage import Store
from jit_service.storage.grant_decoder import GrantChanged
from jit_service.storage.grant_loader import Delta, HeadState
from jit_service.storage.head import Head as Place
from jit_service.use_cases import grants
from tests.conftest import NOON
from tests.domain.factories import approved, revoke
from tests.storage.people import ALICE, BOB, add_policy, approve, ask

MANY = 1000
BOUND = 50
WHO = ALICE.principal


def subject(number: int) -> str:
    return f"user:{number}@example.com"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Index:
    """Knows of many subjects who had access once."""
    monkeypatch.setattr(explanations, "MAX_KEPT", BOUND)
    index = Index(lambda: NOON)
    ended = frozenset(map(subject, range(MANY)))
    changed = [GrantChanged(f"grants/{n}", subject(n), None, was_access=True) for n in range(MANY)]
    index.apply(Delta(HeadState(Place(1, 1, bytes(32)), NOON), changed, [], [], ended))
    return index


def read(of: str, count: int) -> list[EndedGrant]:
    ended = shorten(revoke(approved()))
    return [ended._replace(name=f"grants/{n}", subject=of) for n in range(count)]


@pytest.mark.parametrize("each", [0, 1, 7])
def test_of_many_subjects_no_more_is_kept_than_the_bound(index: Index, each: int) -> None:
    for number in range(MANY):
        index.past(subject(number), lambda number=number: read(subject(number), each))  # type: ignore[misc]

    known = [known for number in range(MANY) if (known := index.known_past(subject(number))) is not None]
    assert 0 < len(known) <= BOUND
    assert BOUND - each <= sum(len(each_known) or 1 for each_known in known) <= BOUND


def test_who_was_asked_about_lately_is_kept(index: Index) -> None:
    index.past(subject(0), lambda: read(subject(0), 1))

    for number in range(1, MANY):
        index.past(subject(number), lambda number=number: read(subject(number), 1))  # type: ignore[misc]
        assert index.known_past(subject(0)) is not None


def test_the_grants_of_one_subject_are_kept_even_if_they_are_more(index: Index) -> None:
    index.past(subject(1), lambda: read(subject(1), 1))
    index.past(subject(0), lambda: read(subject(0), BOUND + 1))

    assert len(index.known_past(subject(0)) or ()) == BOUND + 1
    assert index.known_past(subject(1)) is None


def test_what_changed_again_and_again_counts_once(index: Index) -> None:
    for revision in range(2, 2 + MANY):
        index.past(subject(0), lambda: read(subject(0), 7))
        changed = [GrantChanged("grants/x", subject(0), None, was_access=True)]
        index.apply(Delta(HeadState(Place(revision, 1, bytes(32)), NOON), changed, [], None))

    index.past(subject(1), lambda: read(subject(1), BOUND - 7))
    index.past(subject(0), lambda: read(subject(0), 7))

    assert len(index.known_past(subject(1)) or ()) == BOUND - 7


def test_nobody_who_had_no_access_is_kept(index: Index) -> None:
    def fail() -> list[EndedGrant]:
        raise AssertionError("the store need not be asked")

    assert index.past("user:stranger@example.com", fail) == ()


def test_what_was_written_of_a_grant_does_not_stay_in_memory(store: Store) -> None:
    """What a requester, its token and a revoker said is most of a grant, and no answer to a check tells it."""
    view = GrantCache(store, clock=store.clock, bound=timedelta(hours=1))
    add_policy(store, check_condition="context.mfa == true")
    grants.revoke(store, BOB, approve(store, ask(store)).name, comment="a very long story", etag="")
    view.strong([WHO])

    (ended,) = view.past(WHO)

    assert isinstance(ended, EndedGrant)
    assert "a very long story" not in repr(ended)
    assert "mfa" not in repr(ended)
    view.stop()
