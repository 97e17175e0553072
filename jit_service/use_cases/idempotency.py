"""request_id (AIP-155): the same request sent again has the same answer, and nothing happens twice."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

from pydantic import TypeAdapter

from jit_service.domain.caller import Caller
from jit_service.domain.errors import RequestIdReused
from jit_service.storage import Transaction
from jit_service.storage.readers.replays import Replay

Answer = TypeVar("Answer")


def answered_before(tx: Transaction, caller: Caller, answers: TypeAdapter[Answer]) -> tuple[Answer, datetime] | None:
    """Returns the answer that this very request had, with its instant, or None where it is new.

    The caller must be authorised again before it is given the answer. Raises RequestIdReused where the request_id
    stands for another request or came from another principal.
    """
    request_id = caller.origin.request_id
    earlier = tx.replay(request_id) if request_id else None
    if earlier is None:
        return None
    if (earlier.principal, earlier.digest) != (caller.principal, caller.request_digest):
        raise RequestIdReused(f"request_id {request_id} was used for another request; choose a new one")
    return answers.validate_json(earlier.answer), earlier.answered_at


def remember(tx: Transaction, caller: Caller, answers: TypeAdapter[Answer], answer: Answer) -> tuple[Answer, datetime]:
    """Keeps the answer under the caller's request_id, if it sent one. Returns it with the instant of the answer."""
    if caller.origin.request_id:
        replay = Replay(
            principal=caller.principal,
            digest=caller.request_digest,
            answered_at=tx.now,
            answer=answers.dump_json(answer).decode(),
        )
        tx.remember(caller.origin.request_id, replay)
    return answer, tx.now
