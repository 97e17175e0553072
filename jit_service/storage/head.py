"""A place in the store's history.

The hash of the last audit record covers every record before it, so it tells one history from another: a store that was
brought back from a backup, or that lost commits in a failover, has another hash at the same place.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from jit_service.domain.audit.chain import GENESIS


class Head(NamedTuple):
    """A place in a history: the last revision, and the last audit record's seq and hash."""

    revision: int
    seq: int
    hash: bytes

    def is_followed_by(self, revision: int, hash_there: bytes | None) -> bool:
        """Whether a history at the revision, whose record at `seq` has the hash, continues from here."""
        return self.revision <= revision and (self.seq == 0 or hash_there == self.hash)


BEGINNING: Final = Head(revision=0, seq=0, hash=GENESIS)
"""Where every history begins."""
