"""Coverage in SQL is coverage by the matcher that decides, on every database."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import JSON, literal, select
from sqlalchemy.dialects.postgresql import JSONB

from jit_service.domain.audit.audit_filter import matches
from jit_service.domain.audit.event import Event, EventType, RecordedEvent
from jit_service.domain.language.filter import Comparison
from jit_service.storage import Store, coverage
from jitaccess.naming import names
from tests import compiled_sql
from tests.conftest import NOON
from tests.examples import examples

SEGMENTS = ("a", "b", "ab", "a-", "A", "é", "[a]", "a?b", "a_b", "a%b", "a\\b", "axb")
RESOURCE_ENDS = (*SEGMENTS, "*", "a*", "ab*", "a-*", "[*", "a?*", "a_*", "a%*", "**")
names_of_resources = st.builds(
    lambda kind, inner, last: "/".join([kind, *inner, last]),
    st.sampled_from(["t", "s", "*", "t*"]),
    st.lists(st.sampled_from(RESOURCE_ENDS[:-1]), max_size=3),
    st.sampled_from(RESOURCE_ENDS),
) | st.just("**")
names_of_actions = names_of_resources.map(lambda text: text.replace("/", ".")).filter(
    lambda text: not set("[]?%\\") & set(text)
)
# What the record of a refused call may hold.
ANYTHING = st.lists(st.sampled_from(["a", "b", "/", ".", "*", "**", "?", "[", "\\", "%", "_"]), max_size=6).map("".join)


def is_covered_in_sql(store: Store, held: list[str], name: str, separator: str) -> bool:
    kind = JSONB() if store.engine.dialect.name == "postgresql" else JSON()
    with store.engine.connect() as connection:
        found = connection.execute(select(coverage.covers(literal(held, kind), name, separator))).scalar_one()
    return bool(found)


def is_covered(held: list[str], name: str, field: str) -> bool:
    lists: dict[str, Any] = {{"covers": "resources", "covers_action": "actions"}[field]: tuple(held)}
    event = replace(Event(type=EventType.CALL_REFUSED, at=NOON, principal=""), **lists)
    return matches(Comparison(field, "", ":", name), RecordedEvent(seq=1, hash=b"", event=event))


def test_sql_covers_what_the_matcher_covers(store: Store) -> None:
    @settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        held=st.lists(names_of_resources | ANYTHING, max_size=3),
        name=names_of_resources.map(names.resource_pattern),
        action=names_of_actions.map(names.action_pattern),
    )
    def agree(held: list[str], name: str, action: str) -> None:
        assert is_covered_in_sql(store, held, name, "/") == is_covered(held, name, "covers"), json.dumps([held, name])
        verbs = [text.replace("/", ".") for text in held]
        assert is_covered_in_sql(store, verbs, action, ".") == is_covered(verbs, action, "covers_action")

    agree()


@pytest.mark.parametrize(
    "sown",
    [
        "{depth_of_held} = {depth_of_wanted}",
        "(held GLOB '*[*][*]' OR wanted NOT GLOB '*[*][*]')",
        "(right(held, 2) = '**' OR right(wanted, 2) <> '**')",
    ],
)
def test_the_examples_notice_a_condition_that_is_gone(store: Store, sown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dialect = "_POSTGRESQL" if store.engine.dialect.name == "postgresql" else "_SQLITE"
    sound = getattr(coverage, dialect)
    if sown not in sound:
        pytest.skip("the other database's")
    monkeypatch.setattr(coverage, dialect, sound.replace(sown, "1 = 1"))

    with compiled_sql.none(), pytest.raises(AssertionError):
        test_a_star_does_not_reach_over_a_separator(store)


def test_a_star_does_not_reach_over_a_separator(store: Store) -> None:
    for pattern, name, meant in (
        ("t/*", "t/a", True),
        ("t/*", "t/a/b", False),
        ("t/a*/b", "t/ax/b", True),
        ("t/a*/b", "t/ax/y/b", False),
        ("t/a*/b/**", "t/ax/y/b/c", False),
        ("t/**", "t/a/b", True),
        ("t/**", "t/**", True),
        ("t/**", "t/a*/**", True),
        ("t/*", "t/**", False),
        ("t/*/*", "t/a", False),
        ("t/*/**", "t/a", False),
        ("t/**", "tt/a", False),
        ("**", "t/a", True),
        ("t/A", "t/a", False),
        ("t/a_b", "t/axb", False),
        ("t/a*b", "t/axb", False),
    ):
        assert is_covered_in_sql(store, [pattern], name, "/") is meant, (pattern, name)
        assert is_covered([pattern], name, "covers") is meant, (pattern, name)
