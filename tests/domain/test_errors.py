"""The tree of refusals: one stable reason for each fact, and none for the branches that only group them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from jit_service.domain import errors
from jit_service.domain.errors import Conflict, InvalidField, JitError, RateExceeded, StaleEtag, WrongState


def descendants(of: type[JitError]) -> Iterator[type[JitError]]:
    for child in of.__subclasses__():
        yield child
        yield from descendants(child)


# Only what is declared here: other modules of a test run may have added classes of their own.
ALL = [error for error in descendants(JitError) if error.__module__ == errors.__name__]
BRANCHES = [error for error in ALL if any(child in ALL for child in error.__subclasses__())]
LEAVES = [error for error in ALL if error not in BRANCHES]


@pytest.mark.parametrize("leaf", LEAVES)
def test_the_reason_of_a_fact_is_its_name(leaf: type[JitError]) -> None:
    assert leaf.reason == re.sub(r"(?<!^)(?=[A-Z])", "_", leaf.__name__).upper()


def test_no_two_facts_share_a_reason() -> None:
    assert len({leaf.reason for leaf in LEAVES}) == len(LEAVES) > 0


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_class_of_facts_has_no_reason(branch: type[JitError]) -> None:
    assert not hasattr(branch, "reason")


@pytest.mark.parametrize("error", ALL)
def test_every_class_says_what_it_means(error: type[JitError]) -> None:
    assert error.__doc__
    assert error.__doc__ != JitError.__doc__


def test_the_tree_that_is_drawn_is_the_tree_that_is() -> None:
    whole = re.sub(r",\n[│ ] +", ", ", errors.__doc__ or "")
    lines = re.findall(r"[├└]── (\w+) +(.+)", whole)

    drawn = {branch: leaves.split(", ") for branch, leaves in lines}

    assert drawn == {
        branch.__name__: [leaf.__name__ for leaf in branch.__subclasses__() if leaf in ALL] for branch in BRANCHES
    }


def test_a_refusal_has_its_message_and_metadata() -> None:
    error = WrongState("grants/g7 is REVOKED, not PENDING", grant="grants/g7", state="REVOKED")

    assert (str(error), error.message) == ("grants/g7 is REVOKED, not PENDING",) * 2
    assert error.metadata == {"grant": "grants/g7", "state": "REVOKED"}


def test_a_fault_names_its_field() -> None:
    error = InvalidField("duration", "is 0s")

    assert (error.message, error.field, error.fault) == ("duration: is 0s", "duration", "is 0s")
    assert error.metadata == {"field": "duration"}


def test_a_fault_within_something_has_the_whole_path() -> None:
    assert InvalidField("name", "is required").within("policies[3]").message == "policies[3].name: is required"
    assert InvalidField("[2]", "is empty").within("items").message == "items[2]: is empty"


def test_the_faults_of_several_fields_are_one_refusal_and_each_alone() -> None:
    second, third = InvalidField("actions", "is empty"), InvalidField("duration", "is 0s")
    whole = InvalidField("name", "is required", more=[second, third])

    assert whole.message == "name: is required (and 2 more)"
    assert [fault.message for fault in whole.each] == ["name: is required", "actions: is empty", "duration: is 0s"]
    assert [fault.message for fault in second.each] == ["actions: is empty"]


def test_the_reasons_of_a_class_are_those_of_the_facts_below_it() -> None:
    assert errors.reasons(StaleEtag) == {"STALE_ETAG"}
    assert errors.reasons(Conflict) == {"STALE_ETAG", "STALE_PLAN", "LOST_RACE", "REQUEST_ID_REUSED"}
    assert errors.reasons() >= {leaf.reason for leaf in LEAVES}


def test_who_calls_too_often_is_told_when_to_call_again() -> None:
    error = RateExceeded("100 calls a second are allowed", retry_after=0.25, principal="user:alice@example.com")

    assert (error.message, error.retry_after) == ("100 calls a second are allowed", 0.25)
    assert error.metadata == {"principal": "user:alice@example.com"}
