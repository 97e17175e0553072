"""How the model judges what is asked for: access, what is passed on from it, and more time."""

from __future__ import annotations

from datetime import datetime, timedelta

from jit_service.domain.policies.policy import Policy
from tests.model.facts import (
    LIVE,
    OK,
    RUNNING,
    WITHIN,
    Entry,
    More,
    Person,
    Terms,
    Thing,
    in_set,
    length_of,
)
from tests.model.reviewing import Reviewing


class Asking(Reviewing):
    """How the model judges what is asked for: access, what is passed on from it, and more time."""

    def ask_verdict(self, asker: Person, thing: Thing) -> str:
        """What the rules say; those that need to know of other grants are in `room_verdict`."""
        chosen = self._chosen(asker, thing)
        if chosen is None:
            return "NotEligible"
        proved = asker.groups if thing.holder == asker.name else None
        if self._forbidden(thing.holder, proved, thing.resource, thing.action):
            return "DeniedByPolicy"
        if thing.emergency:
            rule = chosen.break_glass
            assert rule is not None
            if (thing.length or timedelta()) > rule.max_duration or thing.start is not None:
                return "InvalidField"
            return self.condition_verdict(chosen, (), length_of(thing, chosen))
        if not chosen.min_duration <= length_of(thing, chosen) <= chosen.max_duration:
            return "InvalidField"
        return self.condition_verdict(chosen, chosen.steps, length_of(thing, chosen))

    def room_verdict(self, asker: Person, thing: Thing) -> str:
        chosen = self._chosen(asker, thing)
        assert chosen is not None
        involved = {asker.name.lower(), thing.holder.lower()}
        length = length_of(thing, chosen)
        if not thing.emergency and not self._could_pass(chosen, involved, chosen.request_ttl, length):
            return "Unsatisfiable"
        mine = [entry for entry in self.entries.values() if entry.holder.lower() == thing.holder.lower()]
        under = [entry for entry in mine if entry.policy == chosen.name and entry.status in LIVE and not entry.above]
        if not thing.emergency and 0 < chosen.max_active_per_subject <= len(under):
            return "TooManyActive"
        if not thing.emergency or chosen.break_glass is None:
            return OK
        same = [entry for entry in self.entries.values() if entry.holder.lower() == thing.holder.lower()]
        owed = [entry.review_due for entry in same if entry.review_due and not entry.use_reviewed]
        if any(due <= self.now for due in owed):
            return "ReviewOverdue"
        return "TooManyUnreviewed" if len(owed) >= (chosen.break_glass.max_unreviewed or 2) else OK

    def ask(self, name: str, asker: Person, thing: Thing) -> None:
        chosen = self._chosen(asker, thing)
        assert chosen is not None
        entry = Entry(
            name=name,
            asker=asker,
            holder=thing.holder,
            policy=chosen.name,
            terms=Terms(thing.resource, thing.action, length_of(thing, chosen), thing.start),
            asked_at=self.now,
            patience=chosen.request_ttl,
            wait_until=self.now + chosen.request_ttl,
            steps=() if thing.emergency else chosen.steps,
            most_uses=thing.uses,
        )
        self._take_limits(entry)
        self.entries[name] = entry
        if thing.emergency:
            assert chosen.break_glass is not None
            entry.review_due = self.now + chosen.break_glass.review_within
        entry.spared = self._spared(entry.steps, entry.terms.length)
        if len(entry.spared) < len(entry.steps):
            self._restart(entry)
        else:
            self._start(entry)
        self._record("BREAK_GLASS_USED" if thing.emergency else "GRANT_REQUESTED", entry, asker.name)

    def ensured(self, asker: Person, thing: Thing) -> set[str]:
        """The grants, any of which is the answer to whoever wants it there; none where it must be asked for."""
        there = [entry for entry in self.entries.values() if self._is_there(entry, asker, thing)]
        best = max((LIVE.index(entry.status) for entry in there), default=0)
        found = [entry for entry in there if LIVE.index(entry.status) == best]
        last = max((entry.finishes or self.now for entry in found), default=self.now)
        return {entry.name for entry in found if (entry.finishes or self.now) == last}

    def _is_there(self, entry: Entry, asker: Person, thing: Thing) -> bool:
        if entry.status not in LIVE or entry.holder != thing.holder or not entry.of(asker.name):
            return False
        if thing.emergency and entry.status != "ACTIVE":
            return False
        if thing.policy not in ("", entry.policy) or (thing.parent and entry.above[-1:] != (thing.parent,)):
            return False
        if entry.most_uses and entry.most_uses - entry.uses < max(1, thing.uses):
            return False
        reached = thing.resource in WITHIN[entry.terms.resource] and thing.action in WITHIN[entry.terms.action]
        if not reached or not self._covers_time(entry, thing):
            return False
        proved = entry.asker.groups if entry.asker.name == entry.holder else None
        return not self._forbidden(thing.holder, proved, thing.resource, thing.action)

    def _covers_time(self, entry: Entry, thing: Thing) -> bool:
        begins = entry.begins or max(self.now, entry.terms.start or self.now)
        wanted = thing.length or timedelta()
        if thing.start is None:
            return begins <= self.now and entry.terms.length >= wanted
        left = begins + entry.terms.length - thing.start
        return begins <= thing.start and left > timedelta() and left >= wanted

    def child_verdict(self, asker: Person, thing: Thing) -> str:
        parent = self.entries[thing.parent]
        policy = self.policies[parent.policy]
        if not self.sees(parent, asker, lent=False):
            return "NotVisible"
        if any(self.entries[name].status != "ACTIVE" for name in parent.above):
            return "WrongState"
        if asker.name != parent.holder:
            return "NotYours"
        if parent.status != "ACTIVE":
            return "WrongState"
        if thing.policy not in ("", parent.policy) or thing.start is not None or thing.emergency:
            return "InvalidField"
        if policy.disabled or policy.deleted_at or len(parent.above) >= policy.max_child_depth:
            return "ChildNotAllowed"
        if thing.holder != parent.holder and not thing.holder.startswith("service:"):
            return "ChildNotAllowed"
        if thing.resource not in WITHIN[parent.terms.resource] or thing.action not in WITHIN[parent.terms.action]:
            return "InvalidField"
        if self._forbidden(
            thing.holder, asker.groups if thing.holder == asker.name else None, thing.resource, thing.action
        ):
            return "DeniedByPolicy"
        assert parent.begins is not None
        if thing.length is not None and self.now + thing.length > parent.begins + parent.terms.length:
            return "InvalidField"
        return "InvalidField" if parent.most_uses and parent.uses + (thing.uses or 1) > parent.most_uses else OK

    def pass_on(self, name: str, asker: Person, thing: Thing) -> None:
        parent = self.entries[thing.parent]
        assert parent.begins is not None
        left = parent.begins + parent.terms.length - self.now
        entry = Entry(
            name=name,
            asker=asker,
            holder=thing.holder,
            policy=parent.policy,
            terms=Terms(thing.resource, thing.action, thing.length or left, None),
            asked_at=self.now,
            patience=parent.patience,
            wait_until=self.now + parent.patience,
            most_uses=thing.uses or (parent.most_uses - parent.uses if parent.most_uses else 0),
            idle=parent.idle,
            above=(*parent.above, parent.name),
            signal=parent.signal,
        )
        self.entries[name] = entry
        self._start(entry)
        self._record("GRANT_REQUESTED", entry, asker.name)

    def extend_verdict(self, entry: Entry, who: Person, length: timedelta) -> str:
        policy = self.policies[entry.policy]
        if not entry.of(who.name):
            return "NotYours"
        if entry.status not in RUNNING or entry.more_status(self.now) == "PENDING":
            return "WrongState"
        if entry.above or not self._within_cap(entry, length):
            return "ExtensionCap"
        reached = self._reaches(policy, entry.terms.resource, entry.terms.action)
        if not (self._usable(policy) and reached and self._may_ask(policy, who, entry.holder)):
            return "NotEligible"
        if not self._has_uses_left(entry):
            return "PolicyNoLongerAllows"
        proved = who.groups if who.name == entry.holder else None
        if self._forbidden(entry.holder, proved, entry.terms.resource, entry.terms.action):
            return "DeniedByPolicy"
        if (verdict := self.condition_verdict(policy, policy.steps, length)) != OK:
            return verdict
        involved = {entry.asker.name.lower(), entry.holder.lower()}
        patience = self._last_moment(entry) - self.now
        return OK if self._could_pass(policy, involved, patience, length) else "Unsatisfiable"

    def extend(self, entry: Entry, who: Person, length: timedelta) -> None:
        policy = self.policies[entry.policy]
        latest = self._last_moment(entry)
        entry.more = More(who, length, latest, latest)
        entry.round += 1
        entry.steps = policy.steps
        entry.spared = self._spared(policy.steps, length)
        if len(entry.spared) < len(entry.steps):
            self._restart(entry)
        else:
            self._lengthen(entry)
        self._record("EXTENSION_REQUESTED", entry, who.name)

    def _last_moment(self, entry: Entry) -> datetime:
        """When a request for more time that is made now lapses at the latest."""
        assert entry.begins is not None
        return min(self.now + self.policies[entry.policy].request_ttl, entry.begins + entry.terms.length)

    def _chosen(self, asker: Person, thing: Thing) -> Policy | None:
        fitting = [
            policy
            for policy in self.policies.values()
            if thing.policy in ("", policy.name)
            and self._usable(policy)
            and self._reaches(policy, thing.resource, thing.action)
            and (
                self._may_break(policy, asker, thing) if thing.emergency else self._may_ask(policy, asker, thing.holder)
            )
        ]
        return min(fitting, key=lambda policy: (-policy.priority, policy.name), default=None)

    def _may_break(self, policy: Policy, asker: Person, thing: Thing) -> bool:
        return bool(policy.break_glass and thing.holder == asker.name and in_set(asker, policy.break_glass.eligible))
