"""Answers as the service gives them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from jitaccess.v1 import grant_pb2, policy_pb2

FULL_ID = "abcdefghijklmnopqrstuvwxyz"


def instant(at: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(at)
    return message


def soon(**distance: float) -> Timestamp:
    """Returns an instant that far from now; a second more, so that what is left does not round below it."""
    return instant(datetime.now(UTC) + timedelta(**distance) + timedelta(seconds=1))


def grant(identifier: str = FULL_ID, **fields: Any) -> grant_pb2.Grant:
    """Returns a pending grant as a reviewer meets it, with some fields changed."""
    message = grant_pb2.Grant(
        name=f"grants/{identifier}",
        state=grant_pb2.Grant.PENDING,
        requester="user:alice@example.com",
        subject="user:alice@example.com",
        policy="policies/orders-write",
        policy_revision=3,
        resources=["database/orders/eu"],
        actions=["read", "write"],
        duration=Duration(seconds=5400),
        justification=grant_pb2.Justification(text="repair order 7", ticket="OPS-1"),
        create_time=soon(minutes=-5),
        request_expire_time=soon(minutes=42),
        steps=[step("owners of the data", needed=1, remaining=1)],
        etag="etag-1",
        revision=12,
    )
    for name in fields:
        message.ClearField(name)  # type: ignore[arg-type]
    message.MergeFrom(grant_pb2.Grant(**fields))
    return message


def step(display_name: str, *, needed: int, remaining: int) -> grant_pb2.StepStatus:
    return grant_pb2.StepStatus(
        display_name=display_name,
        approvers=policy_pb2.PrincipalSet(groups=["database-owners"]),
        approvals_needed=needed,
        approvals_remaining=remaining,
    )


def active(identifier: str = FULL_ID, **fields: Any) -> grant_pb2.Grant:
    """Returns a grant that runs."""
    running: dict[str, Any] = {
        "state": grant_pb2.Grant.ACTIVE,
        "steps": [],
        "approve_time": soon(minutes=-1),
        "start_time": soon(minutes=-1),
        "expire_time": soon(minutes=42),
    }
    return grant(identifier, **(running | fields))


def listed(*grants: grant_pb2.Grant, next_page_token: str = "") -> grant_pb2.ListGrantsResponse:
    return grant_pb2.ListGrantsResponse(grants=grants, next_page_token=next_page_token)
