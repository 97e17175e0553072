"""Policy files judged without a service, by its own rules: what `jit policy lint|test|diff --offline` loads (ADR 47).

The entry point `policies` of the group `jitaccess.offline` is this module. It takes and answers the contract's
messages; what is refused is answered as google.rpc.Status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import wraps
from typing import ParamSpec, TypeVar

from google.rpc.status_pb2 import Status

from jit_service.domain.checks import cases
from jit_service.domain.errors import JitError
from jit_service.domain.language import name
from jit_service.domain.policies import diff
from jit_service.domain.policies.diff import PolicyDraft
from jit_service.rpc import errors, strictness
from jit_service.rpc.services.policies_messages import (
    applied_message,
    cases_of,
    drafts_of,
    proposed_of,
    tested_message,
)
from jit_service.use_cases.policies import ApplyResult
from jitaccess.v1 import policy_pb2

P = ParamSpec("P")
T = TypeVar("T")


def _answered(judge: Callable[P, T]) -> Callable[P, T | Status]:
    """Makes a refusal the status that a call would have ended with."""

    @wraps(judge)
    def answer(*args: P.args, **kwargs: P.kwargs) -> T | Status:
        try:
            return judge(*args, **kwargs)
        except JitError as refusal:
            return errors.status(refusal)

    return answer


@_answered
def apply_policies(
    request: policy_pb2.ApplyPoliciesRequest, stored: Iterable[policy_pb2.Policy]
) -> policy_pb2.ApplyPoliciesResponse:
    """Answers what applying the set would do if these policies were stored. It knows of no grants, so of no misfits."""
    strictness.check_message(request)
    there = diff.normalize_set(draft.policy for draft in proposed_of(stored))
    # An etag is of a policy that a service has.
    drafts = [PolicyDraft(policy=draft.policy) for draft in proposed_of(request.policies)]
    changes = diff.difference(there.values(), drafts, prune=request.prune)
    return applied_message(ApplyResult(changes=tuple(changes), revision=0))


@_answered
def test_policy(request: policy_pb2.TestPolicyRequest) -> policy_pb2.TestPolicyResponse:
    """Judges the cases by the drafts alone, as TestPolicy does beside those that are stored."""
    strictness.check_message(request)
    tested = name.policy_name(request.name, "name")
    drafts = diff.normalize_set(draft.policy for draft in drafts_of(request, tested, ()))
    return tested_message(cases.run_cases(drafts.values(), tested, cases_of(request.cases, ()), now=datetime.now(UTC)))
