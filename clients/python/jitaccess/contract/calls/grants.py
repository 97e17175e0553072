"""Calls of GrantService: requests, decisions and the end of grants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TypeVar, Unpack

from google.protobuf.message import Message

from jitaccess._error import invalid_field
from jitaccess.contract.calls.call import Call, listing, one
from jitaccess.contract.calls.fields import (
    duration_message,
    etag_of,
    fill,
    full_name,
    grant_name,
    instant_message,
    new_request_id,
    struct_message,
    texts,
)
from jitaccess.contract.calls.options import AccessOptions, with_options
from jitaccess.contract.model import Grant, GrantEvent, Page, RevocationPlan, View
from jitaccess.v1 import grant_pb2

M = TypeVar("M", bound=Message)


@with_options
def request(
    resources: str | Iterable[str],
    actions: str | Iterable[str],
    *,
    validate_only: bool = False,
    **options: Unpack[AccessOptions],
) -> Call[Grant]:
    """Asks for access and returns the grant: ACTIVE or SCHEDULED where no approval is needed, else PENDING.

    Without `duration` the policy's default applies; without `policy` the first policy that covers the request; without
    `subject` it is for the caller. `start_time` is aware. Conditions may read `context`, which JSON can hold.
    The grant allows `max_uses` checks; with 0, as many as the policy allows. `break_glass` takes access at once, as the
    policy allows in an emergency, and a review is due afterwards. With `parent`, one's own active grant is passed on.
    With `validate_only` nothing is requested: the grant that is returned has a `preview` and no name.
    """
    fields = _fields(resources, actions, options)
    return _grant_call("RequestGrant", fill(grant_pb2.RequestGrantRequest, validate_only=validate_only, **fields))


@with_options
def ensure(
    resources: str | Iterable[str], actions: str | Iterable[str], **options: Unpack[AccessOptions]
) -> Call[Grant]:
    """Returns the live grant or pending request that already covers this, else requests it as `request` does.

    With `duration`, it must have been granted or requested for at least that long; `expire_time` says what is left.
    """
    return _grant_call("EnsureGrant", fill(grant_pb2.EnsureGrantRequest, **_fields(resources, actions, options)))


def get_grant(name: str) -> Call[Grant]:
    """Returns one grant."""
    return _grant_call("GetGrant", fill(grant_pb2.GetGrantRequest, name=grant_name(name)))


def list_grants(
    *, view: View | str = View.MINE, filter: str = "", order_by: str = "", page_size: int = 0
) -> Call[Page[Grant]]:
    """Lists the grants of a view, newest first unless `order_by` says otherwise.

    `filter` and `order_by` are those of AIP-160 and AIP-132; `page_size` 0 leaves it to the service.
    """
    message = fill(
        grant_pb2.ListGrantsRequest,
        view=view_number(view),
        filter=filter,
        order_by=order_by,
        page_size=page_size,
    )
    return listing("GrantService/ListGrants", message, grant_pb2.ListGrantsResponse, Grant, "grants")


def approve(
    grant: Grant | str,
    *,
    comment: str = "",
    duration: timedelta | None = None,
    resources: str | Iterable[str] = (),
    actions: str | Iterable[str] = (),
    start_time: datetime | None = None,
    extension_round: int = 0,
    validate_only: bool = False,
    etag: str | None = None,
    request_id: str | None = None,
) -> Call[Grant]:
    """Approves the current step of a pending grant. A Grant that has changed since it was read is refused (Aborted).

    More time is approved only by the Grant that was read, its etag, or its `extension_round`. What is given of
    `duration`, `resources`, `actions` and `start_time` narrows the access: shorter, less, or later.
    With `validate_only` nothing is decided: the grant is returned as it would be, or what would refuse it is raised.
    """
    message = _decision(grant_pb2.ApproveGrantRequest, grant, comment, etag, request_id)
    message.MergeFrom(fill(grant_pb2.ApproveGrantRequest, extension_round=extension_round, validate_only=validate_only))
    _add_terms(message, duration, resources, actions, start_time)
    return _grant_call("ApproveGrant", message)


def deny(
    grant: Grant | str,
    *,
    comment: str = "",
    extension_round: int = 0,
    validate_only: bool = False,
    etag: str | None = None,
    request_id: str | None = None,
) -> Call[Grant]:
    """Denies a pending grant, for good. A Grant that has changed since it was read is refused (Aborted).

    More time is denied only by the Grant that was read, its etag, or its `extension_round`.
    With `validate_only` nothing is decided: the grant is returned as it would be, or what would refuse it is raised.
    """
    message = _decision(grant_pb2.DenyGrantRequest, grant, comment, etag, request_id)
    message.MergeFrom(fill(grant_pb2.DenyGrantRequest, extension_round=extension_round, validate_only=validate_only))
    return _grant_call("DenyGrant", message)


def withdraw(
    grant: Grant | str, *, comment: str = "", etag: str | None = None, request_id: str | None = None
) -> Call[Grant]:
    """Takes back one's own pending request."""
    return _grant_call("WithdrawGrant", _decision(grant_pb2.WithdrawGrantRequest, grant, comment, etag, request_id))


def revoke(grant: Grant | str, *, comment: str, etag: str | None = None, request_id: str | None = None) -> Call[Grant]:
    """Ends a scheduled or active grant at once. The comment is demanded."""
    return _grant_call("RevokeGrant", _decision(grant_pb2.RevokeGrantRequest, grant, comment, etag, request_id))


def release(
    grant: Grant | str, *, comment: str = "", etag: str | None = None, request_id: str | None = None
) -> Call[Grant]:
    """Gives one's own scheduled or active grant back before its time."""
    return _grant_call("ReleaseGrant", _decision(grant_pb2.ReleaseGrantRequest, grant, comment, etag, request_id))


def counter(
    grant: Grant | str,
    *,
    comment: str = "",
    duration: timedelta | None = None,
    resources: str | Iterable[str] = (),
    actions: str | Iterable[str] = (),
    start_time: datetime | None = None,
    validate_only: bool = False,
    etag: str | None = None,
    request_id: str | None = None,
) -> Call[Grant]:
    """Offers other terms than those asked for: shorter, less, or later. The requester accepts or declines them.

    With `validate_only` nothing is offered: the grant is returned as it would be, or what would refuse it is raised.
    """
    message = _decision(grant_pb2.CounterGrantRequest, grant, comment, etag, request_id)
    message.MergeFrom(fill(grant_pb2.CounterGrantRequest, validate_only=validate_only))
    _add_terms(message, duration, resources, actions, start_time)
    return _grant_call("CounterGrant", message)


def accept_counter_offer(
    grant: Grant | str, *, comment: str = "", etag: str | None = None, request_id: str | None = None
) -> Call[Grant]:
    """Takes the terms that a reviewer offered; a Grant that was read takes those very terms, or none (Aborted)."""
    message = _decision(grant_pb2.AcceptCounterOfferRequest, grant, comment, etag, request_id)
    return _grant_call("AcceptCounterOffer", message)


def decline_counter_offer(
    grant: Grant | str, *, comment: str = "", etag: str | None = None, request_id: str | None = None
) -> Call[Grant]:
    """Refuses the terms that a reviewer offered; the request stays as it was asked for."""
    message = _decision(grant_pb2.DeclineCounterOfferRequest, grant, comment, etag, request_id)
    return _grant_call("DeclineCounterOffer", message)


def extend(
    grant: Grant | str,
    duration: timedelta,
    *,
    justification: str = "",
    ticket: str = "",
    validate_only: bool = False,
    etag: str | None = None,
    request_id: str | None = None,
) -> Call[Grant]:
    """Asks for so much more time without a gap; where it needs approval, the grant runs on meanwhile.

    With `validate_only` nothing is asked: the grant is returned as it would be, or what would refuse it is raised.
    """
    message = fill(
        grant_pb2.ExtendGrantRequest,
        name=grant_name(grant),
        duration=duration_message(duration),
        justification=_justification(justification, ticket),
        validate_only=validate_only,
        etag=etag_of(grant, etag),
        request_id=new_request_id(request_id),
    )
    return _grant_call("ExtendGrant", message)


def complete_review(
    grant: Grant | str, *, comment: str, etag: str | None = None, request_id: str | None = None
) -> Call[Grant]:
    """Closes the review that a break-glass use owes. The comment, what was found, is demanded."""
    message = _decision(grant_pb2.CompleteReviewRequest, grant, comment, etag, request_id)
    return _grant_call("CompleteReview", message)


def watch_grants(
    *, start_revision: int = 0, start_history: str = "", view: View | str = View.MINE, grant: Grant | str = ""
) -> Call[GrantEvent]:
    """Tells what happened after `start_revision`, with 0 first each live grant as CURRENT; with `grant` of it only.

    Its answers are a stream: JitClient.watch_grants reads it.
    """
    message = fill(
        grant_pb2.WatchGrantsRequest,
        start_revision=start_revision,
        start_history=start_history,
        view=view_number(view),
        grant=grant_name(grant),
    )
    return one("GrantService/WatchGrants", message, grant_pb2.WatchGrantsResponse, GrantEvent)


def replicate(start_revision: int, start_history: str) -> Call[grant_pb2.WatchGrantsResponse]:
    """Streams what answers checks, after `start_revision` (0: first all that is live), for `replica.state`."""
    return Call(
        rpc="GrantService/WatchGrants",
        request=grant_pb2.WatchGrantsRequest(start_revision=start_revision, start_history=start_history, replica=True),
        answer=grant_pb2.WatchGrantsResponse,
        read=lambda message: message,
    )


def plan_revocation(
    *, subject: str = "", policy: str = "", resource: str = "", labels: Mapping[str, str] | None = None
) -> Call[RevocationPlan]:
    """Returns which live grants would end: those that match all that is given. Ends nothing; admins only."""
    return _revocation(_selector(subject, policy, resource, labels))


def revoke_grants(
    plan_id: str,
    *,
    comment: str,
    subject: str = "",
    policy: str = "",
    resource: str = "",
    labels: Mapping[str, str] | None = None,
    request_id: str | None = None,
) -> Call[RevocationPlan]:
    """Ends the grants of a plan made with the same selection, all or none; a stale plan is refused (Aborted)."""
    message = _selector(subject, policy, resource, labels)
    message.MergeFrom(
        fill(grant_pb2.RevokeGrantsRequest, plan_id=plan_id, comment=comment, request_id=new_request_id(request_id))
    )
    return _revocation(message)


def _grant_call(rpc: str, message: Message) -> Call[Grant]:
    return one(f"GrantService/{rpc}", message, grant_pb2.Grant, Grant)


def _fields(resources: str | Iterable[str], actions: str | Iterable[str], options: AccessOptions) -> dict[str, object]:
    """Returns the fields that the messages of a request and an ensure have in common."""
    return {
        "policy": full_name("policies", options.get("policy", "")),
        "subject": options.get("subject", ""),
        "resources": texts(resources),
        "actions": texts(actions),
        "duration": duration_message(options.get("duration")),
        "start_time": instant_message(options.get("start_time"), "start_time"),
        "justification": _justification(options.get("justification", ""), options.get("ticket", "")),
        "labels": dict(options.get("labels") or {}),
        "context": struct_message(options.get("context")),
        "max_uses": options.get("max_uses", 0),
        "break_glass": options.get("break_glass", False),
        "parent": grant_name(options.get("parent", "")),
        "request_id": new_request_id(options.get("request_id")),
    }


def _selector(
    subject: str, policy: str, resource: str, labels: Mapping[str, str] | None
) -> grant_pb2.RevokeGrantsRequest:
    return fill(
        grant_pb2.RevokeGrantsRequest,
        subject=subject,
        policy=full_name("policies", policy),
        resource=resource,
        labels=dict(labels or {}),
    )


def _revocation(message: grant_pb2.RevokeGrantsRequest) -> Call[RevocationPlan]:
    return one("GrantService/RevokeGrants", message, grant_pb2.RevokeGrantsResponse, RevocationPlan)


def _decision(kind: type[M], grant: Grant | str, comment: str, etag: str | None, request_id: str | None) -> M:
    """Returns the message of a write on one grant; a Grant that was read brings its etag along."""
    return fill(
        kind,
        name=grant_name(grant),
        comment=comment,
        etag=etag_of(grant, etag),
        request_id=new_request_id(request_id),
    )


def _add_terms(
    message: grant_pb2.ApproveGrantRequest | grant_pb2.CounterGrantRequest,
    duration: timedelta | None,
    resources: str | Iterable[str],
    actions: str | Iterable[str],
    start_time: datetime | None,
) -> None:
    terms = fill(
        type(message),
        duration=duration_message(duration),
        resources=texts(resources),
        actions=texts(actions),
        start_time=instant_message(start_time, "start_time"),
    )
    message.MergeFrom(terms)  # type: ignore[arg-type]  # Both are of one type.


def _justification(text: str, ticket: str) -> grant_pb2.Justification | None:
    return fill(grant_pb2.Justification, text=text, ticket=ticket) if text or ticket else None


def view_number(view: View | str) -> int:
    if view not in set(View):
        raise invalid_field("view", f"{str(view)!r} is none of {', '.join(View)}")
    return grant_pb2.ListGrantsRequest.View.Value(str(view))
