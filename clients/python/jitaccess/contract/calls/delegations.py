"""Calls of DelegationService."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from google.protobuf.message import Message

from jitaccess._error import invalid_field
from jitaccess.contract.calls.call import Call, listing, one
from jitaccess.contract.calls.fields import fill, full_name, instant_message, new_request_id, texts, until
from jitaccess.contract.model import Delegation, Page
from jitaccess.v1 import delegation_pb2


def create_delegation(
    delegate: str,
    *,
    policies: str | Iterable[str] = (),
    start_time: datetime | None = None,
    expire_time: datetime | None = None,
    ttl: timedelta | None = None,
    comment: str = "",
    request_id: str | None = None,
) -> Call[Delegation]:
    """Lets the delegate review in the caller's place, until `expire_time` or for `ttl` from its start.

    Without `start_time` it starts at once; without `policies` it is for all that the caller reviews.
    """
    if (expire_time is None) == (ttl is None):
        raise invalid_field("expire_time", "give either expire_time or ttl")
    delegation = fill(
        delegation_pb2.Delegation,
        delegate=delegate,
        policies=[full_name("policies", policy) for policy in texts(policies)],
        start_time=instant_message(start_time, "start_time"),
        expire_time=instant_message(until(expire_time, ttl, start=start_time), "expire_time"),
        comment=comment,
    )
    message = fill(delegation_pb2.CreateDelegationRequest, delegation=delegation, request_id=new_request_id(request_id))
    return _delegation_call("CreateDelegation", message)


def get_delegation(name: str) -> Call[Delegation]:
    """Returns a delegation."""
    message = fill(delegation_pb2.GetDelegationRequest, name=full_name("delegations", name))
    return _delegation_call("GetDelegation", message)


def list_delegations(*, page_size: int = 0) -> Call[Page[Delegation]]:
    """Lists the delegations that the caller gave or has (auditors and admins: all), newest first."""
    return listing(
        "DelegationService/ListDelegations",
        fill(delegation_pb2.ListDelegationsRequest, page_size=page_size),
        delegation_pb2.ListDelegationsResponse,
        Delegation,
        "delegations",
    )


def delete_delegation(name: str, *, etag: str = "", request_id: str | None = None) -> Call[Delegation]:
    """Ends a delegation at once."""
    message = fill(
        delegation_pb2.DeleteDelegationRequest,
        name=full_name("delegations", name),
        etag=etag,
        request_id=new_request_id(request_id),
    )
    return _delegation_call("DeleteDelegation", message)


def _delegation_call(rpc: str, message: Message) -> Call[Delegation]:
    return one(f"DelegationService/{rpc}", message, delegation_pb2.Delegation, Delegation)
