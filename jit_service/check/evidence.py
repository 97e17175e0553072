"""Reads the evidence of a decision from a transaction or a snapshot of the store."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.conditions import signal
from jit_service.domain.grants.grant import Grant
from jit_service.storage import Snapshot


def stored_evidence(snapshot: Snapshot, grants: Iterable[Grant], *, now: datetime) -> Evidence[Grant]:
    """Returns what a decision on these grants at `now` needs besides them."""
    return Evidence(
        policies=[policy for policy in snapshot.policies() if policy.deny and policy.in_force],
        now=now,
        signals=signal.at(snapshot.signals(), now),
        above=snapshot.ancestors(grants),
        locks=snapshot.locks,
    )
