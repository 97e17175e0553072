"""Every policy as of one commit, so that the next transaction reads only what has changed since.

The head of the audit log identifies one history: its hash covers every record, and no policy changes without a record.
So policies that were cached at an earlier head of the same history are valid, except those with a later revision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from jit_service.domain.policies.policy import Policy
from jit_service.storage.head import BEGINNING, Head


class PolicyCache(NamedTuple):
    """Every policy as of `head`, also deleted ones, ordered by name."""

    head: Head
    by_name: Mapping[str, Policy]

    def with_changed(self, changed: Iterable[Policy], *, head: Head) -> PolicyCache:
        """Returns the cache at a later head of the same history, up to which these policies have changed."""
        newer = {policy.name: policy for policy in changed}
        if not newer:
            return PolicyCache(head, self.by_name)
        return PolicyCache(head=head, by_name=dict(sorted({**self.by_name, **newer}.items())))


NO_POLICIES: Final = PolicyCache(head=BEGINNING, by_name={})
"""The policies of a new store."""
