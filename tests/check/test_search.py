"""Search on every database: as fresh as a strong check, of one revision, and using up nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest

from jit_service.check import AuditMode, GrantCache, Recorder, questions
from jit_service.check.holders import Holders
from jit_service.check.search import Searcher, search_query
from jit_service.domain.caller import Caller
from jit_service.domain.checks import search as domain_search
from jit_service.domain.checks.cached_grant import CachedGrant
from jit_service.domain.checks.decision import Question
from jit_service.domain.checks.search import Side, reaches
from jit_service.domain.grants.request import Ask
from jit_service.domain.policies.policy import PrincipalSet
from jit_service.storage import Store
from jit_service.use_cases import grants, policies
from tests import checking
from tests.conftest import HOUR, TICK, Clock
from tests.storage.people import ADMIN, ALICE, GATEWAY, add_policy, ask, policy

RESOURCE = "database/orders/eu"


@pytest.fixture
def searcher(store: Store) -> Iterator[Searcher]:
    view = GrantCache(store, clock=store.clock, bound=timedelta(seconds=1))
    recorder = Recorder(store, AuditMode.COMMITTED)
    yield Searcher(store, view, recorder)
    recorder.stop()
    view.stop()


def who(searcher: Searcher) -> list[str]:
    wanted = search_query(GATEWAY, subject="", action="read", resource=RESOURCE)
    return [found.name for found in searcher.search(GATEWAY, wanted).found]


def where(searcher: Searcher, subject: str = ALICE.principal) -> list[str]:
    wanted = search_query(GATEWAY, subject=subject, action="read", resource="")
    return [found.name for found in searcher.search(GATEWAY, wanted).found]


def test_a_revoked_grant_is_gone_from_the_search_that_begins_after(store: Store, searcher: Searcher) -> None:
    add_policy(store, steps=())
    for _ in range(5):
        grant = ask(store)
        assert (who(searcher), where(searcher)) == ([ALICE.principal], [RESOURCE])

        grants.revoke(store, ADMIN, grant.name, comment="over", etag="")

        assert (who(searcher), where(searcher)) == ([], [])


def test_what_changes_while_the_first_search_looks_at_all_grants_is_found_as_it_is_then(
    store: Store, searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_policy(store, steps=())
    gone, _ = ask(store), where(searcher)
    add = Holders.add

    def add_slowly(holders: Holders, grant: CachedGrant) -> None:
        monkeypatch.setattr(Holders, "add", add)
        add(holders, grant)
        grants.revoke(store, ADMIN, gone.name, comment="over", etag="")
        ask(store, caller=Caller(principal="user:olga@example.com", groups=ALICE.groups))
        # Somebody else's check brings the change into the memory meanwhile.
        assert where(searcher) == []

    monkeypatch.setattr(Holders, "add", add_slowly)

    assert who(searcher) == ["user:olga@example.com"]
    assert who(searcher) == ["user:olga@example.com"]


def test_a_first_search_that_fails_keeps_nothing_for_later(
    store: Store, searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_policy(store, steps=())
    gone, _ = ask(store), where(searcher)
    index = searcher._grants._index

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(Holders, "add", Mock(side_effect=MemoryError))
        who(searcher)
    grants.revoke(store, ADMIN, gone.name, comment="over", etag="")
    assert where(searcher) == []

    assert not index._meanwhile
    assert who(searcher) == []


def test_the_second_search_for_subjects_looks_at_no_grant_of_others(
    store: Store, searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many grants there are: a million took two seconds, at each search."""
    add_policy(store, steps=())
    ask(store)
    ask(store, caller=Caller(principal="user:olga@example.com", groups=ALICE.groups), resource="database/orders/us")
    assert who(searcher) == [ALICE.principal]
    looked_at: list[str] = []
    monkeypatch.setattr(
        domain_search, "reaches", lambda grant, *of: looked_at.append(grant.subject) or reaches(grant, *of)
    )

    assert who(searcher) == [ALICE.principal]
    assert set(looked_at) == {ALICE.principal}


@pytest.mark.parametrize("side", [Side.SUBJECT, Side.RESOURCE])
def test_a_page_judges_what_it_shows_and_one_more(
    store: Store, searcher: Searcher, monkeypatch: pytest.MonkeyPatch, side: Side
) -> None:
    """However many reach the resource, or however much one has: each page of a million took seconds."""
    add_policy(store, steps=())
    for number in range(9):
        if side is Side.SUBJECT:
            ask(store, caller=ALICE._replace(principal=f"user:p{number}@example.com"))
        else:
            ask(store, resource=f"database/orders/r{number}")
    judged: list[Question] = []
    decide = domain_search.decide
    monkeypatch.setattr(domain_search, "decide", lambda asked, **of: judged.append(asked) or decide(asked, **of))
    given = {"subject": "", "resource": RESOURCE} if side is Side.SUBJECT else {"subject": ALICE.principal}
    wanted = search_query(GATEWAY, **{"action": "read", "resource": "", **given})

    found, token = [], ""
    for size in (2, 2, 2, 2, 1):
        judged.clear()
        page = searcher.search(GATEWAY, wanted, page_size=2, page_token=token)
        assert len(page.found) == size
        assert len(judged) == min(3, 9 - len(found))
        found, token = [*found, *page.found], page.next_page_token

    assert token == ""
    assert [one.name.removesuffix("@example.com")[-1] for one in found] == [*map(str, range(9))]


def test_who_has_access_is_found_behind_many_who_reach_the_resource_for_another_action(
    store: Store, searcher: Searcher
) -> None:
    add_policy(store, steps=())
    for number in range(20):
        ask(store, caller=ALICE._replace(principal=f"user:p{number:02}@example.com"))
    last = ALICE._replace(principal="user:zoe@example.com")
    grants.ask(store, last, Ask(subject=last.principal, resources=(RESOURCE,), actions=("rows.read",)))
    wanted = search_query(GATEWAY, subject="", action="rows.read", resource=RESOURCE)

    page = searcher.search(GATEWAY, wanted, page_size=1)

    assert ([one.name for one in page.found], page.next_page_token) == ([last.principal], "")


def test_who_comes_while_uses_are_counted_is_found_too(
    store: Store, searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_policy(store, steps=())
    add_policy(store, name="policies/few", max_uses=5, steps=(), priority=1)

    def give(name: str, action: str, policy: str = "policies/orders") -> None:
        caller = ALICE._replace(principal=f"user:{name}@example.com")
        asked = Ask(subject=caller.principal, resources=(RESOURCE,), actions=(action,), policy=policy)
        grants.ask(store, caller, asked)

    give("a", "read")
    give("y", "rows.read", "policies/few")
    look = GrantCache.reaching

    def look_and_wait(cache: GrantCache, *asked: Any) -> Any:
        monkeypatch.setattr(GrantCache, "reaching", look)
        seen = look(cache, *asked)
        give("b", "read")
        give("z", "rows.read")
        return seen

    monkeypatch.setattr(GrantCache, "reaching", look_and_wait)
    wanted = search_query(GATEWAY, subject="", action="rows.read", resource=RESOURCE)

    page = searcher.search(GATEWAY, wanted, page_size=2)

    assert [one.name for one in page.found] == ["user:y@example.com", "user:z@example.com"]


def test_one_whose_grant_counts_is_found_on_its_page(store: Store, searcher: Searcher) -> None:
    add_policy(store, steps=())
    add_policy(store, name="policies/once", max_uses=1, steps=(), priority=1)
    others = [ALICE._replace(principal=f"user:p{number}@example.com") for number in range(3)]
    for other, counted in zip(others, ("policies/orders", "policies/orders", "policies/once"), strict=True):
        ask(store, caller=other, policy=counted)
    wanted = search_query(GATEWAY, subject="", action="read", resource=RESOURCE)

    found, token = [], ""
    for _ in others:
        page = searcher.search(GATEWAY, wanted, page_size=1, page_token=token)
        found, token = [*found, *page.found], page.next_page_token

    assert [one.name for one in found] == [other.principal for other in others]
    assert token == ""


def test_a_grant_is_found_until_exactly_its_end(store: Store, searcher: Searcher, clock: Clock) -> None:
    add_policy(store, steps=())
    ask(store)

    clock.advance(HOUR - TICK)
    assert (who(searcher), where(searcher)) == ([ALICE.principal], [RESOURCE])
    clock.advance(TICK)
    assert (who(searcher), where(searcher)) == ([], [])


def test_a_grant_that_counts_is_found_until_it_is_used_up_beside_those_that_do_not(
    store: Store, searcher: Searcher
) -> None:
    add_policy(store, max_uses=2, steps=())
    add_policy(store, name="policies/plain", steps=(), priority=1)
    ask(store, policy="policies/orders")
    other = Caller(principal="user:olga@example.com", groups=ALICE.groups)
    ask(store, caller=other, policy="policies/plain")
    question = Question(subject=ALICE.principal, action="read", resource=RESOURCE)

    for _ in range(2):
        assert who(searcher) == [ALICE.principal, other.principal]
        assert where(searcher) == [RESOURCE]
        assert checking.check(store, GATEWAY, question).decision.allowed

    assert who(searcher) == [other.principal]
    assert where(searcher) == []


def test_what_was_passed_on_is_found_only_while_what_it_came_from_is_there(store: Store, searcher: Searcher) -> None:
    add_policy(store, steps=(), max_child_depth=1)
    parent = ask(store)
    child = Ask(subject="service:job", resources=parent.resources, actions=parent.actions, parent=parent.name)
    grants.ask(store, ALICE, child)
    assert who(searcher) == ["service:job", ALICE.principal]

    grants.release(store, ALICE, parent.name, comment="", etag="")

    assert who(searcher) == []


def test_everything_that_is_listed_while_grants_come_and_go_was_allowed_at_its_revision(
    store: Store, searcher: Searcher
) -> None:
    """One of two subjects always has access: a search that mixed revisions would sometimes find neither."""
    add_policy(store, steps=())
    people = [ALICE._replace(principal=f"user:p{number}@example.com") for number in range(2)]
    ends = [ask(store, caller=people[0])]

    def hand_over() -> None:
        for round_ in range(20):
            ends.append(ask(store, caller=people[(round_ + 1) % 2]))
            grants.revoke(store, ADMIN, ends[-2].name, comment="over", etag="")

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(hand_over)
        found = []
        while not done.done():
            found.append(who(searcher))
        done.result()

    assert [] not in found
    assert {name for names in found for name in names} <= {person.principal for person in people}


def test_whoever_searches_for_itself_is_judged_with_its_own_groups(store: Store, searcher: Searcher) -> None:
    add_policy(store, steps=())
    ask(store)
    deny = policy("policies/no", eligible=PrincipalSet(groups=("contractors",)), deny=True, steps=())
    bare = replace(deny, max_duration=timedelta(), default_duration=timedelta(), request_ttl=timedelta())
    policies.create(store, ADMIN, bare)
    contractor = ALICE._replace(groups=frozenset({"contractors"}))

    def own(caller: Caller) -> list[str]:
        wanted = search_query(caller, subject=caller.principal, action="read", resource="")
        return [found.name for found in searcher.search(caller, wanted).found]

    asked = questions.question(contractor, subject=ALICE.principal, action="read", resource=RESOURCE)
    assert own(ALICE) == [RESOURCE]
    assert own(contractor) == []
    assert not checking.check(store, contractor, asked).decision.allowed
