"""Every call of the contract, built once for both clients: from Python arguments to a message, and back.

A grant is given by its name (`grants/ID`), its id, or as a Grant that was read; a policy by its name or id. A write
carries a request_id, a fresh UUID unless one is given, so that sending it again does not do it twice (AIP-155).
All raise InvalidArgument, before anything is sent, for what no message can hold.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Generic, TypeVar

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from jitaccess.convert import decode, encode_policy
from jitaccess.errors import FieldViolation, Internal, InvalidArgument
from jitaccess.model import (
    AppliedPolicies,
    AuditEvent,
    AuditVerdict,
    CheckItem,
    Decision,
    Grant,
    Page,
    Policy,
    RevocationPlan,
    Signal,
    View,
)
from jitaccess.v1 import access_pb2, audit_pb2, grant_pb2, policy_pb2, signal_pb2

T = TypeVar("T")
M = TypeVar("M", bound=Message)
PolicyLike = Policy | policy_pb2.Policy | Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """One RPC to be made: where, with what, and how its answer is read."""

    rpc: str
    request: Message
    answer: type[Message]
    read: Callable[[Any], T]

    @property
    def path(self) -> str:
        """The HTTP/2 path of the RPC."""
        return f"/jitaccess.v1.{self.rpc}"

    def read_answer(self, answer: Message) -> T:
        """Returns the answer's value. Raises Internal where it cannot be read."""
        try:
            return self.read(answer)
        except (ValueError, OverflowError) as error:
            raise Internal(f"the answer of {self.rpc} cannot be read: {error}") from error

    def at_page(self, page_token: str) -> Call[T]:
        """Returns the same list call for the page of the token."""
        request = type(self.request)()
        request.CopyFrom(self.request)
        request.page_token = page_token  # type: ignore[attr-defined]  # Only list requests come here.
        return replace(self, request=request)


def request(
    resources: str | Iterable[str],
    actions: str | Iterable[str],
    *,
    duration: timedelta | None = None,
    policy: str = "",
    subject: str = "",
    start_time: datetime | None = None,
    justification: str = "",
    ticket: str = "",
    labels: Mapping[str, str] | None = None,
    context: Mapping[str, object] | None = None,
    validate_only: bool = False,
    request_id: str | None = None,
) -> Call[Grant]:
    """Asks for access and returns the grant: ACTIVE or SCHEDULED where no approval is needed, else PENDING.

    Without `duration` the policy's default holds; without `policy` the first that covers the request is taken;
    without `subject` it is for the caller. `start_time` is aware. Conditions may read `context`, which JSON can hold.
    With `validate_only` nothing is asked for; the grant that is returned has a `preview` and no name.
    """
    wanted = _wanted(
        resources, actions, duration, policy, subject, start_time, justification, ticket, labels, context, request_id
    )
    message = _message(grant_pb2.RequestGrantRequest, validate_only=validate_only, **wanted)
    return _grant_call("RequestGrant", message)


def ensure(
    resources: str | Iterable[str],
    actions: str | Iterable[str],
    *,
    duration: timedelta | None = None,
    policy: str = "",
    subject: str = "",
    start_time: datetime | None = None,
    justification: str = "",
    ticket: str = "",
    labels: Mapping[str, str] | None = None,
    context: Mapping[str, object] | None = None,
    request_id: str | None = None,
) -> Call[Grant]:
    """Returns the live grant or pending request that already covers this, else asks for it as `request` does.

    With `duration` it must have been given, or asked for, for at least as long; `expire_time` says what is left.
    """
    wanted = _wanted(
        resources, actions, duration, policy, subject, start_time, justification, ticket, labels, context, request_id
    )
    message = _message(grant_pb2.EnsureGrantRequest, **wanted)
    return _grant_call("EnsureGrant", message)


def get_grant(name: str) -> Call[Grant]:
    """Returns one grant."""
    return _grant_call("GetGrant", _message(grant_pb2.GetGrantRequest, name=_grant_name(name)))


def list_grants(
    *, view: View | str = View.MINE, filter: str = "", order_by: str = "", page_size: int = 0
) -> Call[Page[Grant]]:
    """Lists the grants of a view, newest first unless `order_by` says otherwise.

    `filter` and `order_by` are those of AIP-160 and AIP-132; `page_size` 0 leaves it to the service.
    """
    if view not in set(View):
        raise _invalid("view", f"{str(view)!r} is none of {', '.join(View)}")
    message = _message(
        grant_pb2.ListGrantsRequest,
        view=grant_pb2.ListGrantsRequest.View.Value(str(view)),
        filter=filter,
        order_by=order_by,
        page_size=page_size,
    )
    read = partial(_page, Grant, "grants")
    return Call(rpc="GrantService/ListGrants", request=message, answer=grant_pb2.ListGrantsResponse, read=read)


def approve(
    grant: Grant | str, *, comment: str = "", etag: str | None = None, request_id: str | None = None
) -> Call[Grant]:
    """Approves the current step of a pending grant. A Grant that has changed since it was read is refused (Aborted)."""
    return _grant_call("ApproveGrant", _decision(grant_pb2.ApproveGrantRequest, grant, comment, etag, request_id))


def deny(
    grant: Grant | str, *, comment: str = "", etag: str | None = None, request_id: str | None = None
) -> Call[Grant]:
    """Denies a pending grant, for good. A Grant that has changed since it was read is refused (Aborted)."""
    return _grant_call("DenyGrant", _decision(grant_pb2.DenyGrantRequest, grant, comment, etag, request_id))


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
        _message(grant_pb2.RevokeGrantsRequest, plan_id=plan_id, comment=comment, request_id=_request_id(request_id))
    )
    return _revocation(message)


def check(
    subject: str,
    action: str,
    resource: str,
    *,
    explain: bool = False,
    min_revision: int = 0,
    context: Mapping[str, object] | None = None,
) -> Call[Decision]:
    """Says whether a live grant lets the subject do the action on the resource now; true where it does.

    Conditions may read `context`. A no is an answer. Whatever keeps the answer from being had raises, and so never
    allows.
    """
    message = _check_request(CheckItem(subject, action, resource, explain, min_revision, context))
    return Call(
        rpc="AccessService/CheckAccess",
        request=message,
        answer=access_pb2.CheckAccessResponse,
        read=partial(decode, Decision),
    )


def check_many(items: Iterable[CheckItem]) -> Call[list[Decision]]:
    """Answers up to 1,000 questions at one revision, in their order. An item that is wrong is a no with an `error`."""
    questions = [_check_request(CheckItem(*item)) for item in items]
    return Call(
        rpc="AccessService/BatchCheckAccess",
        request=access_pb2.BatchCheckAccessRequest(items=questions),
        answer=access_pb2.BatchCheckAccessResponse,
        read=partial(_decisions, len(questions)),
    )


def create_policy(policy: PolicyLike, *, policy_id: str = "", request_id: str | None = None) -> Call[Policy]:
    """Creates a policy; its id is that of its name unless `policy_id` gives one.

    A policy is a Policy, a message, or a mapping in proto3 JSON names.
    """
    message = _message(
        policy_pb2.CreatePolicyRequest,
        policy=_policy_message(policy),
        policy_id=policy_id,
        request_id=_request_id(request_id),
    )
    return _policy_call("CreatePolicy", message)


def get_policy(name: str, *, revision: int = 0) -> Call[Policy]:
    """Returns a policy, or with `revision` one of its earlier states."""
    message = _message(policy_pb2.GetPolicyRequest, name=_policy_name(name), revision=revision)
    return _policy_call("GetPolicy", message)


def list_policies(*, show_deleted: bool = False, page_size: int = 0) -> Call[Page[Policy]]:
    """Lists the policies that the caller may read, by name."""
    message = _message(policy_pb2.ListPoliciesRequest, show_deleted=show_deleted, page_size=page_size)
    read = partial(_page, Policy, "policies")
    return Call(rpc="PolicyService/ListPolicies", request=message, answer=policy_pb2.ListPoliciesResponse, read=read)


def update_policy(
    policy: PolicyLike, *, update_mask: Iterable[str] = (), request_id: str | None = None
) -> Call[Policy]:
    """Changes the fields of `update_mask`: by default those that are set, with `["*"]` all.

    An etag in the policy, as every policy that was read has, must still be the current one (else Aborted).
    """
    message = _message(
        policy_pb2.UpdatePolicyRequest,
        policy=_policy_message(policy),
        update_mask=FieldMask(paths=_texts(update_mask)),
        request_id=_request_id(request_id),
    )
    return _policy_call("UpdatePolicy", message)


def delete_policy(name: str, *, etag: str = "", request_id: str | None = None) -> Call[Policy]:
    """Deletes a policy. Nothing new is judged by it; live grants go on."""
    message = _message(
        policy_pb2.DeletePolicyRequest, name=_policy_name(name), etag=etag, request_id=_request_id(request_id)
    )
    return _policy_call("DeletePolicy", message)


def apply_policies(
    policies: Iterable[PolicyLike],
    *,
    prune: bool = False,
    validate_only: bool = False,
    request_id: str | None = None,
) -> Call[AppliedPolicies]:
    """Makes the stored policies equal to the given ones, all or nothing, and returns the difference.

    With `prune` those that are not given are deleted; with `validate_only` nothing is written.
    """
    message = _message(
        policy_pb2.ApplyPoliciesRequest,
        policies=[_policy_message(policy, f"policies[{index}]") for index, policy in enumerate(policies)],
        prune=prune,
        validate_only=validate_only,
        request_id=_request_id(request_id),
    )
    return Call(
        rpc="PolicyService/ApplyPolicies",
        request=message,
        answer=policy_pb2.ApplyPoliciesResponse,
        read=partial(decode, AppliedPolicies),
    )


def set_signal(
    name: str,
    value: object,
    *,
    expire_time: datetime | None = None,
    ttl: timedelta | None = None,
    etag: str = "",
    request_id: str | None = None,
) -> Call[Signal]:
    """Sets a signal to what JSON can hold, until `expire_time`, or for `ttl` by this machine's clock."""
    if (expire_time is None) == (ttl is None):
        raise _invalid("expire_time", "give either expire_time or ttl")
    until = expire_time if ttl is None else datetime.now(UTC) + ttl
    signal = _message(signal_pb2.Signal, name=_signal_name(name), expire_time=_instant(until, "expire_time"), etag=etag)
    try:
        json_format.ParseDict(value, signal.value)  # type: ignore[arg-type]  # Any JSON will do for a Value.
    except (ValueError, TypeError, json_format.ParseError) as error:
        raise _invalid("value", str(error)) from error
    return _signal_call("SetSignal", signal_pb2.SetSignalRequest(signal=signal, request_id=_request_id(request_id)))


def get_signal(name: str) -> Call[Signal]:
    """Returns a signal."""
    return _signal_call("GetSignal", _message(signal_pb2.GetSignalRequest, name=_signal_name(name)))


def list_signals(*, page_size: int = 0) -> Call[Page[Signal]]:
    """Lists the signals by name, expired ones too."""
    message = _message(signal_pb2.ListSignalsRequest, page_size=page_size)
    read = partial(_page, Signal, "signals")
    return Call(rpc="SignalService/ListSignals", request=message, answer=signal_pb2.ListSignalsResponse, read=read)


def delete_signal(name: str, *, etag: str = "", request_id: str | None = None) -> Call[Signal]:
    """Deletes a signal; conditions then miss it."""
    message = _message(
        signal_pb2.DeleteSignalRequest, name=_signal_name(name), etag=etag, request_id=_request_id(request_id)
    )
    return _signal_call("DeleteSignal", message)


def list_audit_events(*, filter: str = "", order_by: str = "", page_size: int = 0) -> Call[Page[AuditEvent]]:
    """Lists the records of the audit log, newest first unless `order_by` is `seq`."""
    message = _message(audit_pb2.ListAuditEventsRequest, filter=filter, order_by=order_by, page_size=page_size)
    read = partial(_page, AuditEvent, "audit_events")
    return Call(
        rpc="AuditService/ListAuditEvents", request=message, answer=audit_pb2.ListAuditEventsResponse, read=read
    )


def verify_audit_log() -> Call[AuditVerdict]:
    """Recomputes the whole hash chain; true where nothing was edited, deleted or reordered."""
    return Call(
        rpc="AuditService/VerifyAuditLog",
        request=audit_pb2.VerifyAuditLogRequest(),
        answer=audit_pb2.VerifyAuditLogResponse,
        read=partial(decode, AuditVerdict),
    )


def _grant_call(rpc: str, message: Message) -> Call[Grant]:
    return Call(rpc=f"GrantService/{rpc}", request=message, answer=grant_pb2.Grant, read=partial(decode, Grant))


def _wanted(
    resources: str | Iterable[str],
    actions: str | Iterable[str],
    duration: timedelta | None,
    policy: str,
    subject: str,
    start_time: datetime | None,
    justification: str,
    ticket: str,
    labels: Mapping[str, str] | None,
    context: Mapping[str, object] | None,
    request_id: str | None,
) -> dict[str, object]:
    """Returns the fields that a request and an ensure have in common."""
    return {
        "policy": _policy_name(policy),
        "subject": subject,
        "resources": _texts(resources),
        "actions": _texts(actions),
        "duration": _duration(duration),
        "start_time": _instant(start_time, "start_time"),
        "justification": _justification(justification, ticket),
        "labels": dict(labels or {}),
        "context": _struct(context),
        "request_id": _request_id(request_id),
    }


def _signal_call(rpc: str, message: Message) -> Call[Signal]:
    return Call(rpc=f"SignalService/{rpc}", request=message, answer=signal_pb2.Signal, read=partial(decode, Signal))


def _selector(
    subject: str, policy: str, resource: str, labels: Mapping[str, str] | None
) -> grant_pb2.RevokeGrantsRequest:
    return _message(
        grant_pb2.RevokeGrantsRequest,
        subject=subject,
        policy=_policy_name(policy),
        resource=resource,
        labels=dict(labels or {}),
    )


def _revocation(message: grant_pb2.RevokeGrantsRequest) -> Call[RevocationPlan]:
    return Call(
        rpc="GrantService/RevokeGrants",
        request=message,
        answer=grant_pb2.RevokeGrantsResponse,
        read=partial(decode, RevocationPlan),
    )


def _policy_call(rpc: str, message: Message) -> Call[Policy]:
    return Call(rpc=f"PolicyService/{rpc}", request=message, answer=policy_pb2.Policy, read=partial(decode, Policy))


def _decision(kind: type[M], grant: Grant | str, comment: str, etag: str | None, request_id: str | None) -> M:
    """Returns the message of a write on one grant; a Grant that was read brings its etag along."""
    if etag is None:
        etag = grant.etag if isinstance(grant, Grant) else ""
    name = grant.name if isinstance(grant, Grant) else _grant_name(grant)
    return _message(kind, name=name, comment=comment, etag=etag, request_id=_request_id(request_id))


def _check_request(item: CheckItem) -> access_pb2.CheckAccessRequest:
    return _message(
        access_pb2.CheckAccessRequest,
        subject=item.subject,
        action=item.action,
        resource=item.resource,
        explain=item.explain,
        min_revision=item.min_revision,
        context=_struct(item.context),
    )


def _decisions(asked: int, answer: access_pb2.BatchCheckAccessResponse) -> list[Decision]:
    # Answers are told apart by their place only: with one missing, a yes could be taken for another question's.
    if len(answer.results) != asked:
        raise Internal(f"{asked} questions had {len(answer.results)} answers")
    return [decode(Decision, result) for result in answer.results]


def _page(kind: type[T], items: str, answer: Any) -> Page[T]:
    decoded = tuple(decode(kind, item) for item in getattr(answer, items))
    return Page(items=decoded, next_page_token=answer.next_page_token, raw=answer)


def _message(kind: type[M], **fields: object) -> M:
    """Returns the message. Raises InvalidArgument for a text or number that its field cannot hold."""
    try:
        return kind(**fields)
    except ValueError as error:
        raise InvalidArgument(f"{kind.DESCRIPTOR.name} cannot hold that: {error}", reason="INVALID_FIELD") from error


def _policy_message(policy: PolicyLike, field: str = "policy") -> policy_pb2.Policy:
    if isinstance(policy, policy_pb2.Policy):
        return policy
    try:
        if isinstance(policy, Policy):
            return encode_policy(policy)
        return json_format.ParseDict(dict(policy), policy_pb2.Policy())
    except (ValueError, json_format.ParseError) as error:
        raise _invalid(field, str(error)) from error


def _policy_name(name: str) -> str:
    return f"policies/{name}" if name and "/" not in name else name


def _signal_name(name: str) -> str:
    return f"signals/{name}" if name and "/" not in name else name


def _struct(given: Mapping[str, object] | None) -> Struct | None:
    if given is None:
        return None
    try:
        return json_format.ParseDict(dict(given), Struct())
    except (ValueError, TypeError, json_format.ParseError) as error:
        raise _invalid("context", str(error)) from error


def _grant_name(name: str) -> str:
    return f"grants/{name}" if name and "/" not in name else name


def _texts(given: str | Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _request_id(given: str | None) -> str:
    return str(uuid.uuid4()) if given is None else given


def _justification(text: str, ticket: str) -> grant_pb2.Justification | None:
    return _message(grant_pb2.Justification, text=text, ticket=ticket) if text or ticket else None


def _duration(given: timedelta | None) -> Duration | None:
    if given is None:
        return None
    message = Duration()
    message.FromTimedelta(given)
    return message


def _instant(given: datetime | None, field: str) -> Timestamp | None:
    if given is None:
        return None
    if given.tzinfo is None:
        raise _invalid(field, f"{given.isoformat()} has no time zone")
    message = Timestamp()
    try:
        message.FromDatetime(given)
    except (ValueError, OverflowError) as error:
        raise _invalid(field, f"{given.isoformat()}: {error}") from error
    return message


def _invalid(field: str, fault: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field}: {fault}", reason="INVALID_FIELD", field_violations=(FieldViolation(field, fault),)
    )
