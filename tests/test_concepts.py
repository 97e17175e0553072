"""docs/concepts.md: its pictures have the states and the moves that the contract and the domain have."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import pytest

from jit_service.domain.grants.grant import ExtensionState, GrantState
from jit_service.domain.policies.proposal import ProposalState
from jit_service.rpc.authorization import RULES
from tests.domain.grants.test_grant import ACTS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "concepts.md"
_PICTURE = re.compile(r"```mermaid\nstateDiagram-v2\n(.+?)```", re.DOTALL)
_ARROW = re.compile(r"^  (\S+) --> (\w+|\[\*\])(?:: (.+))?$")
# A row of the glossary whose word is a name of the code, and where it is.
_NAMED = re.compile(r"^\| `(\w+)` \| .+ \| `(\S+\.py)` \|$", re.MULTILINE)
_RPC = re.compile(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)+\b")
KINDS: tuple[type[StrEnum], ...] = (GrantState, ExtensionState, ProposalState)


class Arrow(NamedTuple):
    source: str
    target: str
    label: str


def pictures() -> list[list[Arrow]]:
    found = _PICTURE.findall(PAGE.read_text(encoding="utf-8"))
    return [[Arrow(*_parts(line)) for line in picture.splitlines()] for picture in found]


def _parts(line: str) -> tuple[str, str, str]:
    arrow = _ARROW.match(line)
    assert arrow, f"no arrow: {line}"
    return arrow[1], arrow[2], arrow[3] or ""


def test_each_picture_has_every_state_of_its_kind_and_no_other() -> None:
    drawn = [{state for arrow in picture for state in arrow[:2]} - {"[*]"} for picture in pictures()]

    assert drawn == [{state.value for state in kind} for kind in KINDS]


def test_nothing_leads_out_of_a_final_state() -> None:
    grants = pictures()[0]
    final = {arrow.source for arrow in grants if arrow.target == "[*]"}

    assert final == {"EXPIRED", "REVOKED", "RELEASED", "DENIED", "WITHDRAWN", "LAPSED"}
    assert not [arrow for arrow in grants if arrow.source in final and arrow.target != "[*]"]


@pytest.mark.parametrize(
    ("rpc", "act"),
    [
        ("ApproveGrant", "approve"),
        ("DenyGrant", "deny"),
        ("WithdrawGrant", "withdraw"),
        ("RevokeGrant", "revoke"),
        ("ReleaseGrant", "release"),
    ],
)
def test_a_call_moves_a_grant_from_the_states_that_the_domain_lets_it(rpc: str, act: str) -> None:
    from_states = {arrow.source for arrow in pictures()[0] if rpc in _RPC.findall(arrow.label)}

    assert from_states == {state.value for state in ACTS[act][1]}


def test_every_call_that_is_drawn_is_one_of_the_contract() -> None:
    drawn = {rpc for picture in pictures() for arrow in picture for rpc in _RPC.findall(arrow.label)}

    assert drawn
    assert drawn <= {method.rpartition("/")[2] for method in RULES}


@pytest.mark.parametrize(("name", "file"), _NAMED.findall(PAGE.read_text(encoding="utf-8")))
def test_a_name_of_the_glossary_is_a_class_where_it_says(name: str, file: str) -> None:
    assert re.search(rf"^class {name}\b", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
