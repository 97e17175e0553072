"""Filters and orders in SQL say what they say of the grants themselves, on every database."""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jit_service.domain.grants.grant import Grant
from jit_service.domain.language import filter as filters
from jit_service.domain.language.filter import And, Comparison, Node, Not, Or
from jit_service.domain.language.paging import order_by
from jit_service.storage import Store, grant_list, query
from jit_service.use_cases import grants
from tests.conftest import HOUR, NOON, Clock
from tests.examples import examples
from tests.storage.people import ALICE, BOB, add_policy, approve, ask

EVERY = grant_list.every_grant()
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def value_of(grant: Grant, field: str, now: datetime) -> Any:
    return {
        "state": grant.state(now),
        "subject": grant.subject,
        "policy": grant.policy,
        "create_time": grant.created_at,
        "start_time": grant.starts_at or grant.start_at,
        "expire_time": grant.expires_at,
    }[field]


def holds(node: Node | None, grant: Grant, now: datetime) -> bool:
    """The filter's meaning, judged on the grant itself."""
    match node:
        case None:
            return True
        case And(operands=operands):
            return all(holds(operand, grant, now) for operand in operands)
        case Or(operands=operands):
            return any(holds(operand, grant, now) for operand in operands)
        case Not(operand=operand):
            return not holds(operand, grant, now)
        case Comparison(field="resources", value=value):
            return value in grant.resources
        case Comparison(field="reviewers", value=value):
            return str(value).lower() in {review.reviewer for review in grant.reviews}
        case Comparison(field="labels", key="", value=value):
            return value in grant.labels
        case Comparison(field="labels", key=key, operator=sign, value=value):
            return COMPARE[sign](grant.labels[key], value) if key in grant.labels else sign == "!="
        case Comparison(field=field, operator=sign, value=value):
            mine = value_of(grant, field, now)
            return sign == "!=" if mine is None else COMPARE[sign](mine, value)


INSTANTS = [NOON + step * timedelta(minutes=30) for step in range(6)]
COMPARISONS = st.one_of(
    st.tuples(
        st.just("state"),
        st.sampled_from(["=", "!="]),
        st.sampled_from(["PENDING", "ACTIVE", "EXPIRED", "REVOKED", "SCHEDULED", "LAPSED", "WITHDRAWN"]),
    ),
    st.tuples(
        st.just("subject"),
        st.sampled_from(list(COMPARE)),
        st.sampled_from([f'"{ALICE.principal}"', '"user:Alice@example.com"', '"user:b"']),
    ),
    st.tuples(
        st.sampled_from(["create_time", "start_time", "expire_time"]),
        st.sampled_from(list(COMPARE)),
        st.sampled_from([f'"{instant.isoformat()}"' for instant in INSTANTS]),
    ),
    st.tuples(
        st.just("resources"),
        st.just(":"),
        st.sampled_from(['"database/orders/0"', '"database/orders"', '"DATABASE/orders/0"']),
    ),
    st.tuples(
        st.just("reviewers"),
        st.just(":"),
        st.sampled_from([f'"{BOB.principal}"', f'"{BOB.principal.upper()}"', f'"{ALICE.principal}"', '"bob"']),
    ),
    st.tuples(st.just("labels.n"), st.sampled_from(["=", "!="]), st.sampled_from(["0", "1", "x"])),
    st.tuples(st.just("labels"), st.just(":"), st.sampled_from(["n", "m"])),
).map(" ".join)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        inner.map("NOT ({})".format),
        st.tuples(inner, inner).map(" AND ".join).map("({})".format),
        st.tuples(inner, inner).map(" OR ".join).map("({})".format),
    ),
    max_leaves=5,
)


@pytest.fixture
def varied(store: Store, clock: Clock) -> Store:
    """Grants in every state, at different times."""
    add_policy(store)
    for number in range(9):
        labels = {"n": str(number % 2)} if number % 3 else {}
        start = clock() + 3 * HOUR if number == 4 else None
        grant = ask(store, resource=f"database/orders/{number % 3}", labels=labels, start_at=start, duration=HOUR)
        if number in (1, 2, 4, 7):
            approve(store, grant)
        if number == 2:
            grants.revoke(store, BOB, grant.name, comment="x", etag="")
        if number == 3:
            grants.withdraw(store, ALICE, grant.name, comment="", etag="")
        clock.advance(timedelta(minutes=20))
    return store


@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=FILTERS,
    late=st.sampled_from([timedelta(), HOUR, 9 * HOUR]),
    order=st.sampled_from(["", "expire_time desc", "start_time, subject", "name desc"]),
)
def test_a_filter_in_sql_means_what_it_says(varied: Store, text: str, late: timedelta, order: str) -> None:
    node = filters.parse(text, query.GRANT_FIELDS)
    terms = order_by(order, query.GRANT_ORDER, default="create_time")

    with varied.snapshot() as snapshot:
        snapshot.now += late
        everything = [
            grant for grant, _ in snapshot.grants(EVERY, node=None, order=terms, after=None, limit=100).entries
        ]
        found = snapshot.grants(EVERY, node=node, order=terms, after=None, limit=100).entries
        expected = [grant for grant in everything if holds(node, grant, snapshot.now)]
        assert [grant for grant, _ in found] == expected
        for index, (_, position) in enumerate(found):
            rest = snapshot.grants(EVERY, node=node, order=terms, after=position, limit=100).entries
            assert [grant for grant, _ in rest] == expected[index + 1 :]
