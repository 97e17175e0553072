"""The use case of testing a policy: made-up requests are judged by it alone, and nothing comes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from jit_service.domain.checks.what_if import MAX_CASES, Case, CaseResult, run_case
from jit_service.domain.errors import InvalidField, PolicyNotFound
from jit_service.domain.policies import policy as policies
from jit_service.domain.policies.policy import Policy
from jit_service.storage import Snapshot, Store

CaseAt = Callable[[datetime], Case]
"""Gives the case in canonical form, at the instant where it says none itself. Raises InvalidField."""


def run_cases(
    store: Store, name: str, *, draft: Policy | None, cases: Sequence[CaseAt], exact: tuple[str, ...] = ()
) -> list[CaseResult]:
    """Judges the cases by the draft, or by the stored policy where there is none.

    `exact` is as in `name.principal`. Raises InvalidField, PolicyNotFound.
    """
    if not 1 <= len(cases) <= MAX_CASES:
        raise InvalidField("cases", f"has {len(cases)} cases; 1 to {MAX_CASES} are allowed")
    with store.snapshot() as snapshot:
        policy = _find_stored(snapshot, name) if draft is None else _normalize_draft(draft, name, exact)
        return [run_case(case(snapshot.now), policy) for case in cases]


def _find_stored(snapshot: Snapshot, name: str) -> Policy:
    policy = snapshot.policy(name)
    if policy is None or policy.deleted_at is not None:
        raise PolicyNotFound(f"there is no {name}", policy=name)
    return policy


def _normalize_draft(draft: Policy, name: str, exact: tuple[str, ...]) -> Policy:
    try:
        policy = policies.normalize(draft, exact=exact)
    except InvalidField as fault:
        raise fault.within("policy") from None
    if policy.name != name:
        raise InvalidField("policy.name", f"says {policy.name}, and the call is about {name}")
    return policy
