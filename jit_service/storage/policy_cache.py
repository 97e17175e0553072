"""Every policy as at one commit, so that the next transaction reads only what has changed since.

The head of the audit log stands for one history: its hash covers every record, and no policy changes without one. So
what is known as at an earlier head of the same history holds, but for the policies with a later revision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from jit_service.domain.policies.policy import Policy
from jit_service.storage.head import BEGINNING, Head


class PolicyCache(NamedTuple):
    """Every policy as at `head`, deleted ones too, by name and in its order."""

    head: Head
    by_name: Mapping[str, Policy]

    def with_changed(self, changed: Iterable[Policy], *, head: Head) -> PolicyCache:
        """Returns what is known as at a later head of the same history, up to which these have changed."""
        newer = {policy.name: policy for policy in changed}
        if not newer:
            return PolicyCache(head, self.by_name)
        return PolicyCache(head=head, by_name=dict(sorted({**self.by_name, **newer}.items())))


NO_POLICIES: Final = PolicyCache(head=BEGINNING, by_name={})
"""As a store begins."""
