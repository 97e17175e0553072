"""What a batch may write: its shared context once, so that a small body leaves no large log (invariant I33)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson

from jit_service.check import questions
from jit_service.domain.errors import InvalidField
from jit_service.storage import SharedContexts
from tests.domain.test_sown_bugs import Twin, sown
from tests.stories.test_authzen import answer, call, question
from tests.world import ACCESS, Story

NOTE = "x" * 15_000


def recorded(story: Story) -> list[Any]:
    return story.audit(f'principal = "{story.alice.principal}"')


def size_of(records: list[Any]) -> int:
    return sum(len(MessageToJson(record)) for record in records)


def test_a_batch_of_many_items_records_their_shared_context_once(story: Story) -> None:
    body = question(story, context={"note": NOTE}, evaluations=[{} for _ in range(100)])

    answer(story, "EvaluateAll", body, by=story.alice)

    records = recorded(story)
    assert len(records) == 100
    assert records[0].context["note"] == NOTE
    assert {record.context_of for record in records[1:]} == {records[0].decision_id}
    assert not any(record.HasField("context") for record in records[1:])
    # 16 KB came with a thousand items once, and the log had grown by 16.5 MB.
    assert size_of(records) < 100 * 1500 + len(NOTE)


def test_items_that_are_refused_write_no_more_than_others(story: Story) -> None:
    odd = {"resource": {"type": "database", "id": "../orders"}}
    body = question(story, context={"note": NOTE}, evaluations=[odd for _ in range(100)])

    answer(story, "EvaluateAll", body, by=story.alice)

    records = recorded(story)
    assert {record.decision for record in records} == {"REFUSED"}
    assert size_of(records) < 100 * 1500 + len(NOTE)


def test_checks_that_count_share_their_context_too(story: Story) -> None:
    story.create_policy(maxUses=100)
    story.granted()
    body = question(story, context={"note": NOTE}, evaluations=[{} for _ in range(20)])

    told = answer(story, "EvaluateAll", body, by=story.alice)

    assert all(one["decision"] for one in told["evaluations"])
    checks = [record for record in recorded(story) if record.decision_id]
    assert {record.context_of for record in checks[1:]} == {checks[0].decision_id}


def test_each_context_of_its_own_is_recorded(story: Story) -> None:
    items = [{"context": {"note": f"{number}" * 100}} for number in range(3)]

    answer(story, "EvaluateAll", question(story, evaluations=items), by=story.alice)

    assert [record.context["note"] for record in recorded(story)] == [f"{number}" * 100 for number in range(3)]


def test_the_contexts_of_a_batch_are_bounded_together(story: Story) -> None:
    items = [{"context": {"note": f"{number}" + NOTE}} for number in range(5)]

    outcome = call(story, "EvaluateAll", question(story, evaluations=items), by=story.alice)

    assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", ("context",))
    assert "at most 65536 are allowed" in outcome.text


def test_the_same_bound_holds_for_a_batch_of_checks(story: Story) -> None:
    item = story.question()
    items = [item | {"context": {"note": f"{number}" + NOTE}} for number in range(5)]

    outcome = story.call(story.alice, ACCESS + "BatchCheckAccess", {"items": items})

    assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", ("context",))


@pytest.mark.parametrize(("count", "is_taken"), [(questions.MAX_CONTEXTS, True), (questions.MAX_CONTEXTS + 1, False)])
def test_the_bound_is_exact_and_counts_what_is_the_same_once(count: int, is_taken: bool) -> None:
    around = len(json.dumps({"a": ""}, separators=(",", ":")))
    contexts = [{"a": "x" * (count - around)}] * 3

    if is_taken:
        questions.demand_bounded(contexts)
    else:
        with pytest.raises(InvalidField):
            questions.demand_bounded(contexts)


TWINS: list[tuple[Twin, Callable[[Story], None]]] = [
    (
        Twin(
            "a context in each record",
            SharedContexts.first_of,
            'return "" if first == decision_id else first',
            'return ""',
            lambda: None,
        ),
        test_a_batch_of_many_items_records_their_shared_context_once,
    ),
    (
        Twin("any number of contexts", questions.demand_bounded, "if size > MAX_CONTEXTS:", "if False:", lambda: None),
        test_the_contexts_of_a_batch_are_bounded_together,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("twin", "caught_by"), TWINS, ids=lambda value: getattr(value, "name", ""))
def test_no_twin_survives(
    twin: Twin, caught_by: Callable[[Story], None], story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twin.function, "__code__", sown(twin))

    with pytest.raises((AssertionError, ValueError)):
        caught_by(story)
