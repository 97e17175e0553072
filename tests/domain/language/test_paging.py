"""Pages, orders and page tokens."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

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


def test_a_field_of_an_order_may_be_written_as_json_has_it() -> None:
    assert order_by("createTime desc", FIELDS, default="name") == order_by("create_time desc", FIELDS, default="name")
    with pytest.raises(InvalidField, match="create_time is there twice"):
        order_by("create_time, createTime desc", FIELDS, default="name")


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


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: page_size(-1), "page_size: is -1; 0 to 1000 are allowed"),
        (
            lambda: order_by("subject, name up", FIELDS, default="name"),
            "order_by: 'name up' is not FIELD or `FIELD desc`",
        ),
        (
            lambda: order_by("x " * 50, FIELDS, default="name"),
            f"order_by: '{'x ' * 40}' is not FIELD or `FIELD desc`",
        ),
        (
            lambda: order_by("e" * 81, FIELDS, default="name"),
            f"order_by: '{'e' * 80}' is not one of create_time, subject, name",
        ),
        (lambda: order_by("subject, subject desc", FIELDS, default="name"), "order_by: subject is there twice"),
        (
            lambda: decode("a" * 8193, query="q", shape=[int]),
            "page_token: has 8193 characters; it is not one that the service gave",
        ),
        (lambda: decode("bad", query="q", shape=[int]), "page_token: is not one that the service gave"),
        (lambda: decode(spelled(["q", "1"]), query="q", shape=[int]), "page_token: is not one that the service gave"),
        (
            lambda: decode(spelled(["p", 1]), query="q", shape=[int]),
            "page_token: belongs to another query; send it with everything else unchanged",
        ),
    ],
)
def test_a_refusal_says_what_is_wrong(refused: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidField) as error:
        refused()

    assert error.value.message == message


def test_what_is_unique_ends_the_order_once() -> None:
    assert order_by("name desc, subject", FIELDS, default="name") == (
        OrderTerm(field="name", descending=True),
        OrderTerm(field="subject"),
    )
    assert order_by("subject", FIELDS, default="name")[-1] == OrderTerm(field="name")


def test_a_token_of_the_longest_length_is_read() -> None:
    text = "a" * 6136
    token = encode((text,), query="q")

    assert len(token) == 8192
    assert decode(token, query="q", shape=[str]) == (text,)


def test_a_token_is_as_short_as_it_can_be_and_stands_in_a_url_as_it_is() -> None:
    assert encode((1, "b?>"), query="q") == "WyJxIiwxLCJiPz4iXQ"


def test_a_digest_is_of_all_parts_each_by_itself() -> None:
    assert len(digest("a")) == 32
    assert digest("a", "b") != digest("ab", "") != digest("", "ab")
