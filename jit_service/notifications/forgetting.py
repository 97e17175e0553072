"""Forgets notifications that nobody will deliver any more, and what was remembered of those that were sent.

What was delivered leaves no notification. What was given up can be retried until it is forgotten. Notifications of a
receiver that was taken out of the settings are neither delivered nor given up: while they wait, the audit log keeps
their records, so they must have an end too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta

from jit_service.storage import Store


def is_due(store: Store, retention: timedelta, receivers: Collection[str]) -> bool:
    """Returns whether there is anything to forget. `receivers` are those in the settings."""
    with store.snapshot() as snapshot:
        return snapshot.has_old_notifications(before=snapshot.now - retention, receivers=receivers)


def forget(store: Store, retention: timedelta, receivers: Collection[str]) -> Mapping[str, int]:
    """Forgets what is older than the retention. Returns how many notifications it forgot by receiver."""
    with store.outbox() as outbox:
        return outbox.forget(before=outbox.now - retention, receivers=receivers)


def said(forgotten: Mapping[str, int], receivers: Collection[str]) -> str:
    """Returns what the log says of notifications that were forgotten; empty if there were none."""
    parts = [
        f"{count} of {name}, {'which gave up' if name in receivers else 'a receiver that the settings do not have'}"
        for name, count in sorted(forgotten.items())
    ]
    return f"forgot notifications that were never delivered: {'; '.join(parts)}" if parts else ""
