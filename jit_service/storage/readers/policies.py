"""Policies: current revisions from the cache, earlier ones from their table."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func
from sqlmodel import select

from jit_service.domain.audit.event import Event
from jit_service.domain.policies.policy import Policy
from jit_service.storage import prepared, rows
from jit_service.storage.policy_cache import NO_POLICIES
from jit_service.storage.readers.reading import Reading
from jit_service.storage.tables import PolicyRevisionRow, PolicyRow


class PolicyReader(Reading):
    """Reads policies. Of the current ones it reads only those that changed since the cache was made."""

    def policy(self, name: str) -> Policy | None:
        """Returns the current revision of the policy, even if it is deleted, or None."""
        return self._policies_by_name().get(name)

    def policies(self, *, deleted: bool = False) -> list[Policy]:
        """Returns every policy in its current revision, by name; with `deleted`, also deleted ones."""
        return [policy for policy in self._policies_by_name().values() if deleted or policy.deleted_at is None]

    def policy_revision(self, name: str, revision: int) -> Policy | None:
        """Returns an earlier revision of the policy, or None."""
        row = self._session.get(PolicyRevisionRow, (name, revision))
        return None if row is None else rows.POLICIES.validate_python(row.document)

    def recorded_revision(self, event: Event) -> Policy:
        """Returns the policy as the event left it.

        Raises StoreUnavailable if its row is missing, or is not as this service left it.
        """
        row = self._session.get(PolicyRevisionRow, (event.policy, event.policy_revision))
        if row is None:
            raise self._sealer.refuse(f"revision {event.policy_revision} of {event.policy} is missing")
        policy = rows.POLICIES.validate_python(row.document)
        if row.seal is not None:
            self._sealer.demand(revision_name(row.name, row.revision), policy, row.seal)
        # A row from before revisions were sealed; a record from before there were seals has none either.
        elif (seal := event.states.get(event.policy)) is not None:
            self._sealer.demand(event.policy, policy, bytes.fromhex(seal))
        return policy

    def policies_revision(self) -> int:
        """Returns the revision at which a policy was last changed or deleted; 0 if there never was one."""
        return self._session.exec(select(func.max(PolicyRow.revision))).one() or 0

    def _policies_by_name(self) -> Mapping[str, Policy]:
        """Returns every policy by name; reads those that changed since the store's last transaction."""
        if self.policy_cache is None:
            before = self._earlier_policies if self.has_been_at(self._earlier_policies.head) else NO_POLICIES
            changed = (
                prepared.CHANGED_POLICIES.rows(self._connection, revision=before.head.revision)
                if before.head.revision < self.revision
                else ()
            )
            if before is NO_POLICIES:
                self._sealer.demand_sum("policy", (row.seal for row in changed), self._sums)
            policies = [self._sealed(row, rows.POLICIES.validate_python(row.document)) for row in changed]
            self.policy_cache = before.with_changed(policies, head=self.head)
        return self.policy_cache.by_name


def revision_name(policy: str, revision: int) -> str:
    """Returns the name under which this revision of the policy is sealed."""
    return f"{policy}@{revision}"
