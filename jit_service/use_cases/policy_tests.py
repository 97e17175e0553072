"""The use case of testing a policy: made-up requests are judged by the whole set, and nothing comes of them."""

from __future__ import annotations

from collections.abc import Sequence

from jit_service.domain.checks import cases
from jit_service.domain.checks.cases import CaseAt, CaseResult
from jit_service.domain.policies import diff
from jit_service.domain.policies.diff import PolicyDraft
from jit_service.storage import Store


def run_cases(
    store: Store,
    tested: str,
    made_up: Sequence[CaseAt],
    *,
    drafts: Sequence[PolicyDraft],
    prune: bool,
    exact: tuple[str, ...] = (),
) -> list[CaseResult]:
    """Judges the cases of the tested policy by the stored policies, each replaced by its draft if there is one.

    With `prune` the drafts are all there is. `exact` is as in `name.principal`. Raises InvalidField, PolicyNotFound,
    StaleEtag.
    """
    with store.snapshot() as snapshot:
        changes = diff.difference(snapshot.policies(deleted=True), drafts, prune=prune, exact=exact)
        return cases.run_cases(diff.outcome(snapshot.policies(), changes), tested, made_up, now=snapshot.now)
