"""Every call of the contract, built once for both clients: from Python arguments to a message, and back.

A grant is given by its name (`grants/ID`), its id, or as a Grant that was read; all else by its name or id. A write
carries a request_id, a fresh UUID unless one is given, so that sending it again does not do it twice (AIP-155).
All raise InvalidArgument, before anything is sent, for what no message can hold.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from google.api.httpbody_pb2 import HttpBody
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from jitaccess.contract.convert import decode, encode_policy
from jitaccess.contract.model import (
    AppliedPolicies,
    AuditCheckpoint,
    AuditEvent,
    AuditVerdict,
    CheckItem,
    Consistency,
    Decision,
    Delegation,
    FoundAccess,
    Grant,
    GrantEvent,
    IssuedToken,
    Lock,
    Page,
    Policy,
    PolicyProposal,
    PolicyTestReport,
    RevocationPlan,
    Signal,
    Simulation,
    TailedEvent,
    View,
)
from jitaccess.errors import FieldViolation, Internal, InvalidArgument
from jitaccess.v1 import access_pb2, audit_pb2, delegation_pb2, grant_pb2, lock_pb2, policy_pb2, signal_pb2, token_pb2

T = TypeVar("T")
M = TypeVar("M", bound=Message)
PolicyLike = Policy | policy_pb2.Policy | Mapping[str, object]
TestCaseLike = policy_pb2.PolicyTestCase | Mapping[str, object]


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
    max_uses: int = 0,
    break_glass: bool = False,
    parent: Grant | str = "",
    validate_only: bool = False,
    request_id: str | None = None,
) -> Call[Grant]:
    """Asks for access and returns the grant: ACTIVE or SCHEDULED where no approval is needed, else PENDING.

    Without `duration` the policy's default holds; without `policy` the first that covers the request is taken;
    without `subject` it is for the caller. `start_time` is aware. Conditions may read `context`, which JSON can hold.
    It allows `max_uses` checks, with 0 as many as the policy lets it. `break_glass` takes it at once, as the policy
    lets in an emergency, and owes a review. With `parent` one's own active grant is passed on.
    With `validate_only` nothing is asked for; the grant that is returned has a `preview` and no name.
    """
    wanted = _wanted(
        resources,
        actions,
        _Asked(
            duration=duration,
            policy=policy,
            subject=subject,
            start_time=start_time,
            justification=justification,
            ticket=ticket,
            labels=labels,
            context=context,
            max_uses=max_uses,
            break_glass=break_glass,
            parent=parent,
            request_id=request_id,
        ),
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
    max_uses: int = 0,
    break_glass: bool = False,
    parent: Grant | str = "",
    request_id: str | None = None,
) -> Call[Grant]:
    """Returns the live grant or pending request that already covers this, else asks for it as `request` does.

    With `duration` it must have been given, or asked for, for at least as long; `expire_time` says what is left.
    """
    wanted = _wanted(
        resources,
        actions,
        _Asked(
            duration=duration,
            policy=policy,
            subject=subject,
            start_time=start_time,
            justification=justification,
            ticket=ticket,
            labels=labels,
            context=context,
            max_uses=max_uses,
            break_glass=break_glass,
            parent=parent,
            request_id=request_id,
        ),
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
    message = _message(
        grant_pb2.ListGrantsRequest,
        view=_view(view),
        filter=filter,
        order_by=order_by,
        page_size=page_size,
    )
    read = partial(_page, Grant, "grants")
    return Call(rpc="GrantService/ListGrants", request=message, answer=grant_pb2.ListGrantsResponse, read=read)


def approve(
    grant: Grant | str,
    *,
    comment: str = "",
    duration: timedelta | None = None,
    resources: str | Iterable[str] = (),
    actions: str | Iterable[str] = (),
    start_time: datetime | None = None,
    extension_round: int = 0,
    etag: str | None = None,
    request_id: str | None = None,
) -> Call[Grant]:
    """Approves the current step of a pending grant. A Grant that has changed since it was read is refused (Aborted).

    More time is approved only by the Grant that was read, its etag, or its `extension_round`. What is given of
    `duration`, `resources`, `actions` and `start_time` narrows the access: shorter, less, or later.
    """
    message = _decision(grant_pb2.ApproveGrantRequest, grant, comment, etag, request_id)
    message.MergeFrom(_message(grant_pb2.ApproveGrantRequest, extension_round=extension_round))
    _add_terms(message, duration, resources, actions, start_time)
    return _grant_call("ApproveGrant", message)


def deny(
    grant: Grant | str,
    *,
    comment: str = "",
    extension_round: int = 0,
    etag: str | None = None,
    request_id: str | None = None,
) -> Call[Grant]:
    """Denies a pending grant, for good. A Grant that has changed since it was read is refused (Aborted).

    More time is denied only by the Grant that was read, its etag, or its `extension_round`.
    """
    message = _decision(grant_pb2.DenyGrantRequest, grant, comment, etag, request_id)
    message.MergeFrom(_message(grant_pb2.DenyGrantRequest, extension_round=extension_round))
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
    etag: str | None = None,
    request_id: str | None = None,
) -> Call[Grant]:
    """Offers other terms than those asked for: shorter, less, or later. The requester accepts or declines them."""
    message = _decision(grant_pb2.CounterGrantRequest, grant, comment, etag, request_id)
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
    etag: str | None = None,
    request_id: str | None = None,
) -> Call[Grant]:
    """Asks for so much more time without a gap; where it needs approval, the grant runs on meanwhile."""
    message = _message(
        grant_pb2.ExtendGrantRequest,
        name=_grant_name(grant),
        duration=_duration(duration),
        justification=_justification(justification, ticket),
        etag=_etag(grant, etag),
        request_id=_request_id(request_id),
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
    message = _message(
        grant_pb2.WatchGrantsRequest,
        start_revision=start_revision,
        start_history=start_history,
        view=_view(view),
        grant=_grant_name(grant),
    )
    return Call(
        rpc="GrantService/WatchGrants",
        request=message,
        answer=grant_pb2.WatchGrantsResponse,
        read=partial(decode, GrantEvent),
    )


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
    consistency: Consistency | str = Consistency.STRONG,
    source_ip: str = "",
) -> Call[Decision]:
    """Says whether a live grant lets the subject do the action on the resource now; true where it does.

    Conditions may read `context`, and `source_ip` as `context.source_ip`: where another subject is; without it such a
    condition is an error. Where the caller itself is, the service sees, and it cannot be said. A BOUNDED answer may
    miss the latest commits and says how old its view may be. A no is an answer. Whatever keeps the answer
    from being had raises, and so never allows.
    """
    message = _check_request(
        CheckItem(subject, action, resource, explain, min_revision, context, consistency, source_ip)
    )
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


def search(
    *,
    subject: str = "",
    action: str = "",
    resource: str = "",
    context: Mapping[str, object] | None = None,
    page_size: int = 0,
    source_ip: str = "",
) -> Call[Page[FoundAccess]]:
    """Lists by name what a check would allow now on the one side that is left out: who, what, or on what.

    Without the role `checker`, `subject` must be the caller. `source_ip` is as for `check`. A pattern may be found too,
    with its exceptions.
    """
    message = _message(
        access_pb2.SearchAccessRequest,
        subject=subject,
        action=action,
        resource=resource,
        context=_struct(_with_address(context, source_ip)),
        page_size=page_size,
    )
    read = partial(_page, FoundAccess, "found")
    return Call(rpc="AccessService/SearchAccess", request=message, answer=access_pb2.SearchAccessResponse, read=read)


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
    message = _message(policy_pb2.GetPolicyRequest, name=_named("policies", name), revision=revision)
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
        policy_pb2.DeletePolicyRequest, name=_named("policies", name), etag=etag, request_id=_request_id(request_id)
    )
    return _policy_call("DeletePolicy", message)


def apply_policies(
    policies: Iterable[PolicyLike],
    *,
    prune: bool = False,
    validate_only: bool = False,
    end_misfits: bool = False,
    comment: str = "",
    request_id: str | None = None,
) -> Call[AppliedPolicies]:
    """Makes the stored policies equal to the given ones, all or nothing, and returns the difference.

    What is scheduled and would not be given any more ends, and with `end_misfits` what is live. With `prune` those that
    are not given are deleted; with `validate_only` nothing is written. Under dual control it makes a proposal, whose
    approver reads the comment.
    """
    message = _message(
        policy_pb2.ApplyPoliciesRequest,
        policies=_policy_messages(policies),
        prune=prune,
        validate_only=validate_only,
        end_misfits=end_misfits,
        comment=comment,
        request_id=_request_id(request_id),
    )
    return Call(
        rpc="PolicyService/ApplyPolicies",
        request=message,
        answer=policy_pb2.ApplyPoliciesResponse,
        read=partial(decode, AppliedPolicies),
    )


def test_policy(
    name: str,
    cases: Iterable[TestCaseLike],
    *,
    policy: PolicyLike | None = None,  # noqa: PT028  # It is no test.
) -> Call[PolicyTestReport]:
    """Judges made-up requests by the stored policy, or by the draft of the same name, and says which come out.

    A case is a message, or a mapping in proto3 JSON names. Changes nothing.
    """
    message = _message(
        policy_pb2.TestPolicyRequest,
        name=_named("policies", name),
        policy=None if policy is None else _policy_message(policy),
        cases=[_case_message(case, f"cases[{index}]") for index, case in enumerate(cases)],
    )
    read = partial(decode, PolicyTestReport)
    return Call(rpc="PolicyService/TestPolicy", request=message, answer=policy_pb2.TestPolicyResponse, read=read)


def simulate_policies(
    policies: Iterable[PolicyLike],
    *,
    prune: bool = False,
    start_time: datetime | None = None,
    end_time: datetime | None = None,
    max_changes: int = 0,
) -> Call[Simulation]:
    """Judges the requests and checks recorded from `start_time` to `end_time` by a draft set; what would change.

    Without times it is the last 24 hours; `max_changes` 0 leaves it to the service. Changes nothing.
    """
    message = _message(
        policy_pb2.SimulatePoliciesRequest,
        policies=_policy_messages(policies),
        prune=prune,
        start_time=_instant(start_time, "start_time"),
        end_time=_instant(end_time, "end_time"),
        max_changes=max_changes,
    )
    return Call(
        rpc="PolicyService/SimulatePolicies",
        request=message,
        answer=policy_pb2.SimulatePoliciesResponse,
        read=partial(decode, Simulation),
    )


def get_policy_proposal(name: str) -> Call[PolicyProposal]:
    """Returns a set of policies that was proposed."""
    message = _message(policy_pb2.GetPolicyProposalRequest, name=_named("policyProposals", name))
    return _proposal_call("GetPolicyProposal", message)


def list_policy_proposals(*, page_size: int = 0) -> Call[Page[PolicyProposal]]:
    """Lists the proposals, newest first."""
    return Call(
        rpc="PolicyService/ListPolicyProposals",
        request=_message(policy_pb2.ListPolicyProposalsRequest, page_size=page_size),
        answer=policy_pb2.ListPolicyProposalsResponse,
        read=partial(_page, PolicyProposal, "policy_proposals"),
    )


def approve_policy_proposal(
    name: str, *, comment: str = "", etag: str = "", request_id: str | None = None
) -> Call[PolicyProposal]:
    """Carries out what another admin proposed, while what it changes is as it was."""
    message = _message(
        policy_pb2.ApprovePolicyProposalRequest,
        name=_named("policyProposals", name),
        comment=comment,
        etag=etag,
        request_id=_request_id(request_id),
    )
    return _proposal_call("ApprovePolicyProposal", message)


def reject_policy_proposal(
    name: str, *, comment: str = "", etag: str = "", request_id: str | None = None
) -> Call[PolicyProposal]:
    """Ends a proposal without effect, one's own too."""
    message = _message(
        policy_pb2.RejectPolicyProposalRequest,
        name=_named("policyProposals", name),
        comment=comment,
        etag=etag,
        request_id=_request_id(request_id),
    )
    return _proposal_call("RejectPolicyProposal", message)


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
        raise _invalid("expire_time", "give either expire_time or ttl")
    until = expire_time if ttl is None else (start_time or datetime.now(UTC)) + ttl
    delegation = _message(
        delegation_pb2.Delegation,
        delegate=delegate,
        policies=[_named("policies", policy) for policy in _texts(policies)],
        start_time=_instant(start_time, "start_time"),
        expire_time=_instant(until, "expire_time"),
        comment=comment,
    )
    message = _message(
        delegation_pb2.CreateDelegationRequest, delegation=delegation, request_id=_request_id(request_id)
    )
    return _delegation_call("CreateDelegation", message)


def get_delegation(name: str) -> Call[Delegation]:
    """Returns a delegation."""
    message = _message(delegation_pb2.GetDelegationRequest, name=_named("delegations", name))
    return _delegation_call("GetDelegation", message)


def list_delegations(*, page_size: int = 0) -> Call[Page[Delegation]]:
    """Lists the delegations that the caller gave or has (auditors and admins: all), newest first."""
    return Call(
        rpc="DelegationService/ListDelegations",
        request=_message(delegation_pb2.ListDelegationsRequest, page_size=page_size),
        answer=delegation_pb2.ListDelegationsResponse,
        read=partial(_page, Delegation, "delegations"),
    )


def delete_delegation(name: str, *, etag: str = "", request_id: str | None = None) -> Call[Delegation]:
    """Ends a delegation at once."""
    message = _message(
        delegation_pb2.DeleteDelegationRequest,
        name=_named("delegations", name),
        etag=etag,
        request_id=_request_id(request_id),
    )
    return _delegation_call("DeleteDelegation", message)


def create_lock(
    principal: str = "",
    *,
    group: str = "",
    jti: str = "",
    comment: str,
    expire_time: datetime | None = None,
    ttl: timedelta | None = None,
    end_grants: bool = False,
    request_id: str | None = None,
) -> Call[Lock]:
    """Locks exactly one of a principal, a group and an identity token, until `expire_time`, for `ttl`, or until lifted.

    With `end_grants` what the locked have ends for good. Role responder or admin.
    """
    targets = {"principal": principal, "group": group, "jti": jti}
    given = {field: text for field, text in targets.items() if text}
    if len(given) != 1:
        raise _invalid("principal", "give exactly one of principal, group and jti")
    if expire_time is not None and ttl is not None:
        raise _invalid("expire_time", "give either expire_time or ttl")
    until = expire_time if ttl is None else datetime.now(UTC) + ttl
    lock = _message(
        lock_pb2.Lock, **given, comment=comment, expire_time=_instant(until, "expire_time"), end_grants=end_grants
    )
    return _lock_call("CreateLock", _message(lock_pb2.CreateLockRequest, lock=lock, request_id=_request_id(request_id)))


def get_lock(name: str) -> Call[Lock]:
    """Returns a lock."""
    return _lock_call("GetLock", _message(lock_pb2.GetLockRequest, name=_named("locks", name)))


def list_locks(*, show_deleted: bool = False, page_size: int = 0) -> Call[Page[Lock]]:
    """Lists the locks that stand, newest first; with `show_deleted` also those that were lifted or are over."""
    return Call(
        rpc="LockService/ListLocks",
        request=_message(lock_pb2.ListLocksRequest, page_size=page_size, show_deleted=show_deleted),
        answer=lock_pb2.ListLocksResponse,
        read=partial(_page, Lock, "locks"),
    )


def delete_lock(name: str, *, etag: str = "", request_id: str | None = None) -> Call[Lock]:
    """Lifts a lock at once. What it ended stays ended."""
    message = _message(
        lock_pb2.DeleteLockRequest, name=_named("locks", name), etag=etag, request_id=_request_id(request_id)
    )
    return _lock_call("DeleteLock", message)


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
    signal = _message(
        signal_pb2.Signal, name=_named("signals", name), expire_time=_instant(until, "expire_time"), etag=etag
    )
    try:
        json_format.ParseDict(value, signal.value)  # type: ignore[arg-type]  # Any JSON will do for a Value.
    except (ValueError, TypeError, json_format.ParseError) as error:
        raise _invalid("value", str(error)) from error
    return _signal_call("SetSignal", signal_pb2.SetSignalRequest(signal=signal, request_id=_request_id(request_id)))


def get_signal(name: str) -> Call[Signal]:
    """Returns a signal."""
    return _signal_call("GetSignal", _message(signal_pb2.GetSignalRequest, name=_named("signals", name)))


def list_signals(*, page_size: int = 0) -> Call[Page[Signal]]:
    """Lists the signals by name, expired ones too."""
    message = _message(signal_pb2.ListSignalsRequest, page_size=page_size)
    read = partial(_page, Signal, "signals")
    return Call(rpc="SignalService/ListSignals", request=message, answer=signal_pb2.ListSignalsResponse, read=read)


def delete_signal(name: str, *, etag: str = "", request_id: str | None = None) -> Call[Signal]:
    """Deletes a signal; conditions then miss it."""
    message = _message(
        signal_pb2.DeleteSignalRequest, name=_named("signals", name), etag=etag, request_id=_request_id(request_id)
    )
    return _signal_call("DeleteSignal", message)


def issue_token(
    grant: Grant | str,
    *,
    audience: str | Iterable[str] = (),
    ttl: timedelta | None = None,
    request_id: str | None = None,
) -> Call[IssuedToken]:
    """Issues a token of one's own active grant, for the audience or else for the service's own gateway.

    It is valid for `ttl`, whole seconds; without it as long as the grant lasts and the service allows.
    """
    message = _message(
        token_pb2.IssueTokenRequest,
        name=_grant_name(grant),
        audience=_texts(audience),
        ttl=_duration(ttl),
        request_id=_request_id(request_id),
    )
    read = partial(decode, IssuedToken)
    return Call(rpc="TokenService/IssueToken", request=message, answer=token_pb2.IssueTokenResponse, read=read)


def get_key_set() -> Call[Mapping[str, object]]:
    """Returns the JWK set that tokens verify by, as `verify_token` takes it."""
    return _json_call("GetKeySet", token_pb2.GetKeySetRequest())


def get_authorization_server_metadata() -> Call[Mapping[str, object]]:
    """Returns where keys, introspection and revocation are (RFC 8414)."""
    return _json_call("GetAuthorizationServerMetadata", token_pb2.GetAuthorizationServerMetadataRequest())


def introspect_token(token: str) -> Call[Mapping[str, object]]:
    """Answers what the service says of a token now (RFC 7662): its claims, or just `{"active": False}`."""
    return _json_call("IntrospectToken", token_pb2.IntrospectTokenRequest(body=_form(token)))


def revoke_token(token: str) -> Call[None]:
    """Revokes a token before its time (RFC 7009); one that is none or over is no error."""
    message = token_pb2.RevokeTokenRequest(body=_form(token))
    return Call(rpc="TokenService/RevokeToken", request=message, answer=HttpBody, read=lambda _: None)


def list_audit_events(*, filter: str = "", order_by: str = "", page_size: int = 0) -> Call[Page[AuditEvent]]:
    """Lists the records of the audit log, newest first unless `order_by` is `seq`."""
    message = _message(audit_pb2.ListAuditEventsRequest, filter=filter, order_by=order_by, page_size=page_size)
    read = partial(_page, AuditEvent, "audit_events")
    return Call(
        rpc="AuditService/ListAuditEvents", request=message, answer=audit_pb2.ListAuditEventsResponse, read=read
    )


def tail_audit_events(*, filter: str = "", start_seq: int = 0) -> Call[TailedEvent]:
    """Tells the records after `start_seq`, with 0 those that come from now on.

    Its answers are a stream: JitClient.tail_audit_events reads it.
    """
    return Call(
        rpc="AuditService/TailAuditEvents",
        request=_message(audit_pb2.TailAuditEventsRequest, filter=filter, start_seq=start_seq),
        answer=audit_pb2.TailAuditEventsResponse,
        read=partial(decode, TailedEvent),
    )


def export_audit_events(
    *, format: str = "jitaccess", filter: str = "", start_seq: int = 0, end_seq: int = 0
) -> Call[bytes]:
    """Tells the records after `start_seq` up to `end_seq`, with 0 up to the last, as lines of JSON.

    `format` is `jitaccess`, `cloudevents` or `ocsf`. Its answers are a stream: JitClient.export_audit_events reads it.
    """
    message = _message(
        audit_pb2.ExportAuditEventsRequest, format=format, filter=filter, start_seq=start_seq, end_seq=end_seq
    )
    return Call(rpc="AuditService/ExportAuditEvents", request=message, answer=HttpBody, read=_data)


def verify_audit_log(*, checkpoint: AuditCheckpoint | str = "") -> Call[AuditVerdict]:
    """Recomputes the whole hash chain; true where nothing was edited, deleted or reordered.

    With a checkpoint that was kept elsewhere, true only where it was made of this very log: one that was cut or
    rewritten whole is found too.
    """
    text = checkpoint.checkpoint if isinstance(checkpoint, AuditCheckpoint) else checkpoint
    return Call(
        rpc="AuditService/VerifyAuditLog",
        request=_message(audit_pb2.VerifyAuditLogRequest, checkpoint=text),
        answer=audit_pb2.VerifyAuditLogResponse,
        read=partial(decode, AuditVerdict),
    )


def get_audit_checkpoint() -> Call[AuditCheckpoint]:
    """Returns what the audit log is now, signed; kept elsewhere, it shows later whether the log was rewritten."""
    return Call(
        rpc="AuditService/GetAuditCheckpoint",
        request=audit_pb2.GetAuditCheckpointRequest(),
        answer=audit_pb2.GetAuditCheckpointResponse,
        read=partial(decode, AuditCheckpoint),
    )


def _grant_call(rpc: str, message: Message) -> Call[Grant]:
    return Call(rpc=f"GrantService/{rpc}", request=message, answer=grant_pb2.Grant, read=partial(decode, Grant))


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The optional arguments that a request and an ensure have in common."""

    duration: timedelta | None
    policy: str
    subject: str
    start_time: datetime | None
    justification: str
    ticket: str
    labels: Mapping[str, str] | None
    context: Mapping[str, object] | None
    max_uses: int
    break_glass: bool
    parent: Grant | str
    request_id: str | None


def _wanted(resources: str | Iterable[str], actions: str | Iterable[str], asked: _Asked) -> dict[str, object]:
    """Returns the fields that the messages of a request and an ensure have in common."""
    return {
        "policy": _named("policies", asked.policy),
        "subject": asked.subject,
        "resources": _texts(resources),
        "actions": _texts(actions),
        "duration": _duration(asked.duration),
        "start_time": _instant(asked.start_time, "start_time"),
        "justification": _justification(asked.justification, asked.ticket),
        "labels": dict(asked.labels or {}),
        "context": _struct(asked.context),
        "max_uses": asked.max_uses,
        "break_glass": asked.break_glass,
        "parent": _grant_name(asked.parent),
        "request_id": _request_id(asked.request_id),
    }


def _signal_call(rpc: str, message: Message) -> Call[Signal]:
    return Call(rpc=f"SignalService/{rpc}", request=message, answer=signal_pb2.Signal, read=partial(decode, Signal))


def _form(token: str) -> HttpBody:
    return HttpBody(content_type="application/x-www-form-urlencoded", data=urlencode({"token": token}).encode())


def _json_call(rpc: str, message: Message) -> Call[Mapping[str, object]]:
    return Call(rpc=f"TokenService/{rpc}", request=message, answer=HttpBody, read=_json_object)


def _data(body: HttpBody) -> bytes:
    return bytes(body.data)


def _json_object(body: HttpBody) -> Mapping[str, object]:
    value = json.loads(body.data or b"{}")
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def _selector(
    subject: str, policy: str, resource: str, labels: Mapping[str, str] | None
) -> grant_pb2.RevokeGrantsRequest:
    return _message(
        grant_pb2.RevokeGrantsRequest,
        subject=subject,
        policy=_named("policies", policy),
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


def _proposal_call(rpc: str, message: Message) -> Call[PolicyProposal]:
    read = partial(decode, PolicyProposal)
    return Call(rpc=f"PolicyService/{rpc}", request=message, answer=policy_pb2.PolicyProposal, read=read)


def _delegation_call(rpc: str, message: Message) -> Call[Delegation]:
    read = partial(decode, Delegation)
    return Call(rpc=f"DelegationService/{rpc}", request=message, answer=delegation_pb2.Delegation, read=read)


def _lock_call(rpc: str, message: Message) -> Call[Lock]:
    return Call(rpc=f"LockService/{rpc}", request=message, answer=lock_pb2.Lock, read=partial(decode, Lock))


def _decision(kind: type[M], grant: Grant | str, comment: str, etag: str | None, request_id: str | None) -> M:
    """Returns the message of a write on one grant; a Grant that was read brings its etag along."""
    return _message(
        kind,
        name=_grant_name(grant),
        comment=comment,
        etag=_etag(grant, etag),
        request_id=_request_id(request_id),
    )


def _add_terms(
    message: grant_pb2.ApproveGrantRequest | grant_pb2.CounterGrantRequest,
    duration: timedelta | None,
    resources: str | Iterable[str],
    actions: str | Iterable[str],
    start_time: datetime | None,
) -> None:
    terms = _message(
        type(message),
        duration=_duration(duration),
        resources=_texts(resources),
        actions=_texts(actions),
        start_time=_instant(start_time, "start_time"),
    )
    message.MergeFrom(terms)  # type: ignore[arg-type]  # Both are of one type.


def _check_request(item: CheckItem) -> access_pb2.CheckAccessRequest:
    return _message(
        access_pb2.CheckAccessRequest,
        subject=item.subject,
        action=item.action,
        resource=item.resource,
        explain=item.explain,
        min_revision=item.min_revision,
        context=_struct(_with_address(item.context, item.source_ip)),
        consistency=_consistency(item.consistency),
    )


def _consistency(given: Consistency | str) -> int | None:
    """STRONG is what the service does unasked."""
    if given == Consistency.STRONG:
        return None
    return access_pb2.CheckAccessRequest.Consistency.Value(Consistency(given))


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


def _policy_messages(policies: Iterable[PolicyLike]) -> list[policy_pb2.Policy]:
    return [_policy_message(policy, f"policies[{index}]") for index, policy in enumerate(policies)]


def _case_message(case: TestCaseLike, field: str) -> policy_pb2.PolicyTestCase:
    if isinstance(case, policy_pb2.PolicyTestCase):
        return case
    try:
        return json_format.ParseDict(dict(case), policy_pb2.PolicyTestCase())
    except (ValueError, TypeError, AttributeError, json_format.ParseError) as error:
        raise _invalid(field, str(error)) from error


def _named(collection: str, name: str) -> str:
    """Returns the full name of what is given by its name or id; nothing of nothing."""
    return f"{collection}/{name}" if name and "/" not in name else name


def _view(view: View | str) -> int:
    if view not in set(View):
        raise _invalid("view", f"{str(view)!r} is none of {', '.join(View)}")
    return grant_pb2.ListGrantsRequest.View.Value(str(view))


def _with_address(context: Mapping[str, object] | None, source_ip: str) -> Mapping[str, object] | None:
    return {**(context or {}), "source_ip": source_ip} if source_ip else context


def _struct(given: Mapping[str, object] | None) -> Struct | None:
    if given is None:
        return None
    try:
        return json_format.ParseDict(dict(given), Struct())
    except (ValueError, TypeError, json_format.ParseError) as error:
        raise _invalid("context", str(error)) from error


def _grant_name(grant: Grant | str) -> str:
    return grant.name if isinstance(grant, Grant) else _named("grants", grant)


def _etag(grant: Grant | str, given: str | None) -> str:
    """Returns the etag that was given, else that of a Grant that was read."""
    if given is not None:
        return given
    return grant.etag if isinstance(grant, Grant) else ""


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
