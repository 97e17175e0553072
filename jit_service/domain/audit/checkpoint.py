"""Checkpoints: the length and head hash of the audit log, kept elsewhere, which a later log must continue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The log held so many records, at least one, and `head_hash` was the last one's."""

    event_count: int
    head_hash: bytes


class Fault(NamedTuple):
    """The first place that is known to be wrong, and what is wrong there."""

    seq: int
    problem: str


def fault_in(event_count: int, hash_there: bytes | None, *, since: Checkpoint) -> Fault | None:
    """Returns where a log of so many records is not the one that the checkpoint was made of, None where it is.

    `hash_there` is that of the record at the checkpoint's place.
    """
    if event_count < since.event_count:
        return Fault(event_count + 1, f"the log has {event_count} records; the checkpoint says {since.event_count}")
    if hash_there != since.head_hash:
        return Fault(since.event_count, f"record {since.event_count} or one before it is not as the checkpoint says")
    return None
