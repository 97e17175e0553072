"""The questions that every candidate is asked."""

from __future__ import annotations

from itertools import islice

import pytest

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


@pytest.fixture
def new_questions() -> facts.NewQuestions:
    return facts.NewQuestions(200)


def test_every_second_new_question_is_answered_yes_and_that_is_right(new_questions: facts.NewQuestions):
    everything = known(200)

    for number, one in enumerate(islice(new_questions, 5000)):
        assert ((one.subject, one.action, one.resource) in everything) is one.allowed is (number % 2 == 0)


def test_a_new_question_that_is_answered_no_never_repeats(new_questions: facts.NewQuestions):
    noes = [(one.subject, one.resource) for one in new_questions if not one.allowed]

    assert len(set(noes)) == len(noes) == 200 * 19


def test_a_new_question_that_is_answered_yes_repeats_only_after_all_others(new_questions: facts.NewQuestions):
    yeses = [one.resource for one in islice(new_questions, 800) if one.allowed]

    assert len(set(yeses[:200])) == 200
    assert yeses[:200] == yeses[200:]


def test_the_messages_of_new_questions_are_these_questions(new_questions: facts.NewQuestions):
    messages = facts.NewMessages(new_questions, 200)

    for number in (0, 1, 2, 4001, len(new_questions) - 1):
        sent, one = access_pb2.CheckAccessRequest.FromString(messages[number]), new_questions[number]
        assert (sent.subject, sent.action, sent.resource) == (one.subject, one.action, one.resource)


def test_facts_that_would_not_all_be_asked_for_are_refused():
    with pytest.raises(ValueError, match="cannot be walked"):
        facts.NewQuestions(61_813)
