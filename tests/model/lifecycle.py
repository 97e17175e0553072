"""What may happen to grants in the model's small world, in any order."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, multiple, precondition, rule

from jit_service.domain.checks.decision import Question
from jit_service.domain.grants.delegation import NewDelegation
from jit_service.domain.policies.policy import PrincipalSet
from tests.domain.factories import ALICE, BOT, HOUR, TICK
from tests.model.acting import Acting
from tests.model.facts import (
    ACTIONS,
    OK,
    RESOURCES,
    Changes,
    Loan,
    Thing,
)
from tests.model.small_world import (
    ACTS,
    ADMIN,
    AGENT,
    CHANGES,
    ENDS_ACCESS,
    FOR_ANOTHER,
    FORBIDDEN,
    GIVEN,
    GROUPS,
    MINUTE,
    NAMES,
    edits,
    leads,
    lengths,
    lockable,
    people,
    spans,
)


class LifecycleMachine(Acting):
    """Several grants at once, in every service."""

    names = Bundle("names")

    @initialize(target=names, given=st.lists(st.sampled_from(GIVEN), min_size=2, max_size=3))
    def begin(self, given: list[tuple[str, str, str, str, str]]) -> Any:
        """Every run has something to act on."""
        return multiple(*(name for each in given if (name := self.ask(self.thing(each), each[0]))))

    @precondition(lambda self: self.has_room())
    @rule(
        target=names,
        given=st.sampled_from(GIVEN),
        lead=leads,
        length=lengths,
        uses=st.sampled_from((0, 0, 1, 2)),
        emergency=st.sampled_from((False, False, True)),
        ensure=st.booleans(),
    )
    def ask_what_is_given(
        self, given: tuple[str, str, str, str, str], lead: Any, length: Any, uses: int, emergency: bool, ensure: bool
    ) -> Any:
        thing = replace(self.thing(given, lead=lead, length=length), uses=uses, emergency=emergency)
        if emergency:
            thing = replace(thing, holder=given[0], policy="policies/glass")
        name = self.ask(thing, given[0], ensure=ensure)
        return name if name else multiple()

    @precondition(lambda self: self.has_room())
    @rule(
        target=names,
        asker=people,
        holder=people,
        resource=st.sampled_from(("db/a/x", "db/b/x", "db/a/*", "db/a/x*", "db/**")),
        action=st.sampled_from(("read", "rows.add", "rows.*")),
        named=st.sampled_from(("", *NAMES)),
        emergency=st.booleans(),
    )
    def ask_for_anything(self, asker: str, holder: str, resource: str, action: str, named: str, emergency: bool) -> Any:
        thing = replace(self.thing((asker, holder, resource, action, named)), emergency=emergency)
        name = self.ask(thing, asker)
        return name if name else multiple()

    @precondition(lambda self: self.has_room())
    @rule(
        target=names,
        parent=names,
        holder=st.sampled_from((BOT, AGENT, "")),
        by_holder=st.sampled_from((True, True, True, False)),
        narrower=st.booleans(),
        length=st.sampled_from((None, None, MINUTE, HOUR)),
        uses=st.sampled_from((0, 0, 1, 2)),
    )
    def pass_on(self, parent: str, holder: str, by_holder: bool, narrower: bool, length: Any, uses: int) -> Any:
        above = self.world.entries[parent]
        asker = above.holder if by_holder else above.asker.name
        resource, action = ("db/a/x", "rows.add") if narrower else (above.terms.resource, above.terms.action)
        thing = Thing(
            holder=holder or above.holder,
            resource=resource,
            action=action,
            policy="",
            length=length,
            start=None,
            uses=uses,
            parent=parent,
        )
        name = self.ask(thing, asker)
        return name if name else multiple()

    @precondition(lambda self: self.has_room())
    @rule(
        target=names,
        given=st.sampled_from(GIVEN),
        order=st.permutations((None, HOUR / 2, HOUR)),
        length=st.sampled_from((None, HOUR / 2, HOUR)),
        ensure=st.booleans(),
    )
    def ask_for_now_and_for_later(
        self, given: tuple[str, str, str, str, str], order: list[Any], length: Any, ensure: bool
    ) -> Any:
        """The same for several starts: what covers which, and how many there may be."""
        things = [self.thing(given, lead=lead, length=length) for lead in order]
        return multiple(*(name for thing in things if (name := self.ask(thing, given[0], ensure=ensure))))

    @rule(
        target=names,
        name=names,
        named=st.booleans(),
        lead=leads,
        length=lengths,
        uses=st.sampled_from((0, 0, 1)),
        emergency=st.sampled_from((False, False, False, True)),
    )
    def ensure_what_is_there(self, name: str, named: bool, lead: Any, length: Any, uses: int, emergency: bool) -> Any:
        """Wants what somebody has asked for already, or something near it."""
        entry = self.world.entries[name]
        where, what, policy = entry.terms.resource, entry.terms.action, entry.policy if named else ""
        given = (entry.asker.name, entry.holder, where, what, policy)
        thing = replace(self.thing(given, lead=lead, length=length), uses=uses, emergency=emergency)
        wanted = self.world.ensured(self.person(entry.asker.name), thing)
        if not wanted and not self.has_room():
            return multiple()
        new = self.ask(thing, entry.asker.name, ensure=True)
        return new if new else multiple()

    @rule(
        name=names, who=st.lists(people, min_size=3, max_size=3), act=st.sampled_from(ACTS), changes=edits, span=spans
    )
    def try_to(self, name: str, who: list[str], act: str, changes: Changes, span: timedelta) -> None:
        """Whoever, whatever; refusals included."""
        for each in who:
            self.act(act, name, each, changes, span)

    @rule(changes=edits, span=spans, data=st.data())
    def do_what_may_be_done(self, changes: Changes, span: timedelta, data: st.DataObject) -> None:
        self.do_one_of(ACTS[:-3], changes, span, data)

    @rule(changes=edits, span=spans, data=st.data())
    def do_more_that_may_be_done(self, changes: Changes, span: timedelta, data: st.DataObject) -> None:
        for _ in range(3):
            self.do_one_of(("approve", "deny", "extend", "counter", "accept"), changes, span, data)

    @rule(data=st.data())
    def end_what_may_be_ended(self, data: st.DataObject) -> None:
        self.do_one_of(ENDS_ACCESS, Changes(), HOUR, data)

    @rule(name=names, changes=edits, span=spans, data=st.data())
    def extend_and_approve(self, name: str, changes: Changes, span: timedelta, data: st.DataObject) -> None:
        self.act_if_anybody_may("extend", name, changes, span, data)
        self.act_if_anybody_may("approve", name, Changes(), span, data)

    @rule(name=names, changes=edits, turn=st.sampled_from(CHANGES), data=st.data())
    def counter_turn_and_accept(self, name: str, changes: Changes, turn: dict[str, Any], data: st.DataObject) -> None:
        """What an offer still counts for when the policy has changed since."""
        self.act_if_anybody_may("counter", name, changes, HOUR, data)
        if data.draw(st.booleans()):
            self.turn(self.world.entries[name].policy, turn)
        self.act("accept", name, self.world.entries[name].asker.name, Changes(), HOUR)

    @rule(name=names, resource=st.sampled_from(RESOURCES), action=st.sampled_from(ACTIONS), itself=st.booleans())
    def check(self, name: str, resource: str, action: str, itself: bool) -> None:
        self.check_by(self.world.entries[name].holder, name, resource, action, itself)

    @rule(
        name=names,
        whose=st.sampled_from(("holder", "asker", "above")),
        whom=lockable,
        resource=st.sampled_from(RESOURCES),
        action=st.sampled_from(ACTIONS),
        itself=st.booleans(),
    )
    def check_while_somebody_is_locked(
        self, name: str, whose: str, whom: str, resource: str, action: str, itself: bool
    ) -> None:
        """Most often of those whom it is about."""
        entry = self.world.entries[name]
        involved = {"holder": entry.holder, "asker": entry.asker.name}
        if whose == "above" and entry.above:
            involved[whose] = self.world.entries[entry.above[0]].holder
        near = involved.get(whose, whom)
        with self.locked(whom if near == ADMIN else near):
            self.check_by(ADMIN, name, resource, action, itself)

    def check_by(self, by: str, name: str, resource: str, action: str, itself: bool) -> None:
        holder = self.world.entries[name].holder
        groups = frozenset(self.groups.get(holder, ())) if itself else None
        expected = self.world.answers(holder, action, resource, groups)
        chosen = self.world.chosen(holder, action, resource, groups)
        question = Question(
            subject=holder, action=action, resource=resource, groups=groups, principal=holder if itself else ADMIN
        )

        answers = {kind: each.check(self.caller(by), question) for kind, each in self.services.items()}

        reasons = {kind: answer.reason for kind, answer in answers.items()}
        assert set(reasons.values()) <= expected, (reasons, expected)
        assert len(set(reasons.values())) == 1, reasons
        for answer in answers.values():
            assert answer.allowed == (chosen is not None)
            assert not answer.allowed or (answer.grant and chosen and answer.grant.name == chosen.name)
        if chosen is not None:
            self.world.use(chosen)

    @precondition(lambda self: len(self.world.loans) < 4)
    @rule(
        giver=people,
        to=people,
        lead=st.sampled_from((timedelta(), timedelta(), HOUR / 2)),
        span=spans,
        only=st.sampled_from(((), (), NAMES[:2], NAMES[2:])),
    )
    def delegate(self, giver: str, to: str, lead: timedelta, span: timedelta, only: tuple[str, ...]) -> None:
        name, begins = f"delegations/d{len(self.world.loans)}", self.world.now + lead
        wanted = NewDelegation(delegate=to, starts_at=begins, expires_at=begins + span, policies=only)
        expected = "InvalidField" if giver.lower() == to.lower() else OK
        self.written(giver, expected, lambda each, by: each.delegate(name, by, wanted))
        if expected == OK:
            self.world.loans[name] = Loan(name, self.person(giver), to, frozenset(only), begins, begins + span)

    @precondition(lambda self: self.world.loans)
    @rule(data=st.data())
    def end_a_delegation(self, data: st.DataObject) -> None:
        self.end_loan(data.draw(st.sampled_from(sorted(self.world.loans))))

    @rule(name=st.sampled_from(NAMES), change=st.sampled_from(CHANGES))
    def change_a_policy(self, name: str, change: dict[str, Any]) -> None:
        self.turn(name, change)

    @rule(name=names, change=st.sampled_from(CHANGES))
    def change_the_policy_of_a_grant(self, name: str, change: dict[str, Any]) -> None:
        self.turn(self.world.entries[name].policy, change)

    @rule(
        eligible=st.sampled_from(
            (PrincipalSet(groups=("contractors",)), PrincipalSet(principals=(ALICE,)), PrincipalSet(principals=(BOT,)))
        ),
        resource=st.sampled_from(("db/**", "db/a/x")),
        action=st.sampled_from(("**", "rows.*", "read")),
        disabled=st.booleans(),
    )
    def forbid_or_not(self, eligible: PrincipalSet, resource: str, action: str, disabled: bool) -> None:
        self.turn(
            FORBIDDEN, {"eligible": eligible, "resources": (resource,), "actions": (action,), "disabled": disabled}
        )

    @rule(who=people, group=st.sampled_from(GROUPS))
    def join_or_leave(self, who: str, group: str) -> None:
        self.groups[who] ^= {group}

    @rule(value=st.booleans(), span=spans)
    def put_signal(self, value: bool, span: timedelta) -> None:
        self.set_calm(value, self.world.now + span)

    @precondition(lambda self: self.world.signals)
    @rule()
    def drop_signal(self) -> None:
        self.drop_calm()

    @rule(span=st.sampled_from((TICK, MINUTE, HOUR / 4, HOUR / 2, HOUR)))
    def wait(self, span: timedelta) -> None:
        self.world.wait(span)
        self.set_clock(self.world.now)

    @rule(off=st.sampled_from((-TICK, timedelta(), TICK)), data=st.data())
    def wait_for_a_boundary(self, off: timedelta, data: st.DataObject) -> None:
        ahead = [at + off for at in self.world.boundaries() if self.world.now < at + off < self.world.now + 9 * HOUR]
        if ahead:
            self.wait(data.draw(st.sampled_from(ahead)) - self.world.now)

    @rule()
    def sweep(self) -> None:
        for each in self.services.values():
            each.sweep()
        self.world.sweep()

    @rule(holder=people)
    def revoke_all_of(self, holder: str) -> None:
        counted = self.written(ADMIN, OK, lambda each, by: each.revoke_all_of(holder, by))
        expected = self.world.revoke_all_of(holder, self.person(ADMIN))
        assert set(counted.values()) == {expected}, (counted, expected)

    @precondition(lambda self: self.has_room())
    @rule(
        target=names,
        given=st.sampled_from((*GIVEN, FOR_ANOTHER, FOR_ANOTHER)),
        whose=st.sampled_from(("asker", "holder", "anybody")),
        whom=lockable,
    )
    def ask_while_somebody_is_locked(self, given: tuple[str, str, str, str, str], whose: str, whom: str) -> Any:
        """Most often of those whom it is about."""
        asker, holder, *_ = given
        with self.locked({"asker": asker, "holder": holder}.get(whose, whom)):
            name = self.ask(self.thing(given), asker)
        return name if name else multiple()

    @rule(name=names, whom=lockable, data=st.data())
    def look_into_inboxes_while_somebody_is_locked(self, name: str, whom: str, data: st.DataObject) -> None:
        """The steps wait for the approvals of the locked again, and what those have lent gives nothing."""
        self.act_if_anybody_may("approve", name, Changes(), HOUR, data)
        waiting = [entry for entry in self.world.entries.values() if entry.status == "PENDING" or entry.name == name]
        votes = [vote for entry in waiting for vote in entry.votes]
        voters = {who for vote in votes for who in (vote.who.name, vote.holder.name)} - {ADMIN}
        whom = data.draw(st.sampled_from(sorted({whom} | voters)))
        with self.locked(whom):
            for who in sorted(self.groups):
                if who.lower() != whom.lower():
                    self.look_into_the_inbox(who)

    @rule(who=people)
    def look_into_the_inbox(self, who: str) -> None:
        person = self.person(who)
        expected = {
            name for name, entry in self.world.entries.items() if self.world.review_verdict(entry, person) == OK
        }
        assert {kind: each.inbox(self.caller(who)) for kind, each in self.services.items()} == dict.fromkeys(
            self.services, expected
        )
