"""The hash chain of the audit log.

Each record's hash covers the previous hash, its own place and its exact stored bytes, so an edit, a deletion, an
insertion or a change of order breaks every hash from there on.
"""

from __future__ import annotations

import hashlib
from typing import Final

GENESIS: Final = bytes(32)
"""The hash before the first record."""


def link(previous: bytes, seq: int, payload: bytes) -> bytes:
    """Returns the record's SHA-256: over the previous hash, seq as 8 bytes big-endian, and the payload."""
    return hashlib.sha256(previous + seq.to_bytes(8, "big") + payload).digest()
