"""What the service answers, as plain frozen values: aware UTC datetimes, timedeltas, tuples and enums.

Fields bear the contract's names (proto/jitaccess/v1). `raw` is the protobuf message that the value was read from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from jitaccess.errors import JitError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from jitaccess.v1 import (
        access_pb2,
        audit_pb2,
        delegation_pb2,
        grant_pb2,
        lock_pb2,
        policy_pb2,
        signal_pb2,
        token_pb2,
    )

T = TypeVar("T")


class GrantState(StrEnum):
    """The state of a grant at the instant of the answer. UNKNOWN: one that this client is too old to know."""

    UNKNOWN = "UNKNOWN"
    PENDING = "PENDING"
    SCHEDULED = "SCHEDULED"
    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"
    RELEASED = "RELEASED"
    DENIED = "DENIED"
    WITHDRAWN = "WITHDRAWN"
    LAPSED = "LAPSED"


class ReviewDecision(StrEnum):
    """What a reviewer decided."""

    UNKNOWN = "UNKNOWN"
    APPROVED = "APPROVED"
    DENIED = "DENIED"


class View(StrEnum):
    """Whose grants a list holds."""

    MINE = "MINE"
    REVIEWABLE = "REVIEWABLE"
    ALL = "ALL"
    VISIBLE = "VISIBLE"
    REVIEW_DEBT = "REVIEW_DEBT"


class CheckReason(StrEnum):
    """Why a check says yes or no."""

    UNKNOWN = "UNKNOWN"
    ALLOWED = "ALLOWED"
    NO_GRANT = "NO_GRANT"
    NOT_YET_STARTED = "NOT_YET_STARTED"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"
    RELEASED = "RELEASED"
    PENDING = "PENDING"
    CONDITION_NOT_MET = "CONDITION_NOT_MET"
    CONDITION_ERROR = "CONDITION_ERROR"
    USES_EXHAUSTED = "USES_EXHAUSTED"
    SIGNAL_STALE = "SIGNAL_STALE"
    DENIED_BY_POLICY = "DENIED_BY_POLICY"
    LOCKED = "LOCKED"


class EventType(StrEnum):
    """What an audit event records."""

    UNKNOWN = "UNKNOWN"
    GRANT_REQUESTED = "GRANT_REQUESTED"
    GRANT_APPROVED = "GRANT_APPROVED"
    GRANT_DENIED = "GRANT_DENIED"
    GRANT_WITHDRAWN = "GRANT_WITHDRAWN"
    GRANT_REVOKED = "GRANT_REVOKED"
    GRANT_RELEASED = "GRANT_RELEASED"
    GRANT_EXPIRED = "GRANT_EXPIRED"
    GRANT_LAPSED = "GRANT_LAPSED"
    POLICY_CREATED = "POLICY_CREATED"
    POLICY_UPDATED = "POLICY_UPDATED"
    POLICY_DELETED = "POLICY_DELETED"
    ACCESS_CHECKED = "ACCESS_CHECKED"
    ACCESS_SEARCHED = "ACCESS_SEARCHED"
    CALL_REFUSED = "CALL_REFUSED"
    SIGNAL_SET = "SIGNAL_SET"
    SIGNAL_DELETED = "SIGNAL_DELETED"
    GRANTS_REVOKED = "GRANTS_REVOKED"
    BREAK_GLASS_USED = "BREAK_GLASS_USED"
    REVIEW_COMPLETED = "REVIEW_COMPLETED"
    GRANT_COUNTERED = "GRANT_COUNTERED"
    COUNTER_OFFER_ACCEPTED = "COUNTER_OFFER_ACCEPTED"
    COUNTER_OFFER_DECLINED = "COUNTER_OFFER_DECLINED"
    EXTENSION_REQUESTED = "EXTENSION_REQUESTED"
    EXTENSION_APPROVED = "EXTENSION_APPROVED"
    EXTENSION_DENIED = "EXTENSION_DENIED"
    EXTENSION_WITHDRAWN = "EXTENSION_WITHDRAWN"
    EXTENSION_LAPSED = "EXTENSION_LAPSED"
    DELEGATION_CREATED = "DELEGATION_CREATED"
    DELEGATION_DELETED = "DELEGATION_DELETED"
    POLICIES_PROPOSED = "POLICIES_PROPOSED"
    PROPOSAL_APPROVED = "PROPOSAL_APPROVED"
    PROPOSAL_REJECTED = "PROPOSAL_REJECTED"
    PROPOSAL_LAPSED = "PROPOSAL_LAPSED"
    TOKEN_ISSUED = "TOKEN_ISSUED"  # noqa: S105  # A name.
    TOKEN_REVOKED = "TOKEN_REVOKED"  # noqa: S105  # A name.
    SIGNING_KEY_ADDED = "SIGNING_KEY_ADDED"
    SIGNING_KEY_REMOVED = "SIGNING_KEY_REMOVED"
    REVIEW_OVERDUE = "REVIEW_OVERDUE"
    LOCK_CREATED = "LOCK_CREATED"
    LOCK_DELETED = "LOCK_DELETED"
    LOCK_EXPIRED = "LOCK_EXPIRED"


class ChangeType(StrEnum):
    """What applying a set of policies did, or would do, to one of them."""

    UNKNOWN = "UNKNOWN"
    CREATED = "CREATED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"
    UNCHANGED = "UNCHANGED"


class ExtensionState(StrEnum):
    """How far a request for more time is."""

    UNKNOWN = "UNKNOWN"
    PENDING = "PENDING"
    APPROVED = "APPROVED"
    DENIED = "DENIED"
    WITHDRAWN = "WITHDRAWN"
    LAPSED = "LAPSED"


class GrantEventType(StrEnum):
    """What happened to a grant; CURRENT: how it is when a watch begins."""

    UNKNOWN = "UNKNOWN"
    CURRENT = "CURRENT"
    HEARTBEAT = "HEARTBEAT"
    OVERRUN = "OVERRUN"
    GRANT_REQUESTED = "GRANT_REQUESTED"
    GRANT_APPROVED = "GRANT_APPROVED"
    GRANT_DENIED = "GRANT_DENIED"
    GRANT_WITHDRAWN = "GRANT_WITHDRAWN"
    GRANT_REVOKED = "GRANT_REVOKED"
    GRANT_RELEASED = "GRANT_RELEASED"
    GRANT_EXPIRED = "GRANT_EXPIRED"
    GRANT_LAPSED = "GRANT_LAPSED"
    GRANT_USED = "GRANT_USED"
    BREAK_GLASS_USED = "BREAK_GLASS_USED"
    REVIEW_COMPLETED = "REVIEW_COMPLETED"
    GRANT_COUNTERED = "GRANT_COUNTERED"
    COUNTER_OFFER_ACCEPTED = "COUNTER_OFFER_ACCEPTED"
    COUNTER_OFFER_DECLINED = "COUNTER_OFFER_DECLINED"
    EXTENSION_REQUESTED = "EXTENSION_REQUESTED"
    EXTENSION_APPROVED = "EXTENSION_APPROVED"
    EXTENSION_DENIED = "EXTENSION_DENIED"
    EXTENSION_WITHDRAWN = "EXTENSION_WITHDRAWN"
    EXTENSION_LAPSED = "EXTENSION_LAPSED"
    DENY_POLICIES = "DENY_POLICIES"
    LOCKS = "LOCKS"


class ProposalState(StrEnum):
    """How far a proposed set of policies is."""

    UNKNOWN = "UNKNOWN"
    PENDING = "PENDING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    LAPSED = "LAPSED"


class PolicyTestOutcome(StrEnum):
    """What would become of a made-up request."""

    UNKNOWN = "UNKNOWN"
    ACTIVE = "ACTIVE"
    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    REFUSED = "REFUSED"


class SimulatedKind(StrEnum):
    """What was judged again."""

    UNKNOWN = "UNKNOWN"
    REQUEST = "REQUEST"
    CHECK = "CHECK"


@dataclass(frozen=True, kw_only=True)
class PrincipalSet:
    """Principals by name and by group; one match is enough."""

    principals: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Justification:
    """The requester's why."""

    text: str = ""
    ticket: str = ""


@dataclass(frozen=True, kw_only=True)
class AccessTerms:
    """What access is given, and when; without `start_time` once it is approved."""

    resources: tuple[str, ...]
    actions: tuple[str, ...]
    duration: timedelta | None
    start_time: datetime | None


@dataclass(frozen=True, kw_only=True)
class CounterOffer:
    """Terms that a reviewer offers instead of those asked for."""

    reviewer: str
    terms: AccessTerms
    comment: str
    create_time: datetime | None


@dataclass(frozen=True, kw_only=True)
class GrantExtension:
    """A request for more time, the `round`-th of its grant; it lapses at `request_expire_time`.

    `requested_duration` is what was asked for, where a reviewer gave less.
    """

    state: ExtensionState
    requester: str
    duration: timedelta
    justification: Justification
    create_time: datetime | None
    request_expire_time: datetime | None
    requested_duration: timedelta | None = None
    round: int = 0


@dataclass(frozen=True, kw_only=True)
class UseReview:
    """How a break-glass use was reviewed."""

    reviewer: str
    comment: str
    create_time: datetime | None


@dataclass(frozen=True, kw_only=True)
class Review:
    """One reviewer's decision. `step` counts from 1; `round` 0 is the request, n the n-th one for more time.

    `terms` are there where an approval changed them, `on_behalf_of` where the reviewer was a delegate.
    """

    reviewer: str
    decision: ReviewDecision
    step: int
    comment: str
    create_time: datetime | None
    terms: AccessTerms | None
    on_behalf_of: str
    round: int


@dataclass(frozen=True, kw_only=True)
class StepStatus:
    """How far one step of the review is. Skipped: its condition did not hold, so it needs nobody.

    From `due_time` on `escalate_to` may decide it too; without it the request lapses then.
    """

    display_name: str
    approvers: PrincipalSet
    approvals_needed: int
    approvals_remaining: int
    skipped: bool
    escalate_to: PrincipalSet | None
    due_time: datetime | None
    escalated: bool


@dataclass(frozen=True, kw_only=True)
class StepPreview:
    """Who could approve one step; `excluded` are named principals who may not, being involved themselves.

    Whoever decides must meet `condition` then, where there is one; that nobody knows before.
    """

    display_name: str
    approvers: PrincipalSet
    excluded: tuple[str, ...]
    approvals_needed: int
    condition: str


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What would become of a request. `shortfall` says what is missing where it is not satisfiable."""

    satisfiable: bool
    shortfall: str
    steps: tuple[StepPreview, ...]


@dataclass(frozen=True, kw_only=True)
class Grant:
    """One aggregate from the request to its end: it is a request until it is approved. Unset instants are None.

    `preview` is there after a dry run only, whose grant has no name; `requested` where other terms were given than
    asked for; `counter_offer` while nobody has answered it. `max_uses` 0 is any number. A break-glass grant without a
    `use_review` owes one until `review_due_time`.
    """

    name: str
    state: GrantState
    requester: str
    subject: str
    policy: str
    policy_revision: int
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    duration: timedelta
    justification: Justification
    labels: Mapping[str, str]
    create_time: datetime | None
    request_expire_time: datetime | None
    approve_time: datetime | None
    start_time: datetime | None
    expire_time: datetime | None
    end_time: datetime | None
    ended_by: str
    end_comment: str
    reviews: tuple[Review, ...]
    steps: tuple[StepStatus, ...]
    etag: str
    revision: int
    context: Mapping[str, object]
    preview: Preview | None
    requested: AccessTerms | None
    counter_offer: CounterOffer | None
    max_uses: int
    uses: int
    last_use_time: datetime | None
    extension: GrantExtension | None
    extension_count: int
    break_glass: bool
    review_due_time: datetime | None
    use_review: UseReview | None
    parent: str
    chain: tuple[str, ...]
    idle_timeout: timedelta | None
    raw: grant_pb2.Grant = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        """The last segment of the name."""
        return self.name.removeprefix("grants/")

    @property
    def approvals_remaining(self) -> int:
        """How many approvals are missing, over all steps."""
        return sum(step.approvals_remaining for step in self.steps)


@dataclass(frozen=True, kw_only=True)
class ProvedGroups:
    """Groups of somebody's token."""

    groups: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReplicaGrant:
    """What a check reads of an approved grant; only CheckAccess can judge one that `needs_check`."""

    name: str
    state: GrantState
    subject: str
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    start_time: datetime | None
    expire_time: datetime | None
    subject_groups: ProvedGroups | None
    needs_check: bool


@dataclass(frozen=True, kw_only=True)
class ReplicaUpdate:
    """What a replica is told; `LocalChecker` is one."""

    grant: ReplicaGrant | None
    deny_policies: tuple[Policy, ...]
    read_time: datetime | None
    elapsed_duration: timedelta | None


@dataclass(frozen=True, kw_only=True)
class GrantEvent:
    """One change of a grant, with the grant as it was after it; a sign of life has none, and neither has a replica.

    Watching again from `revision` goes on after it.
    """

    event_type: GrantEventType
    grant: Grant | None
    revision: int
    history: str
    replica: ReplicaUpdate | None
    raw: grant_pb2.WatchGrantsResponse = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class RevocationPlan:
    """Which grants would end, or have ended. `plan_id` names this very set, and goes stale when it changes."""

    plan_id: str
    count: int
    sample: tuple[Grant, ...]
    executed: bool
    raw: grant_pb2.RevokeGrantsResponse = field(repr=False, compare=False)


class Consistency(StrEnum):
    """How fresh an answer must be: of every commit acknowledged before the question, or of the service's bound."""

    STRONG = "STRONG"
    BOUNDED = "BOUNDED"


class CheckItem(NamedTuple):
    """One question of a batch. `source_ip` is where the subject is, for conditions; empty: it is not known."""

    subject: str
    action: str
    resource: str
    explain: bool = False
    min_revision: int = 0
    context: Mapping[str, object] | None = None
    consistency: Consistency | str = Consistency.STRONG
    source_ip: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckTrace:
    """One grant or deny policy that a check looked at, and what it says."""

    name: str
    reason: CheckReason
    message: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The answer to a check; true where it is a yes, so that `if client.check(...)` does what it says.

    `error` is set only in a batch, for an item that could not be judged; such an item is a no. `staleness` is how old
    the view may be that a bounded answer rests on.
    """

    allowed: bool
    reason: CheckReason
    message: str
    grant: str
    expire_time: datetime | None
    revision: int
    check_time: datetime | None
    decision_id: str
    requestable_policies: tuple[str, ...]
    trace: tuple[CheckTrace, ...]
    error: JitError | None
    staleness: timedelta | None
    raw: access_pb2.CheckAccessResponse = field(repr=False, compare=False)

    def __bool__(self) -> bool:
        return self.allowed and self.error is None


@dataclass(frozen=True, kw_only=True)
class FoundAccess:
    """A subject, action or resource that a search found, or a pattern: every name it matches but the `exceptions`."""

    name: str
    exceptions: tuple[str, ...]
    grant: str
    expire_time: datetime | None
    raw: access_pb2.FoundAccess = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class JustificationRule:
    """What a request must say."""

    required: bool = False
    pattern: str = ""
    ticket_required: bool = False
    ticket_pattern: str = ""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the review; `approvals_needed` and `denials_needed` 0 are 1.

    After `timeout` the principals of `escalate_to` may decide too; without them the request lapses then.
    """

    display_name: str = ""
    approvers: PrincipalSet = PrincipalSet()
    approvals_needed: int = 0
    condition: str = ""
    denials_needed: int = 0
    timeout: timedelta | None = None
    escalate_to: PrincipalSet | None = None


@dataclass(frozen=True, kw_only=True)
class ExtensionRule:
    """How often, and to which total from its start, a grant may be extended."""

    max_extensions: int = 0
    max_total_duration: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class BreakGlassRule:
    """Who may take access at once in an emergency, for how long, and how soon that must be reviewed."""

    eligible: PrincipalSet = PrincipalSet()
    max_duration: timedelta | None = None
    review_within: timedelta | None = None
    max_unreviewed: int = 0


@dataclass(frozen=True, kw_only=True)
class CommentRule:
    """What reviewers must say."""

    required_to_approve: bool = False
    required_to_deny: bool = False
    pattern: str = ""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Who may request which resources and actions, for how long, and who must approve.

    Made by hand to be written, or read from the service; `dataclasses.replace` of one that was read changes it.
    """

    name: str = ""
    display_name: str = ""
    eligible: PrincipalSet = PrincipalSet()
    resources: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    min_duration: timedelta | None = None
    max_duration: timedelta | None = None
    default_duration: timedelta | None = None
    request_ttl: timedelta | None = None
    justification: JustificationRule = JustificationRule()
    steps: tuple[Step, ...] = ()
    allow_self_approval: bool = False
    priority: int = 0
    disabled: bool = False
    deny: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""
    revision: int = 0
    create_time: datetime | None = None
    update_time: datetime | None = None
    delete_time: datetime | None = None
    request_condition: str = ""
    check_condition: str = ""
    max_active_per_subject: int = 0
    activation_window: timedelta | None = None
    max_uses: int = 0
    idle_timeout: timedelta | None = None
    extension: ExtensionRule | None = None
    break_glass: BreakGlassRule | None = None
    review_comment: CommentRule = CommentRule()
    max_child_depth: int = 0
    forbid_delegation: bool = False
    raw: policy_pb2.Policy | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class PolicyChange:
    """What happened, or would happen, to one policy. `before` is None when created, `after` when deleted."""

    policy: str
    change_type: ChangeType
    changed_fields: tuple[str, ...]
    before: Policy | None
    after: Policy | None


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """A scheduled or live grant that the policies would not give any more. `ended`: with the change; or it goes on."""

    grant: str
    subject: str
    policy: str
    why: str
    scheduled: bool
    ended: bool


@dataclass(frozen=True, kw_only=True)
class AppliedPolicies:
    """The difference between the stored policies and the given ones.

    With a `proposal` nothing is written yet: that one waits for another admin. `misfits` are the first of
    `misfit_count`, those that end first.
    """

    changes: tuple[PolicyChange, ...]
    revision: int
    proposal: str
    misfits: tuple[Misfit, ...]
    misfit_count: int
    raw: policy_pb2.ApplyPoliciesResponse = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class PolicyProposal:
    """A set of policies that waits for another admin until `expire_time`."""

    name: str
    state: ProposalState
    proposer: str
    comment: str
    changes: tuple[PolicyChange, ...]
    create_time: datetime | None
    expire_time: datetime | None
    decided_by: str
    decide_time: datetime | None
    decide_comment: str
    etag: str
    revision: int
    end_misfits: bool
    raw: policy_pb2.PolicyProposal = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        """The last segment of the name."""
        return self.name.removeprefix("policyProposals/")


@dataclass(frozen=True, kw_only=True)
class PolicyTestResult:
    """What came out of one case; true where it is all that was expected. `steps` count from 1."""

    display_name: str
    passed: bool
    outcome: PolicyTestOutcome
    reason: str
    message: str
    steps: tuple[int, ...]
    check: str
    differences: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.passed


@dataclass(frozen=True, kw_only=True)
class PolicyTestReport:
    """What came out of the cases, in their order; true where each came out as expected."""

    results: tuple[PolicyTestResult, ...]
    passed_count: int
    failed_count: int
    raw: policy_pb2.TestPolicyResponse = field(repr=False, compare=False)

    def __bool__(self) -> bool:
        return not self.failed_count and all(self.results)


@dataclass(frozen=True, kw_only=True)
class SimulatedChange:
    """One recorded answer that a draft would change. `before` and `after` are a state or REFUSED, ALLOWED or DENIED."""

    kind: SimulatedKind
    audit_event: str
    event_time: datetime | None
    subject: str
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    before: str
    after: str
    before_reason: str
    after_reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What a draft would have answered otherwise. Nothing after `truncate_time`, if any, was judged."""

    request_count: int
    check_count: int
    changed_count: int
    changes: tuple[SimulatedChange, ...]
    truncate_time: datetime | None
    raw: policy_pb2.SimulatePoliciesResponse = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Delegation:
    """The right of the delegator to review, lent to the delegate; without `policies` all of it."""

    name: str
    delegator: str
    delegate: str
    policies: tuple[str, ...]
    start_time: datetime | None
    expire_time: datetime | None
    comment: str
    active: bool
    create_time: datetime | None
    delete_time: datetime | None
    etag: str
    revision: int
    raw: delegation_pb2.Delegation = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        """The last segment of the name."""
        return self.name.removeprefix("delegations/")


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A lock on exactly one of principal, group and jti; without `expire_time` until it is lifted."""

    name: str
    principal: str
    group: str
    jti: str
    comment: str
    expire_time: datetime | None
    end_grants: bool
    creator: str
    active: bool
    create_time: datetime | None
    delete_time: datetime | None
    ended_grant_count: int
    etag: str
    revision: int
    raw: lock_pb2.Lock = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        """The last segment of the name."""
        return self.name.removeprefix("locks/")


@dataclass(frozen=True, kw_only=True)
class AuditEvent:
    """One act, as it was recorded. `seq` counts from 1 without gaps; `hash` is SHA-256 in hex."""

    name: str
    seq: int
    event_type: EventType
    event_time: datetime | None
    principal: str
    subject: str
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    decision: str
    reason: str
    message: str
    grant: str
    policy: str
    policy_revision: int
    duration: timedelta | None
    held_duration: timedelta | None
    method: str
    source_address: str
    user_agent: str
    trace_id: str
    request_id: str
    decision_id: str
    revision: int
    hash: str
    signal: str
    chain: tuple[str, ...]
    delegation: str
    proposal: str
    token_id: str
    issuer: str
    issuer_subject: str
    repeat_count: int
    omitted_count: int
    context_of: str
    lock: str
    groups: tuple[str, ...]
    groups_left_out: bool
    context: Mapping[str, object]
    subject_source_ip: str
    raw: audit_pb2.AuditEvent = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A named piece of system state; `value` is what JSON can hold. Stale: it has expired, and counts as missing."""

    name: str
    value: object
    expire_time: datetime | None
    stale: bool
    setter: str
    update_time: datetime | None
    etag: str
    revision: int
    raw: signal_pb2.Signal = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        """The last segment of the name."""
        return self.name.removeprefix("signals/")


@dataclass(frozen=True, kw_only=True)
class TailedEvent:
    """One record of the audit log as it came; a sign of life has none. Tailing again from `seq` goes on after it."""

    audit_event: AuditEvent | None
    seq: int
    raw: audit_pb2.TailAuditEventsResponse = field(repr=False, compare=False)


class CheckpointSignature(StrEnum):
    """What the service knows of a checkpoint's signature; UNKNOWN: no checkpoint was given."""

    UNKNOWN = "UNKNOWN"
    VERIFIED = "VERIFIED"
    KEY_UNKNOWN = "KEY_UNKNOWN"


@dataclass(frozen=True, kw_only=True)
class AuditVerdict:
    """What the hash chain says; true where every record is there, in order and as it was written.

    And where what the store has is what the log says of it last; else `first_differing` is the name of what is not, and
    `difference` why. With a checkpoint, true only where the records are those that it was made of as well.
    `first_bad_seq` is 0 where the log is whole.
    With `checkpoint_signature` KEY_UNKNOWN, anybody may have made it: `verify_checkpoint` tells by its key.
    """

    valid: bool
    event_count: int
    head_hash: str
    first_bad_seq: int
    problem: str
    checkpoint_signature: CheckpointSignature
    first_differing: str
    difference: str
    raw: audit_pb2.VerifyAuditLogResponse = field(repr=False, compare=False)

    def __bool__(self) -> bool:
        return self.valid


@dataclass(frozen=True, kw_only=True)
class AuditCheckpoint:
    """What the audit log was, signed; to be kept elsewhere, whole. `public_key` is the JWK that verifies it."""

    event_count: int
    head_hash: str
    checkpoint_time: datetime
    checkpoint: str
    public_key: Mapping[str, object]
    raw: audit_pb2.GetAuditCheckpointResponse = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """One page of a list; `next_page_token` is empty on the last. `raw` is the list's response message."""

    items: tuple[T, ...]
    next_page_token: str
    raw: Message = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class IssuedToken:
    """A token of a grant. Whoever has `token` can use it, so it is not shown."""

    token: str = field(repr=False)
    token_id: str
    expire_time: datetime | None
    audience: tuple[str, ...]
    grant: str
    raw: token_pb2.IssueTokenResponse = field(repr=False, compare=False)
