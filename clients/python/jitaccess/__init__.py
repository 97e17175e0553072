"""The Python client of the just-in-time access service.

    from datetime import timedelta
    from jitaccess import JitClient

    with JitClient() as client:
        grant = client.request("database/orders/eu", "read", duration=timedelta(minutes=30))
        if client.check("user:alice@example.com", "read", "database/orders/eu"):
            ...

Names load when they are first used, so that the command line starts without gRPC.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jitaccess._transport import Retry
    from jitaccess.aio import AsyncJitClient
    from jitaccess.client import JitClient
    from jitaccess.config import token_file
    from jitaccess.contract.model import (
        AccessTerms,
        AppliedPolicies,
        AuditCheckpoint,
        AuditEvent,
        AuditVerdict,
        BreakGlassRule,
        ChangeType,
        CheckItem,
        CheckpointSignature,
        CheckReason,
        CheckTrace,
        CommentRule,
        Consistency,
        CounterOffer,
        Decision,
        Delegation,
        EventType,
        ExtensionRule,
        ExtensionState,
        FoundAccess,
        Grant,
        GrantEvent,
        GrantEventType,
        GrantExtension,
        GrantState,
        IssuedToken,
        Justification,
        JustificationRule,
        Lock,
        Misfit,
        Page,
        Policy,
        PolicyChange,
        PolicyProposal,
        PolicyTestOutcome,
        PolicyTestReport,
        PolicyTestResult,
        Preview,
        PrincipalSet,
        ProposalState,
        ProvedGroups,
        ReplicaGrant,
        ReplicaUpdate,
        Review,
        ReviewDecision,
        RevocationPlan,
        Signal,
        SimulatedChange,
        SimulatedKind,
        Simulation,
        Step,
        StepPreview,
        StepStatus,
        TailedEvent,
        UseReview,
        View,
    )
    from jitaccess.errors import (
        Aborted,
        AlreadyExists,
        DeadlineExceeded,
        FailedPrecondition,
        FieldViolation,
        Internal,
        InvalidArgument,
        JitError,
        Misconfigured,
        NotFound,
        PermissionDenied,
        ResourceExhausted,
        TokenRefused,
        Unauthenticated,
        Unavailable,
    )
    from jitaccess.jose.checkpoints import SignedCheckpoint, verify_checkpoint
    from jitaccess.jose.tokens import GrantToken, LiveGrants, verify_token
    from jitaccess.replica.checker import LocalChecker, LocalDecision
    from jitaccess.replica.checker_aio import AsyncLocalChecker
    from jitaccess.replica.decision import LocalReason

__all__ = [
    "Aborted",
    "AccessTerms",
    "AlreadyExists",
    "AppliedPolicies",
    "AsyncJitClient",
    "AsyncLocalChecker",
    "AuditCheckpoint",
    "AuditEvent",
    "AuditVerdict",
    "BreakGlassRule",
    "ChangeType",
    "CheckItem",
    "CheckReason",
    "CheckTrace",
    "CheckpointSignature",
    "CommentRule",
    "Consistency",
    "CounterOffer",
    "DeadlineExceeded",
    "Decision",
    "Delegation",
    "EventType",
    "ExtensionRule",
    "ExtensionState",
    "FailedPrecondition",
    "FieldViolation",
    "FoundAccess",
    "Grant",
    "GrantEvent",
    "GrantEventType",
    "GrantExtension",
    "GrantState",
    "GrantToken",
    "Internal",
    "InvalidArgument",
    "IssuedToken",
    "JitClient",
    "JitError",
    "Justification",
    "JustificationRule",
    "LiveGrants",
    "LocalChecker",
    "LocalDecision",
    "LocalReason",
    "Lock",
    "Misconfigured",
    "Misfit",
    "NotFound",
    "Page",
    "PermissionDenied",
    "Policy",
    "PolicyChange",
    "PolicyProposal",
    "PolicyTestOutcome",
    "PolicyTestReport",
    "PolicyTestResult",
    "Preview",
    "PrincipalSet",
    "ProposalState",
    "ProvedGroups",
    "ReplicaGrant",
    "ReplicaUpdate",
    "ResourceExhausted",
    "Retry",
    "Review",
    "ReviewDecision",
    "RevocationPlan",
    "Signal",
    "SignedCheckpoint",
    "SimulatedChange",
    "SimulatedKind",
    "Simulation",
    "Step",
    "StepPreview",
    "StepStatus",
    "TailedEvent",
    "TokenReason",
    "TokenRefused",
    "Unauthenticated",
    "Unavailable",
    "UseReview",
    "View",
    "token_file",
    "verify_checkpoint",
    "verify_token",
]

_HOMES = {
    "JitClient": "client",
    "AsyncJitClient": "aio",
    "AsyncLocalChecker": "replica.checker_aio",
    "LocalChecker": "replica.checker",
    "LocalDecision": "replica.checker",
    "LocalReason": "replica.decision",
    "Retry": "_transport",
    "token_file": "config",
    "TokenReason": "jose.refusal",
    "GrantToken": "jose.tokens",
    "LiveGrants": "jose.tokens",
    "SignedCheckpoint": "jose.checkpoints",
    "verify_checkpoint": "jose.checkpoints",
    "verify_token": "jose.tokens",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'jitaccess' has no attribute {name!r}")
    home = _HOMES.get(name)
    modules = [home] if home else ["errors", "contract.model"]
    for module in modules:
        found: object = getattr(import_module(f"jitaccess.{module}"), name, None)
        if found is not None:
            globals()[name] = found
            return found
    raise AttributeError(f"module 'jitaccess' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
