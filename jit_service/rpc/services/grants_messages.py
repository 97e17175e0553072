"""The messages of GrantService: requests, grants, watches and replicas."""

from __future__ import annotations

from datetime import datetime
from heapq import nlargest
from typing import Final

from jit_service.domain.audit.event import EventType
from jit_service.domain.grants.grant import Extension, Grant, Justification, Review, UseReview
from jit_service.domain.grants.lock import Lock
from jit_service.domain.grants.more_time import MoreTime
from jit_service.domain.grants.preview import Preview, StepPreview
from jit_service.domain.grants.quorum import approvals_missing, step_due_at, waiting_step
from jit_service.domain.grants.request import Ask
from jit_service.domain.grants.terms import Edits
from jit_service.domain.language.name import grant_name
from jit_service.domain.policies.policy import Policy, PrincipalSet, Step
from jit_service.feeds.grants import ControlEvent, GrantUpdate, Watched, head_of, history_of
from jit_service.feeds.replica import Checkable, ReplicaUpdate
from jit_service.rpc.mapping import Decoder, Encoder, Rule
from jit_service.rpc.well_known_types import duration, set_timestamp, timestamp
from jit_service.use_cases.bulk_revocation import GrantSelector, RevocationPlan
from jit_service.use_cases.grants import GrantView
from jitaccess.v1 import grant_pb2, lock_pb2, policy_pb2

MAX_SAMPLE: Final = 20

_REQUEST: Final = Decoder(grant_pb2.RequestGrantRequest, Ask, given=("subject",))
_ENSURE: Final = Decoder(grant_pb2.EnsureGrantRequest, Ask, given=("subject",))
approval_edits_of = Decoder(grant_pb2.ApproveGrantRequest, Edits)
counter_edits_of = Decoder(grant_pb2.CounterGrantRequest, Edits)
more_time_of = Decoder(
    grant_pb2.ExtendGrantRequest,
    MoreTime,
    {"duration": Rule(required="is required: how much longer the access shall last")},
)
selector_of = Decoder(grant_pb2.RevokeGrantsRequest, GrantSelector)

_REVIEW: Final = Encoder(
    grant_pb2.Review,
    Review,
    {
        "step": lambda review: review.step + 1,
        "create_time": "at",
        "acr": "authentication.acr",
        "amr": "authentication.amr",
        "auth_time": "authentication.at",
    },
)
_OFFER: Final = Encoder(grant_pb2.CounterOffer, Review, {"create_time": "at"})
_USE_REVIEW: Final = Encoder(grant_pb2.UseReview, UseReview, {"create_time": "at"})
_STEP: Final = Encoder(grant_pb2.StepStatus, Step, derived=("approvals_remaining", "skipped", "due_time", "escalated"))
_EXTENSION: Final = Encoder(
    grant_pb2.GrantExtension,
    Extension,
    {"justification": lambda extension: _given(extension.justification), "request_expire_time": "expires_at"},
    derived=("state",),
)
_PREVIEW: Final = Encoder(
    grant_pb2.Preview,
    Preview,
    {
        "steps": Encoder(
            grant_pb2.StepPreview,
            StepPreview,
            {"condition": lambda shown: shown.step.condition if shown.step.judges_reviewer else ""},
            within=("step",),
        )
    },
)
_GRANT: Final = Encoder(
    grant_pb2.Grant,
    Grant,
    {
        "start_time": lambda grant: grant.starts_at or grant.start_at,
        "justification": lambda grant: _given(grant.justification),
        "reviews": _REVIEW,
        "counter_offer": ("offer", _OFFER),
        "end_time": "end.at",
        "ended_by": "end.by",
        "end_comment": "end.comment",
        "max_uses": "limits.max_uses",
        "idle_timeout": lambda grant: grant.limits.idle_timeout or None,
        "uses": "usage.count",
        "last_use_time": "usage.last_at",
        "break_glass": lambda grant: grant.emergency is not None,
        "review_due_time": "emergency.review_due_at",
        "use_review": ("emergency.review", _USE_REVIEW),
    },
    derived=("state", "steps", "extension", "preview"),
)
_REPLICA_GRANT: Final = Encoder(
    grant_pb2.ReplicaGrant, Checkable, {"subject_groups": lambda grant: _proved_groups(grant.groups)}
)
_PRINCIPALS: Final = Encoder(policy_pb2.PrincipalSet, PrincipalSet)


def ask_of(message: grant_pb2.RequestGrantRequest | grant_pb2.EnsureGrantRequest, caller: str) -> Ask:
    """Returns the request; one without a subject is for the caller. Raises InvalidField."""
    decode = _REQUEST if isinstance(message, grant_pb2.RequestGrantRequest) else _ENSURE
    return decode(message, subject=message.subject or caller)


def view_of(number: grant_pb2.ListGrantsRequest.View.ValueType) -> GrantView:
    """Returns the view of an enum value of the contract; MINE if none is given."""
    return GrantView(grant_pb2.ListGrantsRequest.View.Name(number)) if number else GrantView.MINE


def watched_of(message: grant_pb2.WatchGrantsRequest) -> Watched:
    """Returns which grants a watcher wants to follow. Raises InvalidField."""
    return Watched(
        view=view_of(message.view),
        grant=grant_name(message.grant, "grant") if message.grant else "",
        start_revision=message.start_revision,
        start=head_of(message.start_revision, message.start_history),
    )


def grant_message(grant: Grant, at: datetime, preview: Preview | None = None) -> grant_pb2.Grant:
    """Returns the grant with the state it has at `at`, and after a dry run the preview."""
    return _GRANT(
        grant,
        state=grant.state(at),
        steps=_step_statuses(grant, at),
        extension=_extension(grant, at),
        preview=_PREVIEW(preview) if preview is not None else None,
    )


def plan_message(plan: RevocationPlan) -> grant_pb2.RevokeGrantsResponse:
    """Returns the plan, or what was done, with its latest grants as a sample."""
    return grant_pb2.RevokeGrantsResponse(
        plan_id=plan.id,
        count=len(plan.grants),
        sample=[grant_message(grant, plan.at) for grant in nlargest(MAX_SAMPLE, plan.grants, key=_age)],
        executed=plan.executed,
    )


def watch_message(update: GrantUpdate) -> grant_pb2.WatchGrantsResponse:
    """Returns the update for a watcher."""
    return grant_pb2.WatchGrantsResponse(
        event_type=_event_type(update.type),
        grant=grant_message(update.grant, update.at) if update.grant is not None and update.at is not None else None,
        revision=update.revision,
        history=history_of(update.head),
    )


def replica_message(update: ReplicaUpdate) -> grant_pb2.WatchGrantsResponse:
    """Returns the update for a replica."""
    return grant_pb2.WatchGrantsResponse(
        event_type=_event_type(update.type),
        revision=update.revision,
        history=history_of(update.head),
        replica=grant_pb2.ReplicaUpdate(
            grant=_REPLICA_GRANT(update.grant) if update.grant is not None else None,
            deny_policies=[_deny_message(policy) for policy in update.denies or ()],
            locks=[message for lock in update.locks or () for message in _lock_messages(lock)],
            read_time=timestamp(update.read_at),
            elapsed_duration=duration(update.elapsed),
        ),
    )


def _given(justification: Justification) -> Justification | None:
    return justification if justification.text or justification.ticket else None


def _proved_groups(groups: frozenset[str] | None) -> grant_pb2.ProvedGroups | None:
    return grant_pb2.ProvedGroups(groups=sorted(groups)) if groups is not None else None


def _age(grant: Grant) -> tuple[datetime, str]:
    return grant.created_at, grant.name


def _event_type(type_: EventType | ControlEvent) -> grant_pb2.WatchGrantsResponse.EventType.ValueType:
    # The audit log records a check, and a watcher of the grant sees its use.
    name = "GRANT_USED" if type_ is EventType.ACCESS_CHECKED else type_
    return grant_pb2.WatchGrantsResponse.EventType.Value(name)


def _step_statuses(grant: Grant, at: datetime) -> list[grant_pb2.StepStatus]:
    missing = approvals_missing(grant.steps, grant.round_reviews, grant.skipped)
    due_at = step_due_at(grant) if any(missing) else None
    waiting = waiting_step(grant.steps, missing)
    return [
        _STEP(
            step,
            approvals_remaining=remaining,
            skipped=index in grant.skipped,
            due_time=timestamp(due_at) if index == waiting else None,
            escalated=index == waiting and step.escalate_to is not None and due_at is not None and at >= due_at,
        )
        for index, (step, remaining) in enumerate(zip(grant.steps, missing, strict=True))
    ]


def _extension(grant: Grant, at: datetime) -> grant_pb2.GrantExtension | None:
    state = grant.extension_state(at)
    return _EXTENSION(grant.extension, state=state) if state is not None else None


def _deny_message(policy: Policy) -> policy_pb2.Policy:
    """Returns only the part of a deny policy that a check reads."""
    return policy_pb2.Policy(
        name=policy.name,
        deny=True,
        eligible=_PRINCIPALS(policy.eligible),
        resources=policy.resources,
        actions=policy.actions,
        revision=policy.revision,
    )


def _lock_messages(lock: Lock) -> list[lock_pb2.Lock]:
    """Returns only the target and the end of a lock, once for each name of a locked principal."""
    named = [lock_pb2.Lock(principal=principal) for principal in lock.principals]
    group, token_id = lock.target.group, lock.target.token_id
    messages = named or [lock_pb2.Lock(group=group) if group else lock_pb2.Lock(jti=token_id)]
    for message in messages:
        message.name = lock.name
        if lock.expires_at is not None:
            set_timestamp(message.expire_time, lock.expires_at)
    return messages
