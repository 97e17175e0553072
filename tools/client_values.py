"""What tools/client_model.py makes of the protos for the Python client: enums, values, and exported names.

The values stand in an order in which a default is made of what stands before it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Enum:
    """An enum of the client.

    `doc` takes the place of a comment that needs its message around it. `unknown` is what UNKNOWN means; an enum that
    callers give has no UNKNOWN, and so an empty text.
    """

    name: str
    of: str
    doc: str = ""
    unknown: str = "A value that this client is too old to know."


@dataclass(frozen=True)
class Value:
    """A value of the client, made from the message `of`, or from the one that has its name.

    `doc` takes the place of the message's comment, and `note` follows it.
    `present` are the messages among its fields that are never None; `made` means that people make it, so that each
    field has a default, which else only the `defaulted` have. `raw` keeps the message. `order` are the fields that come
    last, `left_out` those that the value does not have, `hidden` the one that its repr does not show.
    """

    name: str
    of: str = ""
    doc: str = ""
    note: str = ""
    mixin: str = ""
    present: tuple[str, ...] = ()
    defaulted: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    hidden: str = ""
    made: bool = False
    raw: bool = False


ENUMS = (
    Enum("GrantState", "Grant.State", doc="The state of a grant at the instant of the answer."),
    Enum("ReviewDecision", "Review.Decision", doc="What a reviewer decided."),
    Enum("View", "ListGrantsRequest.View", doc="Whose grants a list holds.", unknown=""),
    Enum("CheckReason", "CheckAccessResponse.Reason", doc="Why a check says yes or no."),
    Enum("EventType", "AuditEvent.EventType", doc="What an audit event records."),
    Enum(
        "ChangeType", "PolicyChange.ChangeType", doc="What applying a set of policies did, or would do, to one of them."
    ),
    Enum("ExtensionState", "GrantExtension.State", doc="How far a request for more time is."),
    Enum("GrantEventType", "WatchGrantsResponse.EventType", doc="What happened to a grant."),
    Enum("ProposalState", "PolicyProposal.State", doc="How far a proposed set of policies is."),
    Enum("PolicyTestOutcome", "PolicyTestCase.Outcome"),
    Enum("SimulatedKind", "SimulatedChange.Kind", doc="What was decided again."),
    Enum("Consistency", "CheckAccessRequest.Consistency", doc="How fresh the answer to a check must be.", unknown=""),
    Enum(
        "CheckpointSignature",
        "VerifyAuditLogResponse.CheckpointSignature",
        doc="What the service knows of a checkpoint's signature.",
        unknown="No checkpoint was given.",
    ),
)
VALUES = (
    Value("PrincipalSet", made=True),
    Value("Justification", made=True),
    Value("AccessTerms"),
    Value("CounterOffer", present=("terms",)),
    Value(
        "GrantExtension",
        doc="A request for more time, the `round`-th of its grant.",
        present=("duration", "justification"),
        defaulted=("requested_duration", "round"),
    ),
    Value("UseReview"),
    Value("Review"),
    Value("StepStatus", present=("approvers",)),
    Value("StepPreview", present=("approvers",)),
    Value("Preview"),
    Value(
        "Grant",
        mixin="NamedWithSteps",
        present=("duration", "justification"),
        raw=True,
        note="Unset instants are None.",
    ),
    Value("ProvedGroups", made=True),
    Value(
        "ReplicaGrant",
        doc="What a check reads of an approved grant; only CheckAccess can decide about one that `needs_check`.",
    ),
    Value("ReplicaUpdate", left_out=("locks",), note="`LocalChecker` is such a replica."),
    Value(
        "GrantEvent",
        "WatchGrantsResponse",
        doc="One change of a grant, or a sign of life.",
        order=("history", "replica"),
        raw=True,
        note="A sign of life has no grant. Watching again from `revision` goes on after it.",
    ),
    Value(
        "RevocationPlan",
        "RevokeGrantsResponse",
        doc="Which grants would end, or have ended. `plan_id` names this very set, and goes stale when it changes.",
        raw=True,
    ),
    Value("CheckTrace", doc="One grant or deny policy that a check looked at, and what it says."),
    Value(
        "Decision",
        "CheckAccessResponse",
        doc="The answer to a check.",
        mixin="TrueIfAllowed",
        raw=True,
        note="It is true where it is a yes, so that `if client.check(...)` does what it says. `error` is set only in "
        "a batch, for an item that could not be decided; such an item is a no.",
    ),
    Value(
        "FoundAccess",
        doc="What a search found: a subject, action or resource, or a pattern, which stands for all but `exceptions`.",
        raw=True,
    ),
    Value("Recognised", "WhoAmIResponse", doc="Whom the service takes the caller for, by its token.", raw=True),
    Value("JustificationRule", made=True),
    Value("Step", present=("approvers",), made=True),
    Value("ExtensionRule", doc="How often, and to which total from its start, a grant may be extended.", made=True),
    Value("BreakGlassRule", present=("eligible",), made=True),
    Value("CommentRule", made=True),
    Value("ReviewAssurance", made=True),
    Value(
        "Policy",
        present=("eligible", "justification", "review_comment"),
        made=True,
        raw=True,
        note="Made by hand to be written, or read from the service and changed by `dataclasses.replace`.",
    ),
    Value("PolicyChange"),
    Value("Misfit"),
    Value(
        "AppliedPolicies",
        "ApplyPoliciesResponse",
        doc="The difference between the stored policies and the given ones.",
        raw=True,
        note="With a `proposal` nothing is written yet: another admin must approve it.",
    ),
    Value("PolicyProposal", mixin="Named", raw=True),
    Value(
        "PolicyTestResult",
        doc="What came out of one case. `steps` count from 1.",
        mixin="TrueIfPassed",
        note="It is true where all is as expected.",
    ),
    Value(
        "PolicyTestReport",
        "TestPolicyResponse",
        doc="What came out of the cases, in their order.",
        mixin="TrueIfAllPassed",
        raw=True,
        note="It is true where each case came out as expected.",
    ),
    Value("SimulatedChange", doc="One recorded answer that a draft would change."),
    Value(
        "Simulation",
        "SimulatePoliciesResponse",
        doc="What a draft would have answered otherwise. Nothing after `truncate_time`, if any, was judged.",
        raw=True,
    ),
    Value(
        "SimulationProgress",
        "StreamPolicySimulationResponse",
        doc="How far the simulation of policies is; the last one has the result.",
        raw=True,
    ),
    Value(
        "Delegation",
        doc="The right of the delegator to review, lent to the delegate; without `policies`, all of it.",
        mixin="Named",
        raw=True,
    ),
    Value(
        "Lock",
        doc="A lock on exactly one of principal, group and jti; without `expire_time`, until it is lifted.",
        mixin="Named",
        raw=True,
    ),
    Value(
        "AuditEvent",
        raw=True,
        order=(
            "hash",
            "signal",
            "chain",
            "delegation",
            "proposal",
            "token_id",
            "issuer",
            "issuer_subject",
            "repeat_count",
            "omitted_count",
            "context_of",
            "lock",
            "groups",
            "groups_left_out",
            "context",
            "subject_source_ip",
            "acr",
            "amr",
            "auth_time",
        ),
    ),
    Value("Signal", mixin="Named", raw=True),
    Value(
        "TailedEvent",
        "TailAuditEventsResponse",
        doc="One record of the audit log, or a sign of life.",
        left_out=("audit_events",),
        raw=True,
        note="A sign of life has no record. Tailing again from `seq` goes on after it.",
    ),
    Value(
        "AuditBeginning",
        "AuditBeginning",
        doc="Where a log begins whose first records were pruned.",
        present=("prune_time",),
        note="`verify_checkpoint` verifies its `checkpoint` by its `public_key`.",
    ),
    Value(
        "AuditVerdict",
        "VerifyAuditLogResponse",
        doc="What the verification of the audit log found.",
        mixin="TrueIfValid",
        raw=True,
        note="It is true where the log is whole, the store agrees with it, and a checkpoint that was given was made "
        "of it. Where `checkpoint_signature` is KEY_UNKNOWN, anybody may have made the checkpoint: "
        "`verify_checkpoint` verifies it by its key.",
    ),
    Value(
        "AuditVerification",
        "StreamAuditVerificationResponse",
        doc="How far the verification of the audit log is; the last one has the result.",
        raw=True,
    ),
    Value(
        "AuditCheckpoint",
        "GetAuditCheckpointResponse",
        present=("checkpoint_time",),
        raw=True,
        note="To be kept elsewhere, whole.",
    ),
    Value(
        "IssuedToken",
        "IssueTokenResponse",
        doc="A token of a grant.",
        hidden="token",
        raw=True,
        note="Whoever has `token` can use it, so it is not shown.",
    ),
)
EXPORTS = {
    "_transport": ("Retry",),
    "aio": ("AsyncJitClient",),
    "client": ("JitClient",),
    "config": ("token_file",),
    "errors": (
        "Aborted", "AlreadyExists", "DeadlineExceeded", "FailedPrecondition", "FieldViolation", "Internal",
        "InvalidArgument", "JitError", "Misconfigured", "NotFound", "PermissionDenied", "ResourceExhausted",
        "TokenRefused", "Unauthenticated", "Unavailable"),
    "jose.checkpoints": ("SignedCheckpoint", "verify_checkpoint"),
    "jose.refusal": ("TokenReason",),
    "jose.tokens": ("GrantToken", "LiveGrants", "verify_token"),
    "replica.checker": ("LocalChecker", "LocalDecision"),
    "replica.checker_aio": ("AsyncLocalChecker",),
    "replica.decision": ("LocalReason",),
    "contract.model": ("CheckItem", "Page", *(one.name for one in ENUMS), *(one.name for one in VALUES)),
}  # fmt: skip
