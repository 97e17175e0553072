"""Etags (AIP-154): a call that sends back the etag it read fails if the resource has changed since."""

from __future__ import annotations

import hashlib

from jit_service.domain.errors import StaleEtag


def etag(name: str, revision: int) -> str:
    """Returns the etag of a resource at a revision; opaque to callers."""
    return hashlib.sha256(f"{name}@{revision}".encode()).hexdigest()[:16]


def demand(given: str, name: str, revision: int) -> None:
    """Raises StaleEtag unless `given` is empty or the etag of that revision."""
    current = etag(name, revision)
    if given and given != current:
        raise StaleEtag(f"{name} has changed since etag {given[:64]!a}; it is now {current}", etag=current)
