"""Pages, orders and page tokens."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jit_service.domain.errors import InvalidField
from jit_service.domain.language.paging import OrderTerm, decode, digest, encode, order_by, page_size

FIELDS = ("create_time", "subject", "name")


@pytest.mark.parametrize(("requested", "size"), [(0, 50), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)])
def test_a_page_has_50_by_default_and_1000_at_most(requested: int, size: int) -> None:
    assert page_size(requested) == size


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidField):
        page_size(-1)


def test_an_order_ends_with_what_is_unique() -> None:
    assert order_by("", FIELDS, default="create_time desc") == (
        OrderTerm(field="create_time", descending=True),
        OrderTerm(field="name"),
    )
    assert order_by(" subject asc , name desc", FIELDS, default="name") == (
        OrderTerm(field="subject"),
        OrderTerm(field="name", descending=True),
    )


@pytest.mark.parametrize("text", ["etag", "subject up", "subject,", ",", "subject, subject desc", "subject desc desc"])
def test_a_wrong_order_is_refused(text: str) -> None:
    with pytest.raises(InvalidField):
        order_by(text, FIELDS, default="name")


POSITIONS = st.lists(
    st.integers(min_value=-(2**63) + 1, max_value=2**63 - 1) | st.text(st.characters(exclude_characters="\0"))
).map(tuple)


@given(POSITIONS)
def test_a_token_gives_its_position_back(position: tuple[int | str, ...]) -> None:
    shape = [type(value) for value in position]

    token = encode(position, query="q")

    assert decode(token, query="q", shape=shape) == position


@given(st.text(max_size=300))
def test_a_made_up_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidField):
        decode(text, query="q", shape=[int])


def spelled(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "value",
    [
        [],
        ["q"],
        [1, 1],
        {"q": 1},
        ["q", "1"],
        ["q", True],
        ["q", 1.5],
        ["q", None],
        ["q", 1, 2],
        ["q", 2**63],
        ["q", [1]],
    ],
)
def test_a_token_of_another_shape_is_refused(value: object) -> None:
    with pytest.raises(InvalidField):
        decode(spelled(value), query="q", shape=[int])


def test_a_token_with_a_nul_or_too_long_is_refused() -> None:
    for token in (spelled(["q", "a\0b"]), spelled(["q", "a" * 9000])):
        with pytest.raises(InvalidField):
            decode(token, query="q", shape=[str])


def test_a_token_of_another_query_is_refused() -> None:
    with pytest.raises(InvalidField, match="another query"):
        decode(encode((1,), query=digest("a", "b")), query=digest("ab", ""), shape=[int])
