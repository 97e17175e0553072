"""A second telling of the rules, to hold the domain and the service against.

Written the other way round on purpose: each grant stores its status, time moves from one boundary to the next, patterns
are tables written by hand, and every refusal is a word that is looked up before anything changes. It shares only plain
facts with the domain (a policy's fields), none of its functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta

from tests.model.asking import Asking
from tests.model.facts import (
    WITHIN,
    Entry,
    Person,
)


class World(Asking):
    """All there is: a clock, the policies as they are now, the grants, and what was recorded."""

    def answers(self, holder: str, action: str, resource: str, groups: frozenset[str] | None) -> set[str]:
        """The reasons that a check may give: one, or several where two grants ended in the same instant."""
        found = self._found(holder, action, resource, groups)
        if self.is_locked(holder):
            return {"LOCKED"}
        if "ALLOWED" in found.values():
            return {"ALLOWED"}
        for reason in (
            "LOCKED",
            "DENIED_BY_POLICY",
            "CONDITION_NOT_MET",
            "SIGNAL_STALE",
            "CONDITION_ERROR",
            "USES_EXHAUSTED",
            "NOT_YET_STARTED",
            "PENDING",
        ):
            if reason in found.values():
                return {reason}
        over = {name: self._over(self.entries[name]) for name in found}
        latest = max(over.values(), default=None)
        return {found[name] for name, at in over.items() if at == latest} or {"NO_GRANT"}

    def chosen(self, holder: str, action: str, resource: str, groups: frozenset[str] | None) -> Entry | None:
        """The grant that an allowed check rests on: one that it does not use up, then the longest, then by name."""
        found = {} if self.is_locked(holder) else self._found(holder, action, resource, groups)
        allowing = [self.entries[name] for name in sorted(found) if found[name] == "ALLOWED"]
        allowing.sort(key=lambda entry: entry.name)
        return max(allowing, key=lambda entry: (not entry.most_uses, entry.finishes), default=None)

    def end_misfits(self, changed: Iterable[str], who: Person) -> None:
        """Policies were changed: what is scheduled and would not be given by them any more ends."""
        names = set(changed)
        everything = any(self.policies[name].deny for name in names)
        for name in sorted(self.entries):
            entry = self.entries[name]
            touched = everything or entry.policy in names
            if touched and entry.status == "SCHEDULED" and not self._would_be_given(entry):
                self._end(entry, "REVOKED", who)

    def _would_be_given(self, entry: Entry) -> bool:
        policy, terms = self.policies[entry.policy], entry.terms
        most = policy.max_duration
        if entry.lengthened and policy.extension is not None:
            most = max(most, policy.extension.max_total_duration)
        return (
            self._usable(policy)
            and self._reaches(policy, terms.resource, terms.action)
            and self._may_ask(policy, entry.asker, entry.holder)
            and policy.min_duration <= terms.length <= most
            and not self._overruled(entry, terms.action, terms.resource, None)
        )

    def foresee(self, act: str, entry: Entry, who: Person) -> tuple[str, timedelta | None]:
        """The status and held time that the act would lead to, tried on a copy."""
        tried = replace(entry, votes=list(entry.votes), more=copy(entry.more))
        trial = replace(self, entries={**self.entries, entry.name: tried}, log=[], changes=[])
        getattr(trial, act)(tried, who)
        return tried.status, tried.held

    def _found(self, holder: str, action: str, resource: str, groups: frozenset[str] | None) -> Mapping[str, str]:
        """What each grant says that has anything to say."""
        found = {}
        for entry in self.entries.values():
            terms = entry.terms
            if entry.holder != holder or resource not in WITHIN[terms.resource] or action not in WITHIN[terms.action]:
                continue
            reason = self._says(entry, action, resource, groups)
            if reason:
                found[entry.name] = reason
        return found

    def _says(self, entry: Entry, action: str, resource: str, groups: frozenset[str] | None) -> str:
        if entry.status != "ACTIVE":
            explained = {"SCHEDULED": "NOT_YET_STARTED"} | {
                status: status for status in ("PENDING", "EXPIRED", "REVOKED", "RELEASED")
            }
            return explained.get(entry.status, "")
        if self._overruled(entry, action, resource, groups):
            return "DENIED_BY_POLICY"
        if entry.used_up:
            return "USES_EXHAUSTED"
        if entry.signal:
            if entry.signal not in self.signals:
                return "CONDITION_ERROR"
            value, ends = self.signals[entry.signal]
            if ends <= self.now:
                return "SIGNAL_STALE"
            if not value:
                return "CONDITION_NOT_MET"
        for name in entry.above:
            above = self.entries[name]
            if above.status != "ACTIVE":
                return above.status
            if self.is_locked(above.holder):
                return "LOCKED"
            if above.used_up:
                return "USES_EXHAUSTED"
            if self._overruled(above, action, resource, None):
                return "DENIED_BY_POLICY"
        return "ALLOWED"

    def _over(self, entry: Entry) -> datetime:
        at = entry.over_at or entry.finishes
        assert at is not None
        return at

    def _overruled(self, entry: Entry, action: str, resource: str, groups: frozenset[str] | None) -> bool:
        proofs = [] if groups is None else [groups]
        if entry.asker.name == entry.holder:
            proofs.append(entry.asker.groups)
        proved = frozenset(group for proof in proofs for group in proof) if proofs else None
        return self._forbidden(entry.holder, proved, resource, action)
