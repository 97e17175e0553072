"""docs/limits.md is true: its settings are there with these defaults, and its errors are errors of the service."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jit_service.check import checker, questions
from jit_service.domain import errors
from jit_service.domain.conditions import context
from jit_service.domain.policies import policy
from jit_service.rpc import admission
from jit_service.rpc.message_size import MAX_PAGE_BYTES
from jit_service.runtime import sweeper
from jit_service.settings import Settings
from jit_service.storage.rows import MAX_RECORD
from jit_service.use_cases import past_access, unauthenticated_calls

PAGE = (Path(__file__).parent.parent / "docs" / "limits.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line.startswith("| ")]
SETTINGS = [row for row in ROWS if len(row) == 4 and "`JIT_" in row[2]]


def leaves(kind: type[errors.JitError] = errors.JitError) -> set[str]:
    below = [child for child in kind.__subclasses__() if child.__module__ == kind.__module__]
    return set().union(*map(leaves, below)) if below else {kind.reason}


def default_of(variable: str) -> float:
    return float(Settings.model_fields[variable.removeprefix("JIT_").lower()].default)


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row[2])
def test_each_setting_has_the_default_that_the_table_says(row: list[str]) -> None:
    assert default_of(row[2].strip("`")) == float(row[1].replace(",", ""))


def test_the_table_has_every_bound_that_is_a_setting() -> None:
    bounds = {name for name in Settings.model_fields if re.match(r"max_|watch_streams|.*_per_second|http_rate", name)}
    told = {row[2].strip("`").removeprefix("JIT_").lower() for row in SETTINGS}

    assert bounds - told == {"max_token_lifetime", "max_grant_token_lifetime"}


def test_each_error_of_the_table_is_one_of_the_service() -> None:
    told = set(re.findall(r"`([A-Z_]{4,})`", " ".join(row[-1] for row in ROWS)))

    assert told - {"INVALID_FIELD"} <= leaves()
    assert "INVALID_FIELD" in leaves()
    assert {"RATE_EXCEEDED", "TOO_MANY_PENDING", "TOO_MANY_CHILDREN", "TOO_MANY_DELEGATIONS"} <= told


def test_what_is_fixed_is_what_the_table_says() -> None:
    fixed = {row[0]: row[1] for row in ROWS if len(row) == 3}

    assert fixed["items of a batch"] == f"{checker.MAX_ITEMS:,}"
    names, size = context.MAX_NAMES, context.MAX_CHARACTERS >> 10
    assert fixed["context of a request or a check"] == f"{names} names, {size} KiB of JSON"
    assert (
        fixed["context of a batch, with equal contexts counted once"] == f"{questions.MAX_CONTEXTS >> 10} KiB of JSON"
    )
    assert fixed["a record of the audit log"] == f"{MAX_RECORD >> 10} KiB"
    assert fixed["a page of a list"] == f"{MAX_PAGE_BYTES / 1e6:g} MB"
    assert fixed["answers to `request_id`s"] == f"kept for {sweeper.KEPT.total_seconds() / 3600:g} hours"
    assert fixed["a question about the past (`read_time`)"] == f"counts as {admission.PAST_WEIGHT} checks"
    assert fixed["grants that one answer about the past judges"] == f"{past_access.MAX_JUDGED:,}"
    samples = f"{unauthenticated_calls.MAX_SAMPLES} a second in all"
    assert samples in fixed["records of callers without a valid token"]
    assert unauthenticated_calls.INTERVAL.total_seconds() == 1


def test_the_policys_own_bounds_are_as_the_table_says() -> None:
    [unreviewed] = [row for row in ROWS if "max_unreviewed" in row[2]]

    assert int(unreviewed[1]) == policy.DEFAULT_UNREVIEWED
