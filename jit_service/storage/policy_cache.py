"""Every policy as at one commit, so that the next transaction reads only what has changed since.

The head of the audit log stands for one history: its hash covers every record, and no policy changes without one. So
what is known as at an earlier head of the same history holds, but for the policies with a later revision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from jit_service.domain.audit.chain import GENESIS
from jit_service.domain.policies.policy import Policy


class Head(NamedTuple):
    """Where a history is: the last revision, and the last audit record with its hash."""

    revision: int
    seq: int
    hash: bytes

    def is_followed_by(self, revision: int, hash_there: bytes | None) -> bool:
        """Says whether a history at the revision, whose record at `seq` has the hash, is this one gone on."""
        return self.revision <= revision and (self.seq == 0 or hash_there == self.hash)


class KnownPolicies(NamedTuple):
    """Every policy as at `head`, deleted ones too, by name and in its order."""

    head: Head
    by_name: Mapping[str, Policy]

    def with_changed(self, changed: Iterable[Policy], *, head: Head) -> KnownPolicies:
        """Returns what is known as at a later head of the same history, up to which these have changed."""
        newer = {policy.name: policy for policy in changed}
        if not newer:
            return KnownPolicies(head, self.by_name)
        return KnownPolicies(head=head, by_name=dict(sorted({**self.by_name, **newer}.items())))


BEGINNING: Final = Head(revision=0, seq=0, hash=GENESIS)
"""Where every history begins."""
NOTHING: Final = KnownPolicies(head=BEGINNING, by_name={})
"""As a store begins."""
