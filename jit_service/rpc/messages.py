"""The only mapping between the contract's messages and the domain."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from heapq import nlargest
from typing import Any, Final
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from jit_service.check.recording import CheckResult
from jit_service.check.search import Searched
from jit_service.domain.audit.event import EventType, RecordedEvent
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.checks.decision import Decision, Finding, Reason
from jit_service.domain.checks.what_if import Case, Expected, Outcome, Result
from jit_service.domain.conditions import context as contexts
from jit_service.domain.conditions.signal import Signal, Signals, checked_name
from jit_service.domain.errors import InvalidField, JitError
from jit_service.domain.grants.approval import Edits, approvals_missing, step_due_at, waiting_step
from jit_service.domain.grants.delegation import Delegation, Wanted
from jit_service.domain.grants.grant import Grant, Justification, Review, Terms
from jit_service.domain.grants.lock import Lock, Target
from jit_service.domain.grants.lock import Wanted as WantedLock
from jit_service.domain.grants.preview import Preview
from jit_service.domain.grants.request import Ask, MoreTime
from jit_service.domain.language import etag
from jit_service.domain.language.name import grant_name
from jit_service.domain.policies.diff import PolicyChange, Proposed
from jit_service.domain.policies.policy import (
    DEFAULT_REQUEST_TTL,
    BreakGlassRule,
    CommentRule,
    ExtensionRule,
    JustificationRule,
    Policy,
    PrincipalSet,
    Step,
    seconds,
)
from jit_service.domain.policies.proposal import Proposal
from jit_service.domain.tokens.token import Wanted as WantedToken
from jit_service.feeds.audit import AuditUpdate
from jit_service.feeds.grants import GrantUpdate, Watched, head_of, history_of
from jit_service.feeds.replica import Checkable, ReplicaUpdate
from jit_service.rpc.errors import status
from jit_service.use_cases.bulk_revocation import Plan, Selector
from jit_service.use_cases.checkpoints import Compared, Made
from jit_service.use_cases.grants import View
from jit_service.use_cases.policies import Applied
from jit_service.use_cases.simulation import Simulated
from jit_service.use_cases.tokens import Issued
from jitaccess.naming.json_numbers import with_whole_numbers
from jitaccess.v1 import access_pb2, audit_pb2, delegation_pb2, grant_pb2, lock_pb2, policy_pb2, signal_pb2, token_pb2

# protobuf's own bounds (duration.proto, timestamp.proto).
_MAX_SECONDS: Final = 315_576_000_000
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799
MAX_SAMPLE: Final = 20
_POLICY_INPUT: Final = frozenset(
    field.name
    for field in policy_pb2.Policy.DESCRIPTOR.fields
    if field.name not in ("name", "etag", "revision", "create_time", "update_time", "delete_time")
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REASONS = {reason: access_pb2.CheckAccessResponse.Reason.Value(reason) for reason in Reason}


def ask_of(message: grant_pb2.RequestGrantRequest | grant_pb2.EnsureGrantRequest, caller: str) -> Ask:
    """Returns what is asked for; a request without a subject is for the caller. Raises InvalidField."""
    return Ask(
        subject=message.subject or caller,
        resources=tuple(message.resources),
        actions=tuple(message.actions),
        policy=message.policy,
        duration=_span(message.duration, "duration") if message.HasField("duration") else None,
        start_at=_instant(message.start_time, "start_time") if message.HasField("start_time") else None,
        justification=Justification(text=message.justification.text, ticket=message.justification.ticket),
        labels=dict(message.labels),
        context=context_of(message.context),
        max_uses=message.max_uses,
        break_glass=message.break_glass,
        parent=message.parent,
    )


def edits_of(message: grant_pb2.ApproveGrantRequest | grant_pb2.CounterGrantRequest) -> Edits:
    """Returns what a reviewer gives instead of what is asked for. Raises InvalidField."""
    return Edits(
        resources=tuple(message.resources),
        actions=tuple(message.actions),
        duration=_span(message.duration, "duration") if message.HasField("duration") else None,
        start_at=_instant(message.start_time, "start_time") if message.HasField("start_time") else None,
    )


def more_time_of(message: grant_pb2.ExtendGrantRequest) -> MoreTime:
    """Returns how much more time is asked for. Raises InvalidField."""
    if not message.HasField("duration"):
        raise InvalidField("duration", "is required: how much longer the access shall last")
    return MoreTime(
        duration=_span(message.duration, "duration"),
        justification=Justification(text=message.justification.text, ticket=message.justification.ticket),
    )


def view_of(number: grant_pb2.ListGrantsRequest.View.ValueType) -> View:
    """Returns the view of an enum value that the contract has; MINE where none is given."""
    return View(grant_pb2.ListGrantsRequest.View.Name(number)) if number else View.MINE


def watched_of(message: grant_pb2.WatchGrantsRequest) -> Watched:
    """Returns what is watched. Raises InvalidField."""
    return Watched(
        view=view_of(message.view),
        grant=grant_name(message.grant, "grant") if message.grant else "",
        start_revision=message.start_revision,
        start=head_of(message.start_revision, message.start_history),
    )


def delegation_of(message: delegation_pb2.Delegation) -> Wanted:
    """Returns the delegation that is wanted. Raises InvalidField."""
    if not message.HasField("expire_time"):
        raise InvalidField("delegation.expire_time", "is required: from then on the delegation is over")
    starts_at = _instant(message.start_time, "delegation.start_time") if message.HasField("start_time") else None
    return Wanted(
        delegate=message.delegate,
        expires_at=_instant(message.expire_time, "delegation.expire_time"),
        policies=tuple(message.policies),
        starts_at=starts_at,
        comment=message.comment,
    )


def lock_of(message: lock_pb2.Lock) -> WantedLock:
    """Returns the lock that is wanted. Raises InvalidField."""
    return WantedLock(
        target=Target(principal=message.principal, group=message.group, token_id=message.jti),
        comment=message.comment,
        expires_at=_instant(message.expire_time, "lock.expire_time") if message.HasField("expire_time") else None,
        end_grants=message.end_grants,
    )


def context_of(message: Struct, path: str = "context") -> dict[str, Any]:
    """Returns the object. Raises InvalidField for numbers that JSON does not have."""
    for value in message.fields.values():
        _check_finite(value, path)
    return dict(with_whole_numbers(MessageToDict(message)))


def recorded_duration(message: Message) -> timedelta | None:
    """Returns the duration that a refused call asked for, None where it has no sound one."""
    try:
        return _span(message.duration, "duration") if _has(message, "duration") else None  # type: ignore[attr-defined]
    except InvalidField:
        return None


def recorded_context(message: Message) -> dict[str, Any]:
    """Returns the context that a refused call asserted, nothing where it is none that a call may assert."""
    try:
        return contexts.bounded(context_of(message.context)) if _has(message, "context") else {}  # type: ignore[attr-defined]
    except InvalidField:
        return {}


def selector_of(message: grant_pb2.RevokeGrantsRequest) -> Selector:
    """Returns which grants are meant, not yet checked."""
    return Selector(
        subject=message.subject, policy=message.policy, resource=message.resource, labels=dict(message.labels)
    )


def signal_of(message: signal_pb2.Signal) -> Signal:
    """Returns the signal that the message describes. Raises InvalidField."""
    if not message.HasField("expire_time"):
        raise InvalidField("signal.expire_time", "is required: from then on the signal counts as missing")
    _check_finite(message.value, "signal.value")
    return Signal(
        name=checked_name(message.name, "signal.name"),
        value=with_whole_numbers(MessageToDict(message.value)) if message.value.WhichOneof("kind") else None,
        expires_at=_instant(message.expire_time, "signal.expire_time"),
    )


def policy_of(message: policy_pb2.Policy) -> Policy:
    """Returns the policy that the message describes, not yet checked. Raises InvalidField."""
    return Policy(
        name=message.name,
        display_name=message.display_name,
        eligible=_principals_of(message.eligible),
        resources=tuple(message.resources),
        actions=tuple(message.actions),
        min_duration=_span(message.min_duration, "min_duration"),
        max_duration=_positive(message, "max_duration"),
        default_duration=_positive(message, "default_duration"),
        request_ttl=_positive(message, "request_ttl") or DEFAULT_REQUEST_TTL,
        justification=JustificationRule(
            required=message.justification.required,
            pattern=message.justification.pattern,
            ticket_required=message.justification.ticket_required,
            ticket_pattern=message.justification.ticket_pattern,
        ),
        steps=tuple(_step_of(step) for step in message.steps),
        allow_self_approval=message.allow_self_approval,
        priority=message.priority,
        disabled=message.disabled,
        deny=message.deny,
        labels=dict(message.labels),
        request_condition=message.request_condition,
        check_condition=message.check_condition,
        max_active_per_subject=message.max_active_per_subject,
        activation_window=_positive(message, "activation_window"),
        max_uses=message.max_uses,
        idle_timeout=_positive(message, "idle_timeout"),
        extension=_extension_of(message),
        break_glass=_break_glass_of(message),
        review_comment=CommentRule(
            required_to_approve=message.review_comment.required_to_approve,
            required_to_deny=message.review_comment.required_to_deny,
            pattern=message.review_comment.pattern,
        ),
        max_child_depth=message.max_child_depth,
        forbid_delegation=message.forbid_delegation,
    )


def proposed_of(messages: Iterable[policy_pb2.Policy]) -> list[Proposed]:
    """Returns the policies of a set, each with the etag it was read at. Raises InvalidField."""
    proposed = []
    for index, message in enumerate(messages):
        try:
            proposed.append(Proposed(policy=policy_of(message), etag=message.etag))
        except InvalidField as fault:
            raise fault.within(f"policies[{index}]") from None
    return proposed


def policy_changed(current: Policy, message: policy_pb2.Policy, mask: FieldMask) -> Policy:
    """Returns `current` with the mask's fields taken from the message (AIP-134). Raises InvalidField."""
    paths = list(mask.paths) or [field.name for field, _ in message.ListFields() if field.name in _POLICY_INPUT]
    if paths == ["*"]:
        paths = sorted(_POLICY_INPUT)
    for path in paths:
        if path.partition(".")[0] not in _POLICY_INPUT or not _is_path(path):
            allowed = ", ".join(sorted(_POLICY_INPUT))
            raise InvalidField("update_mask", f"{path!a} cannot be changed; * and {allowed} can")
    merged = policy_message(current)
    for path in paths:
        if "." not in path:
            merged.ClearField(path)  # type: ignore[arg-type]
    given = policy_pb2.Policy()
    given.CopyFrom(message)
    for path in paths:
        if "." in path:
            # What is not set within a message that is not set either is given all the same: as empty.
            getattr(given, path.partition(".")[0]).SetInParent()
    FieldMask(paths=paths).MergeMessage(given, merged, True, True)
    return policy_of(merged)


def grant_message(grant: Grant, at: datetime, preview: Preview | None = None) -> grant_pb2.Grant:
    """Returns the grant with the state it has at `at`, and after a dry run the preview."""
    message = grant_pb2.Grant(
        name=grant.name,
        state=grant_pb2.Grant.State.Value(grant.state(at)),
        requester=grant.requester,
        subject=grant.subject,
        policy=grant.policy,
        policy_revision=grant.policy_revision,
        resources=grant.resources,
        actions=grant.actions,
        duration=_duration(grant.duration),
        labels=grant.labels or None,
        create_time=_timestamp(grant.created_at),
        request_expire_time=_timestamp(grant.request_expires_at),
        approve_time=_timestamp(grant.approved_at),
        start_time=_timestamp(grant.starts_at or grant.start_at),
        expire_time=_timestamp(grant.expires_at),
        reviews=[_review_message(review) for review in grant.reviews],
        steps=_step_statuses(grant, at),
        etag=etag.etag(grant.name, grant.revision) if grant.revision else "",
        revision=grant.revision,
        justification=_justification(grant.justification),
        requested=_terms(grant.requested),
        counter_offer=_offer(grant.offer),
        max_uses=grant.limits.max_uses,
        uses=grant.usage.count,
        last_use_time=_timestamp(grant.usage.last_at),
        extension=_extension(grant, at),
        extension_count=grant.extension_count,
        break_glass=grant.emergency is not None,
        review_due_time=_timestamp(grant.emergency.review_due_at) if grant.emergency else None,
        use_review=_use_review(grant),
        parent=grant.parent,
        chain=grant.chain,
        idle_timeout=_duration(grant.limits.idle_timeout or None),
    )
    if grant.end is not None:
        message.end_time.FromDatetime(grant.end.at)
        message.ended_by, message.end_comment = grant.end.by, grant.end.comment
    if grant.context:
        ParseDict(grant.context, message.context)
    if preview is not None:
        message.preview.CopyFrom(_preview_message(preview))
    return message


def told_message(told: GrantUpdate) -> grant_pb2.WatchGrantsResponse:
    """Returns what a watcher is told."""
    # In the audit log the check itself is recorded; of the grant it is a use.
    name = "GRANT_USED" if told.type is EventType.ACCESS_CHECKED else told.type
    return grant_pb2.WatchGrantsResponse(
        event_type=grant_pb2.WatchGrantsResponse.EventType.Value(name),
        grant=grant_message(told.grant, told.at) if told.grant is not None and told.at is not None else None,
        revision=told.revision,
        history=history_of(told.head),
    )


def replica_message(update: ReplicaUpdate) -> grant_pb2.WatchGrantsResponse:
    """Returns what a replica is told."""
    name = "GRANT_USED" if update.type is EventType.ACCESS_CHECKED else update.type
    return grant_pb2.WatchGrantsResponse(
        event_type=grant_pb2.WatchGrantsResponse.EventType.Value(name),
        revision=update.revision,
        history=history_of(update.head),
        replica=grant_pb2.ReplicaUpdate(
            grant=_checkable_message(update.grant) if update.grant is not None else None,
            deny_policies=[_deny_message(policy) for policy in update.denies or ()],
            locks=[message for lock in update.locks or () for message in _locked_messages(lock)],
            read_time=_timestamp(update.read_at),
            elapsed_duration=_duration(update.elapsed),
        ),
    )


def _checkable_message(grant: Checkable) -> grant_pb2.ReplicaGrant:
    return grant_pb2.ReplicaGrant(
        name=grant.name,
        state=grant_pb2.Grant.State.Value(grant.state),
        subject=grant.subject,
        resources=grant.resources,
        actions=grant.actions,
        start_time=_timestamp(grant.starts_at),
        expire_time=_timestamp(grant.expires_at),
        subject_groups=grant_pb2.ProvedGroups(groups=sorted(grant.groups)) if grant.groups is not None else None,
        needs_check=grant.needs_check,
    )


def _deny_message(policy: Policy) -> policy_pb2.Policy:
    """Whom it denies what, and nothing else of it."""
    return policy_pb2.Policy(
        name=policy.name,
        deny=True,
        eligible=_principal_set(policy.eligible),
        resources=policy.resources,
        actions=policy.actions,
        revision=policy.revision,
    )


def delegation_message(delegation: Delegation, at: datetime) -> delegation_pb2.Delegation:
    """Returns the delegation, active or not at `at`."""
    return delegation_pb2.Delegation(
        name=delegation.name,
        delegator=delegation.delegator,
        delegate=delegation.delegate,
        policies=delegation.policies,
        start_time=_timestamp(delegation.starts_at),
        expire_time=_timestamp(delegation.expires_at),
        comment=delegation.comment,
        active=delegation.active(at),
        create_time=_timestamp(delegation.created_at),
        delete_time=_timestamp(delegation.deleted_at),
        etag=etag.etag(delegation.name, delegation.revision),
        revision=delegation.revision,
    )


def lock_message(lock: Lock, at: datetime) -> lock_pb2.Lock:
    """Returns the lock, active or not at `at`."""
    message = _locked_message(lock, lock.target.principal)
    message.MergeFrom(
        lock_pb2.Lock(
            comment=lock.comment,
            end_grants=lock.end_grants,
            creator=lock.creator,
            active=lock.stands(at),
            create_time=_timestamp(lock.created_at),
            delete_time=_timestamp(lock.deleted_at),
            ended_grant_count=lock.ended_grants,
            etag=etag.etag(lock.name, lock.revision),
            revision=lock.revision,
        )
    )
    return message


def _locked_messages(lock: Lock) -> list[lock_pb2.Lock]:
    """Returns whom it locks until when, by every name of theirs, and nothing else of it."""
    return [_locked_message(lock, principal) for principal in lock.principals] or [_locked_message(lock, "")]


def _locked_message(lock: Lock, principal: str) -> lock_pb2.Lock:
    message = lock_pb2.Lock(name=lock.name)
    if principal:
        message.principal = principal
    elif lock.target.group:
        message.group = lock.target.group
    else:
        message.jti = lock.target.token_id
    if lock.expires_at is not None:
        _set(message.expire_time, lock.expires_at)
    return message


def _age(grant: Grant) -> tuple[datetime, str]:
    return grant.created_at, grant.name


def plan_message(plan: Plan) -> grant_pb2.RevokeGrantsResponse:
    """Returns the plan, or what was done, with a sample of the grants."""
    return grant_pb2.RevokeGrantsResponse(
        plan_id=plan.id,
        count=len(plan.grants),
        sample=[grant_message(grant, plan.at) for grant in nlargest(MAX_SAMPLE, plan.grants, key=_age)],
        executed=plan.executed,
    )


def signal_message(signal: Signal, at: datetime) -> signal_pb2.Signal:
    """Returns the signal, stale or not at `at`."""
    message = signal_pb2.Signal(
        name=signal.name,
        expire_time=_timestamp(signal.expires_at),
        stale=signal.stale(at),
        setter=signal.setter,
        update_time=_timestamp(signal.updated_at),
        etag=etag.etag(signal.name, signal.revision),
        revision=signal.revision,
    )
    ParseDict(signal.value, message.value)
    return message


def policy_message(policy: Policy) -> policy_pb2.Policy:
    """Returns the policy as stored."""
    message = policy_pb2.Policy(
        name=policy.name,
        display_name=policy.display_name,
        eligible=_principal_set(policy.eligible),
        resources=policy.resources,
        actions=policy.actions,
        min_duration=_duration(policy.min_duration or None),
        max_duration=_duration(policy.max_duration or None),
        default_duration=_duration(policy.default_duration or None),
        steps=[_step_message(step) for step in policy.steps],
        allow_self_approval=policy.allow_self_approval,
        priority=policy.priority,
        disabled=policy.disabled,
        deny=policy.deny,
        labels=policy.labels,
        etag=etag.etag(policy.name, policy.revision) if policy.revision else "",
        revision=policy.revision,
        create_time=_timestamp(policy.created_at),
        update_time=_timestamp(policy.updated_at),
        delete_time=_timestamp(policy.deleted_at),
        request_condition=policy.request_condition,
        check_condition=policy.check_condition,
        max_active_per_subject=policy.max_active_per_subject,
        activation_window=_duration(policy.activation_window or None),
        max_uses=policy.max_uses,
        idle_timeout=_duration(policy.idle_timeout or None),
        extension=_extension_rule(policy.extension),
        break_glass=_break_glass_rule(policy.break_glass),
        review_comment=_comment_rule(policy.review_comment),
        max_child_depth=policy.max_child_depth,
        forbid_delegation=policy.forbid_delegation,
    )
    rule = policy.justification
    if rule != JustificationRule():
        message.justification.required = rule.required
        message.justification.pattern = rule.pattern
        message.justification.ticket_required = rule.ticket_required
        message.justification.ticket_pattern = rule.ticket_pattern
    if not policy.deny:
        message.request_ttl.FromTimedelta(policy.request_ttl)
    return message


def applied_message(applied: Applied) -> policy_pb2.ApplyPoliciesResponse:
    """Returns the difference that applying a set makes."""
    changes = [_change_message(change) for change in applied.changes]
    misfits = [
        policy_pb2.Misfit(
            grant=misfit.grant,
            subject=misfit.subject,
            policy=misfit.policy,
            why=misfit.why,
            scheduled=misfit.scheduled,
            ended=misfit.ended,
        )
        for misfit in applied.misfits.told
    ]
    return policy_pb2.ApplyPoliciesResponse(
        changes=changes,
        revision=applied.revision,
        proposal=applied.proposal,
        misfits=misfits,
        misfit_count=applied.misfits.count,
    )


def proposal_message(proposal: Proposal, at: datetime) -> policy_pb2.PolicyProposal:
    """Returns the proposal with the state it has at `at`."""
    verdict = proposal.verdict
    return policy_pb2.PolicyProposal(
        name=proposal.name,
        state=policy_pb2.PolicyProposal.State.Value(proposal.state(at)),
        proposer=proposal.proposer,
        comment=proposal.comment,
        changes=[_change_message(change) for change in proposal.changes],
        create_time=_timestamp(proposal.created_at),
        expire_time=_timestamp(proposal.expires_at),
        decided_by=verdict.by if verdict else "",
        decide_time=_timestamp(verdict.at) if verdict else None,
        decide_comment=verdict.comment if verdict else "",
        etag=etag.etag(proposal.name, proposal.revision),
        revision=proposal.revision,
        end_misfits=proposal.end_misfits,
    )


def case_of(message: policy_pb2.PolicyTestCase, now: datetime) -> Case:
    """Returns the made-up request, at `now` where it says no time; not yet checked. Raises InvalidField."""
    signals = context_of(message.signals, "signals")
    for key in signals:
        checked_name(f"signals/{key}", f"signals.{key}")
    if message.source_ip and not _is_address(message.source_ip):
        raise InvalidField("source_ip", f"{message.source_ip[:80]!a} is not an address")
    return Case(
        title=message.display_name,
        by=Caller(
            principal=message.principal,
            groups=frozenset(message.groups),
            claims=context_of(message.claims, "claims"),
            origin=Origin(source_address=message.source_ip),
        ),
        ask=Ask(
            subject=message.subject,
            resources=tuple(message.resources),
            actions=tuple(message.actions),
            duration=_span(message.duration, "duration") if message.HasField("duration") else None,
            justification=Justification(text=message.justification, ticket=message.ticket),
            context=context_of(message.context),
            break_glass=message.break_glass,
        ),
        signals=Signals(live=signals),
        now=_instant(message.time, "time") if message.HasField("time") else now,
        expected=Expected(
            outcome=Outcome(policy_pb2.PolicyTestCase.Outcome.Name(message.expect)) if message.expect else None,
            reason=message.expect_reason,
            steps=tuple(message.expect_steps),
            check=message.expect_check,
        ),
    )


def tested_message(results: Sequence[Result]) -> policy_pb2.TestPolicyResponse:
    """Returns what came out of the cases."""
    failed = sum(bool(result.differences) for result in results)
    return policy_pb2.TestPolicyResponse(
        results=[
            policy_pb2.PolicyTestResult(
                display_name=result.title,
                passed=not result.differences,
                outcome=policy_pb2.PolicyTestCase.Outcome.Value(result.judged.outcome),
                reason=result.judged.reason,
                message=result.judged.message,
                steps=result.judged.steps,
                check=result.check,
                differences=result.differences,
            )
            for result in results
        ],
        passed_count=len(results) - failed,
        failed_count=failed,
    )


def window_of(message: policy_pb2.SimulatePoliciesRequest) -> tuple[datetime | None, datetime | None]:
    """Returns from when and until when, as far as given. Raises InvalidField."""
    start = _instant(message.start_time, "start_time") if message.HasField("start_time") else None
    end = _instant(message.end_time, "end_time") if message.HasField("end_time") else None
    return start, end


def simulated_message(simulated: Simulated) -> policy_pb2.SimulatePoliciesResponse:
    """Returns which recorded answers would change."""
    return policy_pb2.SimulatePoliciesResponse(
        request_count=simulated.request_count,
        check_count=simulated.check_count,
        changed_count=simulated.changed_count,
        changes=[
            policy_pb2.SimulatedChange(
                kind=policy_pb2.SimulatedChange.Kind.Value(change.kind),
                audit_event=f"auditEvents/{change.seq}",
                event_time=_timestamp(change.at),
                subject=change.subject,
                resources=change.resources,
                actions=change.actions,
                before=change.before.answer,
                after=change.after.answer,
                before_reason=change.before.reason,
                after_reason=change.after.reason,
                message=change.after.message,
            )
            for change in simulated.changes
        ],
        truncate_time=_timestamp(simulated.truncated_at),
    )


def check_message(checked: CheckResult, *, explain: bool) -> access_pb2.CheckAccessResponse:
    """Returns the answer, with what was looked at if that is asked for."""
    message = access_pb2.CheckAccessResponse()
    message.MergeFromString(checked.decided.encoded)
    _set_view(message, checked)
    message.decision_id = checked.decision_id
    if explain:
        message.trace.extend(map(_trace_message, checked.decision.findings))
    return message


# All ids have one length, and an answer's other fields may come before it.
_NO_ID: Final = str(UUID(int=0))
_BEFORE_ID: Final = access_pb2.CheckAccessResponse(decision_id=_NO_ID).SerializeToString().removesuffix(_NO_ID.encode())


class EncodedChecks:
    """The bytes of answers, quickest for those that rest on one view one after another."""

    def __init__(self) -> None:
        self._at: datetime | None = None
        self._view = b""

    def encoded(self, checked: CheckResult) -> bytes:
        """Returns `check_message(checked, explain=False).SerializeToString()`, but for the order of the fields."""
        if checked.at is not self._at:
            # The instant is an object of the view's own.
            view = access_pb2.CheckAccessResponse()
            _set_view(view, checked)
            self._at, self._view = checked.at, view.SerializeToString()
        return checked.decided.encoded + self._view + _BEFORE_ID + checked.decision_id.encode()


def _set_view(message: access_pb2.CheckAccessResponse, checked: CheckResult) -> None:
    message.revision = checked.revision
    _set(message.check_time, checked.at)
    if checked.staleness is not None:
        message.staleness.FromTimedelta(checked.staleness)


def encoded_decision(decision: Decision, requestable: Sequence[str]) -> bytes:
    """Returns the fields of an answer that depend on its decision alone; they are kept with the decision.

    With the answer's other fields behind them they are the whole answer: protobuf joins what is concatenated.
    """
    message = access_pb2.CheckAccessResponse()
    message.allowed = decision.allowed
    message.reason = _REASONS[decision.reason]
    message.message = decision.message
    if decision.grant is not None:
        message.grant = decision.grant.name
        if decision.allowed and decision.grant.expires_at is not None:
            _set(message.expire_time, decision.grant.expires_at)
    message.requestable_policies.extend(requestable)
    return message.SerializeToString()


def batch_message(
    answers: Sequence[CheckResult | JitError], *, explained: Sequence[bool]
) -> access_pb2.BatchCheckAccessResponse:
    """Returns the answers in order; with those that are `explained`, what was looked at."""
    message = access_pb2.BatchCheckAccessResponse()
    encoded = EncodedChecks().encoded
    for answer, explain in zip(answers, explained, strict=True):
        if isinstance(answer, JitError):
            message.results.append(refused_item(answer))
        elif explain:
            message.results.append(check_message(answer, explain=True))
        else:
            message.results.add().MergeFromString(encoded(answer))
    return message


def refused_item(error: JitError) -> access_pb2.CheckAccessResponse:
    """Returns the answer to a bad item of a batch: not allowed, and why."""
    return access_pb2.CheckAccessResponse(message=error.message, error=status(error))


def search_message(searched: Searched) -> access_pb2.SearchAccessResponse:
    """Returns the page."""
    return access_pb2.SearchAccessResponse(
        found=[
            access_pb2.FoundAccess(
                name=one.name,
                exceptions=one.excepted,
                grant=one.grant.name,
                expire_time=_timestamp(one.grant.expires_at),
            )
            for one in searched.found
        ],
        next_page_token=searched.next_page_token,
        revision=searched.revision,
        check_time=_timestamp(searched.at),
    )


def audit_message(recorded: RecordedEvent) -> audit_pb2.AuditEvent:
    """Returns the record."""
    event = recorded.event
    return audit_pb2.AuditEvent(
        name=f"auditEvents/{recorded.seq}",
        seq=recorded.seq,
        event_type=audit_pb2.AuditEvent.EventType.Value(event.type),
        event_time=_timestamp(event.at),
        principal=event.principal,
        subject=event.subject,
        resources=event.resources,
        actions=event.actions,
        decision=event.decision,
        reason=event.reason,
        message=event.message,
        grant=event.grant,
        policy=event.policy,
        policy_revision=event.policy_revision,
        duration=_duration(event.duration),
        held_duration=_duration(event.held),
        method=event.origin.method,
        source_address=event.origin.source_address,
        subject_source_ip=event.subject_source_ip,
        user_agent=event.origin.user_agent,
        trace_id=event.origin.trace_id,
        request_id=event.origin.request_id,
        decision_id=event.decision_id,
        revision=event.revision,
        signal=event.signal,
        chain=event.chain,
        delegation=event.delegation,
        proposal=event.proposal,
        token_id=event.token_id or event.origin.token_id,
        issuer=event.origin.issuer,
        issuer_subject=event.origin.issuer_subject,
        repeat_count=event.repeat_count,
        omitted_count=event.omitted_count,
        context_of=event.context_of,
        lock=event.lock,
        groups=event.groups,
        groups_left_out=event.groups_left_out,
        context=ParseDict(event.context, Struct()) if event.context else None,
        hash=recorded.hash.hex(),
    )


def tailed_message(told: AuditUpdate) -> audit_pb2.TailAuditEventsResponse:
    """Returns what whoever tails the log is told."""
    event = audit_message(told.recorded) if told.recorded is not None else None
    return audit_pb2.TailAuditEventsResponse(audit_event=event, seq=told.seq)


def compared_message(compared: Compared) -> audit_pb2.VerifyAuditLogResponse:
    """Returns what the chain says."""
    verified, states = compared.verified, audit_pb2.VerifyAuditLogResponse.CheckpointSignature
    return audit_pb2.VerifyAuditLogResponse(
        valid=not (verified.first_bad_seq or verified.differing),
        event_count=verified.event_count,
        head_hash=verified.head_hash.hex(),
        first_bad_seq=verified.first_bad_seq,
        problem=verified.problem,
        checkpoint_signature=states.Value(compared.signature or "CHECKPOINT_SIGNATURE_UNSPECIFIED"),
        first_differing=verified.differing,
        difference=verified.difference,
    )


def checkpoint_message(made: Made) -> audit_pb2.GetAuditCheckpointResponse:
    """Returns the checkpoint with the key that verifies it."""
    return audit_pb2.GetAuditCheckpointResponse(
        event_count=made.checkpoint.event_count,
        head_hash=made.checkpoint.head_hash.hex(),
        checkpoint_time=_timestamp(made.at),
        checkpoint=made.text,
        public_key=ParseDict(made.public_key, Struct()),
    )


def token_message(issued: Issued) -> token_pb2.IssueTokenResponse:
    """Returns a token for whoever asked for it."""
    token = issued.token
    return token_pb2.IssueTokenResponse(
        token=issued.text,
        token_id=token.id,
        expire_time=_timestamp(token.expires_at),
        audience=token.audience,
        grant=token.grant,
    )


def wanted_token_of(request: token_pb2.IssueTokenRequest) -> WantedToken:
    """Returns what token is asked for. Raises InvalidField."""
    ttl = _span(request.ttl, "ttl") if request.HasField("ttl") else None
    return WantedToken(audience=tuple(request.audience), ttl=ttl)


def _principals_of(message: policy_pb2.PrincipalSet) -> PrincipalSet:
    return PrincipalSet(principals=tuple(message.principals), groups=tuple(message.groups))


def _step_of(message: policy_pb2.Step) -> Step:
    return Step(
        approvers=_principals_of(message.approvers),
        approvals_needed=message.approvals_needed or 1,
        display_name=message.display_name,
        condition=message.condition,
        denials_needed=message.denials_needed or 1,
        timeout=_positive(message, "timeout"),
        escalate_to=_principals_of(message.escalate_to) if message.HasField("escalate_to") else None,
    )


def _extension_of(message: policy_pb2.Policy) -> ExtensionRule | None:
    if not message.HasField("extension"):
        return None
    rule = message.extension
    return ExtensionRule(
        max_extensions=rule.max_extensions,
        max_total_duration=_span(rule.max_total_duration, "extension.max_total_duration"),
    )


def _break_glass_of(message: policy_pb2.Policy) -> BreakGlassRule | None:
    if not message.HasField("break_glass"):
        return None
    rule = message.break_glass
    return BreakGlassRule(
        eligible=_principals_of(rule.eligible),
        max_duration=_span(rule.max_duration, "break_glass.max_duration"),
        review_within=_span(rule.review_within, "break_glass.review_within"),
        max_unreviewed=rule.max_unreviewed,
    )


def _principal_set(principals: PrincipalSet) -> policy_pb2.PrincipalSet:
    return policy_pb2.PrincipalSet(principals=principals.principals, groups=principals.groups)


def _step_message(step: Step) -> policy_pb2.Step:
    return policy_pb2.Step(
        display_name=step.display_name,
        approvers=_principal_set(step.approvers),
        approvals_needed=step.approvals_needed,
        condition=step.condition,
        denials_needed=step.denials_needed,
        timeout=_duration(step.timeout or None),
        escalate_to=_principal_set(step.escalate_to) if step.escalate_to else None,
    )


def _extension_rule(rule: ExtensionRule | None) -> policy_pb2.ExtensionRule | None:
    if rule is None:
        return None
    return policy_pb2.ExtensionRule(
        max_extensions=rule.max_extensions, max_total_duration=_duration(rule.max_total_duration)
    )


def _break_glass_rule(rule: BreakGlassRule | None) -> policy_pb2.BreakGlassRule | None:
    if rule is None:
        return None
    return policy_pb2.BreakGlassRule(
        eligible=_principal_set(rule.eligible),
        max_duration=_duration(rule.max_duration),
        review_within=_duration(rule.review_within),
        max_unreviewed=rule.max_unreviewed,
    )


def _comment_rule(rule: CommentRule) -> policy_pb2.CommentRule | None:
    if rule == CommentRule():
        return None
    return policy_pb2.CommentRule(
        required_to_approve=rule.required_to_approve, required_to_deny=rule.required_to_deny, pattern=rule.pattern
    )


def _preview_message(preview: Preview) -> grant_pb2.Preview:
    return grant_pb2.Preview(
        satisfiable=preview.satisfiable,
        shortfall=preview.shortfall,
        steps=[
            grant_pb2.StepPreview(
                display_name=shown.step.display_name,
                approvers=_principal_set(shown.step.approvers),
                excluded=shown.excluded,
                approvals_needed=shown.step.approvals_needed,
                condition=shown.step.condition if shown.step.judges_reviewer else "",
            )
            for shown in preview.steps
        ],
    )


def _step_statuses(grant: Grant, at: datetime) -> list[grant_pb2.StepStatus]:
    missing = approvals_missing(grant.steps, grant.round_reviews, grant.skipped)
    due_at = step_due_at(grant) if any(missing) else None
    waiting = waiting_step(grant.steps, missing)
    return [
        grant_pb2.StepStatus(
            display_name=step.display_name,
            approvers=_principal_set(step.approvers),
            approvals_needed=step.approvals_needed,
            approvals_remaining=remaining,
            skipped=index in grant.skipped,
            escalate_to=_principal_set(step.escalate_to) if step.escalate_to else None,
            due_time=_timestamp(due_at) if index == waiting else None,
            escalated=index == waiting and step.escalate_to is not None and due_at is not None and at >= due_at,
        )
        for index, (step, remaining) in enumerate(zip(grant.steps, missing, strict=True))
    ]


def _justification(given: Justification) -> grant_pb2.Justification | None:
    if not given.text and not given.ticket:
        return None
    return grant_pb2.Justification(text=given.text, ticket=given.ticket)


def _terms(terms: Terms | None) -> grant_pb2.AccessTerms | None:
    if terms is None:
        return None
    return grant_pb2.AccessTerms(
        resources=terms.resources,
        actions=terms.actions,
        duration=_duration(terms.duration),
        start_time=_timestamp(terms.start_at),
    )


def _offer(offer: Review | None) -> grant_pb2.CounterOffer | None:
    if offer is None:
        return None
    return grant_pb2.CounterOffer(
        reviewer=offer.reviewer,
        terms=_terms(offer.terms),
        comment=offer.comment,
        create_time=_timestamp(offer.at),
    )


def _extension(grant: Grant, at: datetime) -> grant_pb2.GrantExtension | None:
    extension, state = grant.extension, grant.extension_state(at)
    if extension is None or state is None:
        return None
    return grant_pb2.GrantExtension(
        state=grant_pb2.GrantExtension.State.Value(state),
        requester=extension.requester,
        duration=_duration(extension.duration),
        justification=_justification(extension.justification),
        create_time=_timestamp(extension.created_at),
        request_expire_time=_timestamp(extension.expires_at),
        requested_duration=_duration(extension.requested_duration),
        round=extension.round,
    )


def _use_review(grant: Grant) -> grant_pb2.UseReview | None:
    if grant.emergency is None or grant.emergency.review is None:
        return None
    review = grant.emergency.review
    return grant_pb2.UseReview(reviewer=review.reviewer, comment=review.comment, create_time=_timestamp(review.at))


def _review_message(review: Review) -> grant_pb2.Review:
    return grant_pb2.Review(
        reviewer=review.reviewer,
        decision=grant_pb2.Review.Decision.Value(review.decision),
        step=review.step + 1,
        comment=review.comment,
        create_time=_timestamp(review.at),
        terms=_terms(review.terms),
        on_behalf_of=review.on_behalf_of,
        round=review.round,
    )


def _change_message(change: PolicyChange) -> policy_pb2.PolicyChange:
    return policy_pb2.PolicyChange(
        policy=change.name,
        change_type=policy_pb2.PolicyChange.ChangeType.Value(change.type),
        changed_fields=change.changed_fields,
        before=policy_message(change.before) if change.before else None,
        after=policy_message(change.after) if change.after else None,
    )


def _trace_message(finding: Finding) -> access_pb2.CheckTrace:
    return access_pb2.CheckTrace(
        name=finding.name,
        reason=access_pb2.CheckAccessResponse.Reason.Value(finding.reason),
        message=finding.message,
    )


def _positive(message: policy_pb2.Policy | policy_pb2.Step, field: str) -> timedelta:
    span = _span(getattr(message, field), field)
    if message.HasField(field) and span <= timedelta():  # type: ignore[arg-type]
        raise InvalidField(field, f"is {seconds(span)}; it must be above 0s, or left out")
    return span


def _check_finite(value: Value, path: str) -> None:
    """JSON has neither NaN nor infinity, and a message can hold both."""
    kind = value.WhichOneof("kind")
    if kind == "number_value" and not math.isfinite(value.number_value):
        raise InvalidField(path, "holds a number that JSON does not have")
    inner = value.struct_value.fields.values() if kind == "struct_value" else value.list_value.values
    for part in inner:
        _check_finite(part, path)


def _span(message: Duration, field: str) -> timedelta:
    seconds, nanos = message.seconds, message.nanos
    if abs(seconds) > _MAX_SECONDS or abs(nanos) >= 10**9 or (seconds < 0 < nanos) or (nanos < 0 < seconds):
        raise InvalidField(field, "is not a duration that google.protobuf.Duration allows")
    if nanos % 1000:
        raise InvalidField(field, "is finer than a microsecond")
    return timedelta(seconds=seconds, microseconds=nanos // 1000)


def _instant(message: Timestamp, field: str) -> datetime:
    if not _FIRST_SECOND <= message.seconds <= _LAST_SECOND or not 0 <= message.nanos < 10**9:
        raise InvalidField(field, "is not an instant that google.protobuf.Timestamp allows")
    if message.nanos % 1000:
        raise InvalidField(field, "is finer than a microsecond")
    return message.ToDatetime(tzinfo=UTC)


def _duration(span: timedelta | None) -> Duration | None:
    if span is None:
        return None
    message = Duration()
    message.FromTimedelta(span)
    return message


def _timestamp(instant: datetime | None) -> Timestamp | None:
    return None if instant is None else _at(instant)


def _at(instant: datetime) -> Timestamp:
    message = Timestamp()
    _set(message, instant)
    return message


def _set(message: Timestamp, instant: datetime) -> None:
    """Without protobuf's own conversion, which costs as much as a decision."""
    since = instant - _EPOCH
    message.seconds = since.days * 86_400 + since.seconds
    message.nanos = since.microseconds * 1000


def _has(message: Message, field: str) -> bool:
    return field in message.DESCRIPTOR.fields_by_name and message.HasField(field)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_path(path: str) -> bool:
    return FieldMask(paths=[path]).IsValidForDescriptor(policy_pb2.Policy.DESCRIPTOR)
