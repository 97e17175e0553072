"""The questions that every candidate is asked."""

from __future__ import annotations

from bench import facts
from jitaccess.v1 import access_pb2


def known(count: int) -> set[tuple[str, str, str]]:
    return {(one.subject, one.action, one.resource) for one in map(facts.fact, range(count))}


def test_half_of_the_questions_are_answered_yes():
    assert sum(question.allowed for question in facts.questions(1000, 200)) == 100


def test_a_question_is_answered_yes_exactly_when_it_is_a_fact():
    everything = known(1000)

    for one in facts.questions(1000, 500):
        assert ((one.subject, one.action, one.resource) in everything) is one.allowed


def test_the_questions_are_the_same_in_each_run():
    assert facts.questions(1000, 50) == facts.questions(1000, 50)


def test_a_batch_holds_its_questions_in_order():
    asked = facts.questions(1000, 20)

    first, second = map(access_pb2.BatchCheckAccessRequest.FromString, facts.batch_messages(asked, 10))

    assert [item.resource for item in (*first.items, *second.items)] == [one.resource for one in asked]
