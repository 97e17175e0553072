"""The facts that every candidate loads, and the questions that all of them answer.

Fact n: subject n // 10 may do one of four actions on table n. Half of the questions ask for just that (yes), half ask
it for the subject of another fact (no). Facts and questions depend only on n and the seed.
"""

from __future__ import annotations

import math
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
_STRIDE: Final = 61_813
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


class NewQuestions(Sequence[Question]):
    """Questions that do not repeat: the even ones are answered yes, the odd ones no.

    There are only as many different yeses as facts. So each comes again, but only after `2 * facts` questions, ten
    times as many as the service remembers at most. A no is a subject and another subject's resource; none comes again
    before a billion others.
    """

    def __init__(self, facts: int = FACTS) -> None:
        if math.gcd(_STRIDE, facts) != 1 or facts < 2 * PER_SUBJECT:
            raise ValueError(f"{facts} facts cannot be walked in steps of {_STRIDE}")
        self._facts = facts

    def __len__(self) -> int:
        return 2 * self._facts * (self._facts // PER_SUBJECT - 1)

    def __getitem__(self, number: int) -> Question:  # type: ignore[override]
        if not 0 <= number < len(self):
            raise IndexError(number)
        subject, n = self.parts(number)
        about = fact(n)
        return Question(f"user:u{subject}", about.action, about.resource, number % 2 == 0, about)

    def parts(self, number: int) -> tuple[int, int]:
        """Returns the number of the subject and of the fact whose action and resource are asked for."""
        lap, step = divmod(number // 2, self._facts)
        n = step * _STRIDE % self._facts
        if number % 2 == 0:
            return n // PER_SUBJECT, n
        # Not the resource of the yes before it, which would still be at hand in every engine.
        n = (n + self._facts // 2) % self._facts
        subjects = self._facts // PER_SUBJECT
        return (n // PER_SUBJECT + 1 + lap % (subjects - 1)) % subjects, n


class NewMessages(Sequence[bytes]):
    """The CheckAccessRequests of NewQuestions, joined from encoded parts, since a message must cost the load little."""

    def __init__(self, asked: NewQuestions, facts: int = FACTS) -> None:
        self._asked = asked
        request = access_pb2.CheckAccessRequest
        known = [fact(n) for n in range(facts)]
        self._subjects = [request(subject=one.subject).SerializeToString() for one in known[::PER_SUBJECT]]
        # The fields of a message may be joined as bytes.
        self._rest = [request(action=one.action, resource=one.resource).SerializeToString() for one in known]

    def __len__(self) -> int:
        return len(self._asked)

    def __getitem__(self, number: int) -> bytes:  # type: ignore[override]
        subject, n = self._asked.parts(number)
        return self._subjects[subject] + self._rest[n]
