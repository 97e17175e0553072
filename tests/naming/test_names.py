"""The table of names that is documentation too: the service and the client answer as it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jit_service.domain.errors import InvalidField
from jit_service.domain.language import name
from jitaccess._error import named
from jitaccess.errors import InvalidArgument
from jitaccess.naming import names as client
from tests.names import PAGE, Example, examples

SERVICE = {
    "resource": name.resource,
    "resource pattern": name.resource_pattern,
    "action": name.action,
    "action pattern": name.action_pattern,
    "group": name.group,
    "principal": name.principal,
}
CLIENT = {
    "resource": partial(named, client.resource),
    "resource pattern": partial(named, client.resource_pattern),
    "action": partial(named, client.action),
    "action pattern": partial(named, client.action_pattern),
    "principal": partial(named, client.principal),
}
EXAMPLES = examples()


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_the_service_judges_a_name_as_the_table_says(example: Example) -> None:
    if not example.fault:
        assert SERVICE[example.kind](example.name, "f") == example.canonical
        return
    with pytest.raises(InvalidField) as refused:
        SERVICE[example.kind](example.name, "f")
    assert example.fault in refused.value.message
    assert refused.value.message.isascii()


@pytest.mark.parametrize("example", [one for one in EXAMPLES if one.kind in CLIENT], ids=str)
def test_the_client_judges_a_name_as_the_table_says(example: Example) -> None:
    check = CLIENT[example.kind]
    if not example.fault:
        assert check(example.name, "f") == example.canonical
        return
    with pytest.raises(InvalidArgument) as refused:
        check(example.name, "f")
    assert example.fault in refused.value.message


def test_the_table_is_read_to_its_end() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "`" in line]

    assert len(rows) == len(EXAMPLES) == len(set(EXAMPLES)) >= 150
    kinds = Counter(example.kind for example in EXAMPLES)
    assert kinds.keys() == SERVICE.keys()
    assert min(kinds.values()) >= 20
    assert sum(1 for example in EXAMPLES if example.fault) >= 100


ODD = st.text(
    st.sampled_from('ab1A./*%2Ee\\ :-_~"#?|;\u0430\u0440\u0301\u200b\u09ea\uff0f\u2025\u2460日ー№\ufe0f')
    | st.characters(),
    max_size=10,
)


@given(text=ODD, prefix=st.sampled_from(("", "db/", "http/h/", "user:")))
def test_the_client_judges_any_name_as_the_service_does(text: str, prefix: str) -> None:
    for kind, check in CLIENT.items():
        assert _told(check, prefix + text) == _told(SERVICE[kind], prefix + text), kind


def _told(check: Callable[..., str], text: str) -> str | None:
    try:
        return check(text, "f")
    except (InvalidArgument, InvalidField):
        return None
