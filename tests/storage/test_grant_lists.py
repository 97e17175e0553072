"""Lists of grants are read by indexes, look at a bounded number of grants, and have each grant once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from jit_service.domain.caller import Caller, Origin
from jit_service.domain.errors import InvalidField, JitError
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.request import Ask
from jit_service.domain.policies.policy import PrincipalSet, Step
from jit_service.storage import Store
from jit_service.storage.readers import grant_lists
from jit_service.use_cases import grants
from jit_service.use_cases.grants import GrantView
from tests.conftest import HOUR, Clock, copy_of
from tests.domain.test_sown_bugs import Twin, sown
from tests.examples import examples
from tests.storage.people import ALICE, AUDITOR, BOB, CAROL, DAVE, add_policy, approve, ask

MARRIED = ALICE._replace(
    principal="user:alice.b@example.com", origin=Origin(issuer="https://idp.example.com", issuer_subject="7")
)
MAIDEN = ALICE._replace(origin=Origin(issuer="https://idp.example.com", issuer_subject="7"))
EVE = ALICE._replace(principal="user:eve@example.com")
WHO = PrincipalSet(groups=("engineering",), principals=(MAIDEN.principal,))
Query = tuple[Caller, GrantView, str, str]


@pytest.fixture(scope="session")
def built(template_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Clock]]:
    """A database to copy, with what `kept` has, and when it was as it is."""
    clock = Clock()
    with copy_of(template_url, tmp_path_factory.mktemp("lists")) as url:
        store = Store(url, clock=clock)
        put_grants(store, clock)
        store.close()
        yield url, clock


def put_grants(store: Store, clock: Clock) -> None:
    for number in range(2):
        add_policy(store, name=f"policies/p{number}", resources=(f"database/p{number}/**",), eligible=WHO)
    for number in range(12):
        by = (MAIDEN, MARRIED, EVE)[number % 3]
        subject = (by, by, by, MAIDEN)[number % 4].principal
        asked = Ask(subject=subject, resources=(f"database/p{number % 2}/eu",), actions=("read",), duration=HOUR)
        grant = grants.ask(store, by, asked).grant
        if number in (1, 4, 6, 8):
            approve(store, grant)
        if number == 6:
            grants.revoke(store, BOB, grant.name, comment="x", etag="")
        if number % 2:
            clock.advance(timedelta(minutes=7))


@pytest.fixture
def kept(built: tuple[str, Clock], clock: Clock, tmp_path: Path) -> Iterator[Store]:
    """Twelve grants under two policies, of one person under two names and of others; some are as old as others."""
    original, then = built
    clock.now = then.now
    with copy_of(original, tmp_path) as url:
        store = Store(url, clock=clock)
        yield store
        store.close()


@contextmanager
def looking_at(most: int) -> Iterator[None]:
    """Bounds what one call looks at to a few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grant_lists, "LOOKED_AT", most)
        patch.setattr(grant_lists, "_FIRST_LOOK", 1)
        yield


def read_through(store: Store, query: Query, *, size: int) -> list[list[Grant]]:
    """Returns every page of the list."""
    by, view, text, order = query
    pages, token = [], ""
    while True:
        page = grants.list_page(
            store, by, view=view, filter_text=text, order_by=order, page_size=size, page_token=token
        )
        assert len(page.grants) <= size
        pages.append(list(page.grants))
        assert len(pages) < 60
        if not (token := page.next_page_token):
            return pages


VIEWS = [
    (MARRIED, GrantView.MINE),
    (DAVE, GrantView.MINE),
    (BOB, GrantView.REVIEWABLE),
    (BOB, GrantView.VISIBLE),
    (MAIDEN, GrantView.VISIBLE),
    (AUDITOR, GrantView.ALL),
    (BOB, GrantView.REVIEW_DEBT),
]
FILTERS = [
    "",
    "state=ACTIVE",
    "state=PENDING",
    "state=REVOKED",
    'policy="policies/p1"',
    f'subject="{MAIDEN.principal}"',
    f'requester="{MARRIED.principal}" state=ACTIVE',
    f'reviewers:"{BOB.principal}"',
    'covers:"database/p1/eu"',
    'create_time>="2026-03-02T12:10:00Z"',
    "-state=PENDING",
]
ORDERS = ["", "create_time", "name", "name desc"]


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    who=st.sampled_from(VIEWS),
    text=st.sampled_from(FILTERS),
    order=st.sampled_from(ORDERS),
    size=st.integers(1, 5),
    most=st.integers(1, 9),
)
def test_pages_have_each_grant_once_however_few_are_looked_at(
    kept: Store, who: tuple[Caller, GrantView], text: str, order: str, size: int, most: int
) -> None:
    (whole,) = read_through(kept, (*who, text, order), size=1000)

    with looking_at(most):
        pages = read_through(kept, (*who, text, order), size=size)

    assert [grant.name for page in pages for grant in page] == [grant.name for grant in whole]


@pytest.mark.parametrize("who", VIEWS)
def test_the_first_is_the_newest(kept: Store, who: tuple[Caller, GrantView]) -> None:
    with looking_at(3):
        found = [grant for page in read_through(kept, (*who, "", ""), size=2) for grant in page]

    assert found == sorted(
        sorted(found, key=lambda grant: grant.name), key=lambda grant: grant.created_at, reverse=True
    )


def test_a_list_has_what_is_there_under_any_name(kept: Store) -> None:
    with looking_at(4):
        found = [grant for page in read_through(kept, (MARRIED, GrantView.MINE, "", ""), size=3) for grant in page]

    assert {grant.requester for grant in found} == {MAIDEN.principal, MARRIED.principal}
    assert len(found) == 8


def test_a_search_that_finds_little_ends_its_page_early(kept: Store) -> None:
    with looking_at(4):
        pages = read_through(kept, (AUDITOR, GrantView.ALL, "labels.team=none", ""), size=2)

    assert pages == [[], [], [], []]


@pytest.mark.parametrize("order", ["expire_time", "subject desc", "policy, create_time"])
def test_an_order_that_would_sort_too_much_is_refused(kept: Store, order: str) -> None:
    with looking_at(4), pytest.raises(InvalidField, match="would sort more than 4 grants"):
        read_through(kept, (AUDITOR, GrantView.ALL, "", order), size=50)
    with looking_at(4):
        (found,) = read_through(kept, (AUDITOR, GrantView.ALL, f'subject="{MARRIED.principal}"', order), size=50)

    assert len(found) == 3


# By which index each documented list is read.


@contextmanager
def explained(store: Store) -> Iterator[dict[str, str]]:
    """The plans of the statements about grants that are run, each where and when it is run."""
    seen: dict[str, str] = {}
    explain = "EXPLAIN QUERY PLAN" if store.engine.dialect.name == "sqlite" else "EXPLAIN"

    def note(connection: Any, _cursor: Any, statement: str, values: Any, *_rest: Any) -> None:
        if "access_grant" in statement:
            plan = connection.connection.cursor().execute(f"{explain} {statement}", values)
            seen[statement] = "\n".join(str(row[-1]) for row in plan.fetchall())

    event.listen(store._reading, "before_cursor_execute", note)
    yield seen
    event.remove(store._reading, "before_cursor_execute", note)


OF_ALL = "access_grant_by_creation"
PLANS: list[tuple[Caller, GrantView, str, str, str]] = [
    (MARRIED, GrantView.MINE, "", "", "access_grant_by_subject_and_creation"),
    (MARRIED, GrantView.MINE, "", "", "access_grant_by_requester"),
    (MARRIED, GrantView.MINE, "state=ACTIVE", "", "access_grant_open_by_requester"),
    (MARRIED, GrantView.MINE, "state=PENDING", "", "access_grant_open_by_subject"),
    (MARRIED, GrantView.MINE, "state=EXPIRED", "create_time", "access_grant_by_subject_and_creation"),
    (BOB, GrantView.REVIEWABLE, "", "", "access_grant_pending_by_policy"),
    (BOB, GrantView.REVIEWABLE, "", "create_time", "access_grant_extending"),
    (CAROL, GrantView.VISIBLE, "", "", "access_grant_by_policy_and_creation"),
    (BOB, GrantView.REVIEW_DEBT, "", "", "access_grant_owing_review"),
    (AUDITOR, GrantView.ALL, "", "", OF_ALL),
    (AUDITOR, GrantView.ALL, "", "create_time", OF_ALL),
    (AUDITOR, GrantView.ALL, 'labels.n=1 covers:"x/y"', "", OF_ALL),
    (AUDITOR, GrantView.ALL, f'subject="{ALICE.principal}"', "", "access_grant_by_subject_and_creation"),
    (AUDITOR, GrantView.ALL, f'requester="{ALICE.principal}"', "", "access_grant_by_requester"),
    (AUDITOR, GrantView.ALL, 'policy="policies/p0"', "", "access_grant_by_policy_and_creation"),
    (AUDITOR, GrantView.ALL, "state=ACTIVE", "", "access_grant_open_by_creation"),
    (AUDITOR, GrantView.ALL, f'subject="{ALICE.principal}" state=PENDING', "", "access_grant_open_by_subject"),
    (AUDITOR, GrantView.ALL, 'reviewers:"user:none@example.com"', "", "review_by_reviewer"),
]


@pytest.mark.parametrize(("by", "view", "text", "order", "index"), PLANS)
def test_a_list_is_read_by_an_index(
    kept: Store, by: Caller, view: GrantView, text: str, order: str, index: str
) -> None:
    with looking_at(2), explained(kept) as seen:
        grants.list_page(kept, by, view=view, filter_text=text, order_by=order, page_size=1, page_token="")

    lines = [line.strip() for plan in seen.values() for line in plan.splitlines()]
    assert not [line for line in lines if line == "SCAN access_grant" or "Seq Scan on access_grant" in line]
    if kept.engine.dialect.name == "sqlite":
        # PostgreSQL takes any of several indexes of a dozen grants.
        assert any(index in line for line in lines), "\n".join(lines)
        assert index == OF_ALL or not any(OF_ALL in line for line in lines), "\n".join(lines)


def test_each_sweep_looks_for_orphans_among_the_grants_that_were_passed_on_alone(kept: Store) -> None:
    """It runs every second: reading all grants for it took 70 ms of each for a hundred thousand."""
    with explained(kept) as seen, kept.snapshot() as snapshot:
        assert snapshot.live_orphans(limit=1) == []

    (plan,) = seen.values()
    if kept.engine.dialect.name == "sqlite":
        # PostgreSQL may read a dozen grants by themselves.
        assert "access_grant_children" in plan or "access_grant_live_child" in plan, plan


@pytest.mark.parametrize("text", ["state=ACTIVE", f'subject="{MAIDEN.principal}"', 'policy="policies/p0"'])
def test_where_the_first_look_fills_the_page_nothing_is_counted(kept: Store, text: str) -> None:
    with explained(kept) as seen:
        page = grants.list_page(
            kept, AUDITOR, view=GrantView.ALL, filter_text=text, order_by="", page_size=1, page_token=""
        )

    assert page.next_page_token
    assert not [statement for statement in seen if "count(" in statement]


@pytest.mark.parametrize("state", ["ACTIVE", "PENDING"])
def test_what_an_approver_sees_is_found_among_many_open_grants_of_other_policies(store: Store, state: str) -> None:
    elsewhere = Step(approvers=PrincipalSet(groups=("others",)))
    add_policy(store)
    add_policy(store, name="policies/others", resources=("database/others/**",), steps=(elsewhere,))
    seen = ask(store)
    if state == "ACTIVE":
        approve(store, seen)
    for _ in range(9):
        ask(store, resource="database/others/eu")

    with looking_at(5):
        found = grants.list_page(
            store, BOB, view=GrantView.VISIBLE, filter_text=f"state={state}", order_by="", page_size=1, page_token=""
        )

    assert ([grant.name for grant in found.grants], found.next_page_token) == ([seen.name], "")


Test = Callable[[Store], None]


def read_all_in_threes(store: Store) -> None:
    query = (MARRIED, GrantView.MINE, "-state=REVOKED", "")
    (whole,) = read_through(store, query, size=1000)
    with looking_at(3):
        assert [grant for page in read_through(store, query, size=2) for grant in page] == whole


TWINS: list[tuple[Twin, Test]] = [
    (Twin("a search ends after its first look", grant_lists.GrantListReader._look, "len(looked) == count",
          "len(looked) > count", lambda: None), read_all_in_threes),
    (Twin("an arm in the wrong order", grant_lists._looked, "found.order_by(*directed(order, keys)).limit(limit)",
          "found.order_by(*keys).limit(limit)", lambda: None), read_all_in_threes),
    (Twin("no list under another name", grant_lists.GrantListReader.list_of, "self.requesters_of(person)", "()",
          lambda: None), test_a_list_has_what_is_there_under_any_name),
    (Twin("any number is sorted", grant_lists.GrantListReader._few, "(_count_all()).one() <= LOOKED_AT",
          "(_count_all()).one() >= 0", lambda: None),
     lambda store: test_an_order_that_would_sort_too_much_is_refused(store, "expire_time")),
]  # fmt: skip


@pytest.mark.parametrize(("twin", "caught_by"), TWINS, ids=lambda value: getattr(value, "name", ""))
def test_no_twin_survives(twin: Twin, caught_by: Test, kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin.function, "__code__", sown(twin))

    with pytest.raises((AssertionError, pytest.fail.Exception, JitError)):
        caught_by(kept)
