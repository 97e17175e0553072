"""Messages about a grant, as the delivery makes them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from jit_service.domain.audit.event import Event, EventType, RecordedEvent
from jit_service.domain.grants.grant import (
    Grant,
    GrantState,
    Justification,
    Review,
    ReviewDecision,
    end,
    event,
    start,
)
from jit_service.domain.notification import Message, message_id
from jit_service.domain.policies.policy import PrincipalSet, Step
from tests.conftest import HOUR, NOON
from tests.storage.people import ALICE, BOB

CONSOLE = "https://jit.example.com"
NAME = "grants/0190a6c0-0000-7000-8000-000000000001"
LINK = f"{CONSOLE}/console/{NAME}"
HOSTILE = (
    "<img src=x onerror=alert(1)> <!channel> <@U1> <https://evil.example|click> &amp; *bold* `code` "
    '[a](https://evil.example)\nsecond "line" \u202egnp.exe \x1b[31m \x00 \r\nBcc: eve@evil.example\n.\r\n'
    "www.evil.example javascript:alert(1) ${link} $$ </blockquote></body>"
)
"""What somebody would write who wants to break out of every format."""


def pending(**changes: Any) -> Grant:
    """A request that waits for the owners."""
    facts: dict[str, Any] = {
        "name": NAME,
        "requester": ALICE.principal,
        "requester_groups": ALICE.groups,
        "subject": ALICE.principal,
        "policy": "policies/orders",
        "policy_revision": 1,
        "steps": (Step(approvers=PrincipalSet(groups=("owners",)), display_name="the owners of orders"),),
        "resources": ("database/orders/eu",),
        "actions": ("read",),
        "duration": HOUR,
        "justification": Justification(text="the invoices are wrong", ticket="OPS-7"),
        "created_at": NOON,
        "request_expires_at": NOON + 8 * HOUR,
        "request_ttl": 8 * HOUR,
    }
    return Grant(**(facts | changes))


def approved(grant: Grant, *, at: datetime = NOON + timedelta(minutes=5)) -> Grant:
    review = Review(
        reviewer=BOB.principal, groups=BOB.groups, decision=ReviewDecision.APPROVED, step=0, comment="", at=at
    )
    return start(replace(grant, reviews=(review,)), at)


def revoked(grant: Grant, *, comment: str = "") -> Grant:
    return end(grant, GrantState.REVOKED, by=BOB, comment=comment, now=NOON + timedelta(minutes=9))


def asked(text: str = "the invoices are wrong", **changes: Any) -> Message:
    """What reviewers are told of a request."""
    grant = pending(justification=Justification(text=text, ticket="OPS-7"))
    said = event(EventType.GRANT_REQUESTED, grant, by=ALICE, now=NOON, message=text)
    return about(said, **({"grant": grant} | changes))


def decided(comment: str = "", **changes: Any) -> Message:
    """What they are told of its approval."""
    grant = approved(pending())
    at = NOON + timedelta(minutes=5)
    said = event(EventType.GRANT_APPROVED, grant, by=BOB, now=at, message=comment)
    return about(said, seq=8, grant=grant, **changes)


def about(what: Event, *, seq: int = 7, **changes: Any) -> Message:
    recorded = RecordedEvent(seq=seq, hash=bytes(range(32)), event=what)
    facts: dict[str, Any] = {"id": message_id(seq, recorded.hash), "at": what.at, "recorded": recorded}
    return Message(**(facts | changes))
