"""How the model reviews what is asked for: who decides, when that is enough, and what may be changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from jit_service.domain.policies.policy import Step
from tests.model.facts import (
    OK,
    WITHIN,
    Changes,
    Entry,
    Offer,
    Person,
    Terms,
    Vote,
    in_set,
)
from tests.model.spans import Spans


class Reviewing(Spans):
    """How the model reviews what is asked for: who decides, when that is enough, and what may be changed."""

    def place(self, entry: Entry, who: Person) -> Vote | str:
        """The vote that somebody has now, or why it has none."""
        policy = self.policies[entry.policy]
        if entry.own(who.name) and not policy.allow_self_approval:
            return "SelfApproval"
        able = [right for right in self.rights(who, policy.name) if self._ever(policy, right[0])]
        if not able:
            return "NotApprover"
        able = [right for right in able if policy.allow_self_approval or not entry.own(right[0].name)]
        if not able:
            return "SelfApproval"
        if entry.status != "PENDING" and entry.more_status(self.now) != "PENDING":
            return "WrongState"
        if any(vote.uses(who.name) for vote in self._said(entry)):
            return "AlreadyReviewed"
        index = self.waiting_step(entry, self.spared_now(entry))
        step, spent = policy.steps[index], False
        since = entry.clock or entry.asked_at
        for holder, loan in able:
            first = in_set(holder, step.approvers)
            escalated = bool(step.timeout) and self.now - since >= step.timeout
            if first or (escalated and step.escalate_to is not None and in_set(holder, step.escalate_to)):
                if not loan or not any(vote.uses(holder.name) for vote in self._said(entry)):
                    strong = who.is_strong and policy.review_assurance is not None
                    return Vote(who, index, holder, round=entry.round, late=not first, loan=loan, strong=strong)
                spent = True
        return "AlreadyReviewed" if spent else "NotApprover"

    def review_verdict(self, entry: Entry, who: Person) -> str:
        vote = self.place(entry, who)
        return vote if isinstance(vote, str) else OK

    def approve_verdict(self, entry: Entry, who: Person, changes: Changes | None = None) -> str:
        verdict = self.review_verdict(entry, who)
        if verdict != OK:
            return verdict
        vote, terms = self.place(entry, who), self.changed(entry, changes or Changes())
        assert not isinstance(vote, str)
        if terms is None or self._too_short(entry, terms):
            return "InvalidField"
        if not self._still_gives(entry, terms):
            return "PolicyNoLongerAllows"
        spared = self._spared(self.policies[entry.policy].steps, terms.length)
        if self.waiting_step(entry, spared) < vote.step:
            return "NotApprover"
        return self._log_in_verdict(entry, who)

    def _log_in_verdict(self, entry: Entry, who: Person) -> str:
        asked = self.policies[entry.policy].review_assurance is not None
        return "ReviewAssuranceRequired" if asked and not who.is_strong else OK

    def _too_short(self, entry: Entry, terms: Terms) -> bool:
        """Whether a reviewer chose a length that the policy does not give."""
        policy = self.policies[entry.policy]
        chosen = entry.more is None and terms.length != entry.terms.length
        return chosen and not policy.min_duration <= terms.length <= policy.max_duration

    def approve(self, entry: Entry, who: Person, changes: Changes | None = None) -> None:
        vote = self.place(entry, who)
        terms = self.changed(entry, changes or Changes())
        assert not isinstance(vote, str)
        assert terms is not None
        event = "EXTENSION_APPROVED" if entry.more else "GRANT_APPROVED"
        self._count_yes(entry, vote, terms)
        self._record(event, entry, who.name)

    def deny(self, entry: Entry, who: Person) -> None:
        vote = self.place(entry, who)
        assert not isinstance(vote, str)
        entry.spared = self.spared_now(entry)
        no = Vote(who, vote.step, vote.holder, yes=False, round=vote.round, late=vote.late, loan=vote.loan)
        self._add(entry, no)
        final = self._voters(entry, vote.step, yes=False) >= self.policies[entry.policy].steps[vote.step].denials_needed
        if entry.more is not None:
            if final:
                entry.more.status = "DENIED"
            self._record("EXTENSION_DENIED", entry, who.name)
        elif final:
            self._end(entry, "DENIED", who)
        else:
            self._record("GRANT_DENIED", entry, who.name)

    def counter_verdict(self, entry: Entry, who: Person, changes: Changes) -> str:
        verdict = self.review_verdict(entry, who)
        if verdict != OK:
            return verdict
        if entry.status != "PENDING":
            return "WrongState"
        if self._log_in_verdict(entry, who) != OK:
            return "ReviewAssuranceRequired"
        terms = self.changed(entry, changes)
        if terms is None or terms == entry.terms or self._too_short(entry, terms):
            return "InvalidField"
        return OK if self._still_gives(entry, terms) else "PolicyNoLongerAllows"

    def counter(self, entry: Entry, who: Person, changes: Changes) -> None:
        vote, terms = self.place(entry, who), self.changed(entry, changes)
        assert not isinstance(vote, str)
        assert terms is not None
        entry.spared = self.spared_now(entry)
        entry.offer = Offer(vote, terms)
        self._record("GRANT_COUNTERED", entry, who.name)

    def decline_verdict(self, entry: Entry, who: Person) -> str:
        if not entry.of(who.name):
            return "NotYours"
        return OK if entry.status == "PENDING" and entry.offer else "WrongState"

    def decline(self, entry: Entry, who: Person) -> None:
        entry.offer = None
        self._record("COUNTER_OFFER_DECLINED", entry, who.name)

    def accept_verdict(self, entry: Entry, who: Person) -> str:
        verdict = self.decline_verdict(entry, who)
        if verdict != OK or entry.offer is None:
            return verdict
        if not self._still_gives(entry, entry.offer.terms):
            return "PolicyNoLongerAllows"
        vote, policy = entry.offer.vote, self.policies[entry.policy]
        if vote.loan and (policy.forbid_delegation or not self.loans[vote.loan].holds(self.now)):
            return "NotApprover"
        if vote.step >= len(policy.steps) or not self._counts(vote, policy.steps[vote.step]):
            return "NotApprover"
        if policy.review_assurance is not None and not vote.strong:
            return "NotApprover"
        taken = any(earlier.uses(vote.who.name, vote.holder.name) for earlier in self._said(entry))
        return "AlreadyReviewed" if taken else OK

    def accept(self, entry: Entry, who: Person) -> None:
        assert entry.offer is not None
        vote, terms = entry.offer.vote, entry.offer.terms
        entry.offer = None
        if terms.start is not None and terms.start < self.now:
            terms = Terms(terms.resource, terms.action, terms.length, self.now)
        self._count_yes(entry, vote, terms)
        self._record("COUNTER_OFFER_ACCEPTED", entry, who.name)

    def withdraw_verdict(self, entry: Entry, who: Person) -> str:
        if not entry.of(who.name):
            return "NotYours"
        undecided = entry.status == "PENDING" or entry.more_status(self.now) == "PENDING"
        return OK if undecided else "WrongState"

    def withdraw(self, entry: Entry, who: Person) -> None:
        if entry.more is not None:
            entry.more.status = "WITHDRAWN"
            self._record("EXTENSION_WITHDRAWN", entry, who.name)
        else:
            self._end(entry, "WITHDRAWN", who)

    def complete_verdict(self, entry: Entry, who: Person) -> str:
        if entry.own(who.name):
            return "SelfApproval"
        policy = self.policies[entry.policy]
        able = [holder for holder, _ in self.rights(who, policy.name) if self._ever(policy, holder)]
        if not who.is_admin:
            if not able:
                return "NotApprover"
            if all(entry.own(holder.name) for holder in able):
                return "SelfApproval"
        if entry.review_due is None:
            return "WrongState"
        return "AlreadyReviewed" if entry.use_reviewed else self._log_in_verdict(entry, who)

    def complete(self, entry: Entry, who: Person) -> None:
        entry.use_reviewed = True
        self._record("REVIEW_COMPLETED", entry, who.name)

    def changed(self, entry: Entry, changes: Changes) -> Terms | None:
        """The terms with a reviewer's changes; None for one that would give more."""
        if entry.more is not None:
            if changes.resource or changes.action or changes.start is not None:
                return None
            length = entry.more.length if changes.length is None else changes.length
            given = Terms(entry.terms.resource, entry.terms.action, length, entry.terms.start)
            return given if timedelta() < length <= entry.more.length else None
        resource, action = changes.resource or entry.terms.resource, changes.action or entry.terms.action
        length = entry.terms.length if changes.length is None else changes.length
        start = changes.start or entry.terms.start
        if resource not in WITHIN[entry.terms.resource] or action not in WITHIN[entry.terms.action]:
            return None
        if not timedelta() < length <= entry.terms.length:
            return None
        sooner = changes.start is not None and (
            changes.start < self.now or changes.start < (entry.terms.start or self.now)
        )
        return None if sooner else Terms(resource, action, length, start)

    def spared_now(self, entry: Entry) -> frozenset[int]:
        """The steps that what is asked for does not need now; as they were, where it could not pass."""
        terms = self.changed(entry, Changes())
        if terms is None or not self._still_gives(entry, terms):
            return entry.spared
        return self._spared(self.policies[entry.policy].steps, terms.length)

    def _still_gives(self, entry: Entry, terms: Terms) -> bool:
        policy = self.policies[entry.policy]
        asker = entry.more.asker if entry.more else entry.asker
        given = (
            self._usable(policy)
            and self._reaches(policy, terms.resource, terms.action)
            and self._may_ask(policy, asker, entry.holder)
            and not self._forbidden(
                entry.holder, asker.groups if asker.name == entry.holder else None, terms.resource, terms.action
            )
        )
        given = given and self.condition_verdict(policy, policy.steps, terms.length) == OK
        if entry.more:
            return given and self._within_cap(entry, terms.length) and self._has_uses_left(entry)
        return given and policy.min_duration <= terms.length <= policy.max_duration

    def _within_cap(self, entry: Entry, length: timedelta) -> bool:
        rule = self.policies[entry.policy].extension
        return (
            rule is not None
            and entry.lengthened < rule.max_extensions
            and entry.terms.length + length <= rule.max_total_duration
        )

    def _has_uses_left(self, entry: Entry) -> bool:
        bounds = [uses for uses in (entry.most_uses, self.policies[entry.policy].max_uses) if uses]
        return not bounds or entry.uses < min(bounds)

    def _lengthen(self, entry: Entry) -> None:
        assert entry.more is not None
        entry.more.status = "APPROVED"
        old = entry.terms
        entry.terms = Terms(old.resource, old.action, old.length + entry.more.length, old.start)
        entry.lengthened += 1
        before = (entry.most_uses, entry.window, entry.idle)
        self._take_limits(entry)
        if (entry.most_uses, entry.window, entry.idle) != before:
            entry.counts_from = self.now
        self._set_finish(entry)

    def _count_yes(self, entry: Entry, vote: Vote, terms: Terms) -> None:
        if entry.more is not None:
            entry.more.length = terms.length
        else:
            if terms != entry.terms:
                entry.offer = None
            entry.terms = terms
            self._take_limits(entry)
        entry.spared = self._spared(self.policies[entry.policy].steps, terms.length)
        self._add(entry, vote)
        if not any(self._lacks(entry, index, step, entry.spared) for index, step in self._steps(entry)):
            if entry.more is not None:
                self._lengthen(entry)
            else:
                self._start(entry)

    def _add(self, entry: Entry, vote: Vote) -> None:
        step = self.policies[entry.policy].steps[vote.step]
        missing = self._lacks(entry, vote.step, step, entry.spared)
        entry.votes.append(vote)
        entry.steps = self.policies[entry.policy].steps
        passed = missing and not self._lacks(entry, vote.step, step, entry.spared)
        self._restart(entry, since=self.now if passed else entry.clock or entry.asked_at)

    def _restart(self, entry: Entry, since: datetime | None = None) -> None:
        """Winds the clock of the step that is waited for."""
        entry.clock = since or self.now
        step = entry.steps[self.waiting_step(entry, entry.spared)]
        entry.escalates = entry.clock + step.timeout if step.timeout and step.escalate_to else None
        ends = [entry.more.latest if entry.more else entry.asked_at + entry.patience]
        if step.timeout and step.escalate_to is None:
            ends.append(entry.clock + step.timeout)
        if entry.more:
            entry.more.until = min(ends)
        else:
            entry.wait_until = min(ends)
            if entry.status == "PENDING" and entry.wait_until <= self.now:
                entry.status = "LAPSED"

    def waiting_step(self, entry: Entry, spared: frozenset[int]) -> int:
        """The first step that still needs somebody; the last one where none does."""
        *_, last = (index for index, _ in self._steps(entry))
        return next((index for index, step in self._steps(entry) if self._lacks(entry, index, step, spared)), last)

    def _lacks(self, entry: Entry, index: int, step: Step, spared: frozenset[int]) -> bool:
        return index not in spared and self.tally(entry, index) < step.approvals_needed

    def tally(self, entry: Entry, index: int) -> int:
        """How many people's approvals the step has, by the policy as it is now."""
        return self._voters(entry, index, yes=True)

    def _voters(self, entry: Entry, index: int, *, yes: bool) -> int:
        policy = self.policies[entry.policy]
        return len(
            {
                vote.holder.name.lower()
                for vote in self._said(entry)
                if vote.yes == yes
                and vote.step == index
                and self._counts(vote, policy.steps[index])
                and (policy.allow_self_approval or not vote.uses(entry.asker.name, entry.holder))
                and not (vote.loan and policy.forbid_delegation)
                and not self.is_locked(vote.who.name, vote.holder.name)
                and (not yes or vote.strong or policy.review_assurance is None)
            }
        )

    def _said(self, entry: Entry) -> list[Vote]:
        return [vote for vote in entry.votes if vote.round == entry.round]

    def _counts(self, vote: Vote, step: Step) -> bool:
        escalated = vote.late and step.escalate_to is not None and in_set(vote.holder, step.escalate_to)
        return in_set(vote.holder, step.approvers) or escalated

    def _steps(self, entry: Entry) -> Iterator[tuple[int, Step]]:
        return enumerate(self.policies[entry.policy].steps)
