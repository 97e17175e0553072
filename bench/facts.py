"""The facts that every candidate loads, and the questions that all of them answer.

Fact n: subject n // 10 may do one of four actions on table n. Half of the questions ask for just that (yes), half ask
it for the subject of another fact (no). Facts and questions depend only on n and the seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from jitaccess.v1 import access_pb2

FACTS: Final = 100_000
QUESTIONS: Final = 10_000
PER_SUBJECT: Final = 10
ACTIONS: Final = ("read", "write", "rows.create", "rows.delete")
POLICIES: Final = 10
SEED: Final = 20260301
CONDITION: Final = 'now > timestamp("2020-01-01T00:00:00Z") && action != "rows.drop"'
"""The check_condition of the last of the policies, so that every tenth fact needs CEL at each question."""


@dataclass(frozen=True)
class Fact:
    """A fact: a subject may do an action on a resource."""

    subject: str
    action: str
    resource: str
    policy: int


@dataclass(frozen=True)
class Question:
    """A question, its right answer, and the fact that it was made from."""

    subject: str
    action: str
    resource: str
    allowed: bool
    fact: Fact


def fact(n: int) -> Fact:
    """Returns the n-th fact, from 0."""
    return Fact(f"user:u{n // PER_SUBJECT}", ACTIONS[n % 4], f"database/d{n % 97}/t{n}", n % POLICIES)


def questions(facts: int = FACTS, count: int = QUESTIONS, seed: int = SEED) -> list[Question]:
    """Returns questions about that many facts; half are answered yes."""
    chosen = random.Random(seed)  # noqa: S311 (no secret)
    return [_question(chosen.randrange(facts), facts, allowed=number % 2 == 0) for number in range(count)]


def _question(n: int, facts: int, *, allowed: bool) -> Question:
    about = fact(n)
    other = fact((n + facts // 2) % facts)
    subject = about.subject if allowed else other.subject
    return Question(subject, about.action, about.resource, allowed, about)


def check_message(question: Question, consistency: int = 0) -> bytes:
    """Returns the question as a CheckAccessRequest."""
    return _request(question, consistency).SerializeToString()


def batch_messages(asked: Sequence[Question], size: int) -> list[bytes]:
    """Returns BatchCheckAccessRequests of `size` questions each, as many as there are questions for, at least one."""
    groups = [asked[at : at + size] for at in range(0, len(asked) - size + 1, size)]
    return [
        access_pb2.BatchCheckAccessRequest(items=[_request(question, 0) for question in group]).SerializeToString()
        for group in groups
    ]


def right_answers(asked: Iterable[Question]) -> list[bool]:
    """Returns the right answer to each question."""
    return [question.allowed for question in asked]


def _request(question: Question, consistency: int) -> access_pb2.CheckAccessRequest:
    return access_pb2.CheckAccessRequest(
        subject=question.subject,
        action=question.action,
        resource=question.resource,
        consistency=consistency,  # type: ignore[arg-type]
    )
