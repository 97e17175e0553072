"""AuthZEN's entities and our names: each way back leads to where it came from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jit_service.domain.errors import InvalidField
from jit_service.rpc.authzen.json_bodies import Entity
from tests.domain.test_sown_bugs import Twin, demand_caught

IDS = ["a", "a/b", "https://h/x", "https://h", "https://h/", "https:/h", "file:///a", "/a", "a//b", "//", "100%", "%25"]
NAMED = st.lists(st.sampled_from(["/", "%", "a", ":", "."]), min_size=1, max_size=6).map("".join)


def named(identifier: str) -> str:
    return Entity(type="t", id=identifier).resource


@pytest.mark.parametrize("identifier", IDS)
def test_a_resource_that_is_found_is_the_one_that_is_asked_about(identifier: str) -> None:
    assert Entity(type="t", id="").resource_of(named(identifier)) == {"type": "t", "id": identifier}


def test_a_segment_is_never_empty() -> None:
    assert all(all(named(identifier).split("/")) for identifier in IDS)
    assert named("https://h/x") == "t/https:/%/h/x"


@pytest.mark.parametrize("identifier", ["%", "a/%", "%/a", "https:/%/h"])
def test_an_id_that_has_what_stands_for_nothing_has_no_name(identifier: str) -> None:
    with pytest.raises(InvalidField):
        named(identifier)


@given(NAMED, NAMED)
def test_no_two_ids_have_one_name(one: str, other: str) -> None:
    try:
        assert (named(one) == named(other)) is (one == other)
    except InvalidField:
        assert "%" in one + other


def test_an_identity_is_a_user_whatever_its_id_looks_like() -> None:
    identity = Entity(type="identity", id="service:deploy")

    assert identity.subject == "user:service:deploy"
    assert Entity(type="identity", id="").subject_of("user:alice") == {"type": "identity", "id": "alice"}


TWINS = [
    Twin(
        "two ids that are one resource",
        Entity.resource.fget,  # type: ignore[attr-defined]
        "_EMPTY in parts",
        "False",
        lambda: test_an_id_that_has_what_stands_for_nothing_has_no_name("https:/%/h"),
    ),
    Twin(
        "a resource that search gives another id",
        Entity.resource_of,
        '"" if part == _EMPTY else part',
        "part",
        lambda: test_a_resource_that_is_found_is_the_one_that_is_asked_about("https://h/x"),
    ),
]


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_no_twin_survives(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    twin.caught_by()
    demand_caught(twin, monkeypatch)
