"""How access begins, is used and ends in the model."""

from __future__ import annotations

from tests.model.facts import (
    OK,
    REACHING,
    RUNNING,
    Entry,
    Person,
)
from tests.model.ground import Ground


class Spans(Ground):
    """How access begins, is used and ends in the model."""

    def _start(self, entry: Entry) -> None:
        wanted = entry.terms.start
        later = wanted is not None and wanted > self.now
        entry.begins = wanted if later else self.now
        entry.offer = None
        entry.status = "SCHEDULED" if later else "ACTIVE"
        self._set_finish(entry)

    def _set_finish(self, entry: Entry) -> None:
        assert entry.begins is not None
        ends = [entry.begins + entry.terms.length]
        quiet_since = max(at for at in (entry.begins, entry.counts_from, entry.last_use) if at is not None)
        if entry.window and entry.last_use is None:
            ends.append(quiet_since + entry.window)
        if entry.idle:
            ends.append(quiet_since + entry.idle)
        if entry.above:
            above = self.entries[entry.above[-1]].finishes
            assert above is not None
            ends.append(above)
        entry.finishes = min(ends)

    def _take_limits(self, entry: Entry) -> None:
        policy = self.policies[entry.policy]
        bounds = [uses for uses in (entry.most_uses, policy.max_uses) if uses]
        entry.most_uses = min(bounds, default=0)
        entry.window, entry.idle = policy.activation_window, policy.idle_timeout
        entry.signal = policy.check_condition.removeprefix("signals.")

    def use(self, entry: Entry) -> None:
        """A check that the grant allowed: those above are used too, and none outlives what it came from."""
        for name in (*entry.above, entry.name):
            used = self.entries[name]
            before = used.finishes
            if used.counts_uses:
                used.uses += 1
                used.last_use = self.now
            self._set_finish(used)
            if used.counts_uses or used.finishes != before:
                self._tell("ACCESS_CHECKED", used)

    def release_verdict(self, entry: Entry, who: Person) -> str:
        if who.name != entry.holder:
            return "NotYours"
        return OK if entry.status in RUNNING else "WrongState"

    def release(self, entry: Entry, who: Person) -> None:
        self._end(entry, "RELEASED", who)

    def revoke_verdict(self, entry: Entry, who: Person) -> str:
        if not (who.is_admin or entry.of(who.name) or self._reviews(entry, who)):
            return "NotApprover"
        return OK if entry.status in RUNNING else "WrongState"

    def revoke(self, entry: Entry, who: Person) -> None:
        self._end(entry, "REVOKED", who)

    def ending(self, holder: str, policy: str, resource: str) -> set[str]:
        """What would end: all that runs and matches, and all that came from it."""
        matching = {
            name
            for name, entry in self.entries.items()
            if entry.status in RUNNING
            and holder.lower() in ("", entry.holder.lower())
            and policy in ("", entry.policy)
            and (not resource or entry.terms.resource in REACHING[resource])
        }
        below = {name for name, entry in self.entries.items() if matching & set(entry.above)}
        return matching | {name for name in below if self.entries[name].status in RUNNING}

    def end_all(self, names: set[str], who: Person) -> None:
        for name in sorted(names):
            if self.entries[name].status in RUNNING:
                self._end(self.entries[name], "REVOKED", who)

    def revoke_all_of(self, holder: str, who: Person) -> int:
        """Ends all that somebody holds, and all that came from it. Says how many that were."""
        before = sum(entry.status in RUNNING for entry in self.entries.values())
        for name in sorted(self.entries):
            if self.entries[name].holder.lower() == holder.lower() and self.entries[name].status in RUNNING:
                self._end(self.entries[name], "REVOKED", who)
        return before - sum(entry.status in RUNNING for entry in self.entries.values())

    def _end(self, entry: Entry, status: str, who: Person) -> None:
        if entry.status == "ACTIVE" and entry.begins is not None and entry.begins < self.now:
            entry.held = self.now - entry.begins
        entry.status, entry.over_at, entry.offer = status, self.now, None
        self._record(f"GRANT_{status}", entry, who.name, entry.held)
        for child in list(self.entries.values()):
            if entry.name in child.above and child.status in RUNNING:
                self._end(child, "REVOKED", who)

    def end_loan(self, name: str) -> None:
        self.loans[name].over = True
