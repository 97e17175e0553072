"""What a store adds to the world of the model: what is seen of each commit, and how callers bind what they do.

Watching, request_ids, etags, plans of bulk revocation, batches of checks, and policies as code with dual control.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from jit_service.check.questions import RefusedItem
from jit_service.domain.audit.refusal import About
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.checks.decision import Question
from jit_service.domain.errors import InvalidField
from jit_service.domain.policies.diff import PolicyDraft
from jit_service.domain.policies.policy import Policy, normalize
from jit_service.use_cases.bulk_revocation import GrantSelector
from jit_service.use_cases.grants import GrantView
from tests.domain.factories import ALICE, BOB, BOT, HOUR, TICK
from tests.model.acting import edits_of
from tests.model.facts import ACTIONS, LIVE, OK, REACHING, RESOURCES, Changes, Person
from tests.model.lifecycle import LifecycleMachine
from tests.model.small_world import ACTS, ADMIN, CHANGES, NAMES, OTHER_ADMIN, edits, people, spans
from tests.storage.stored import CALM, Heard, Stored

STRANGER = "user:eve@example.com"
PATIENCE = timedelta(days=3)
"""How long a proposal waits."""
admins = st.sampled_from((ADMIN, OTHER_ADMIN))
names = LifecycleMachine.names


@dataclass(frozen=True)
class Seen:
    """A grant, policy, signal, delegation or proposal as somebody read it."""

    version: int
    etags: dict[str, str]


@dataclass(frozen=True)
class Sent:
    """A write with a request_id that was answered."""

    who: str
    body: str
    act: Callable[[Stored, Caller], Any]
    seen_by: Callable[[Person], bool]
    answers: dict[str, Any]


@dataclass(frozen=True)
class Planned:
    """The plan of a bulk revocation."""

    selector: GrantSelector
    names: set[str]
    ids: dict[str, str]


@dataclass
class Draft:
    """A proposal, its status stored: for each policy what is to become of it, and the version that it has now."""

    by: str
    changes: dict[str, tuple[str, int, Policy | None]]
    until: datetime
    status: str = "PENDING"


@dataclass
class Moment:
    """Up to where everything has been told."""

    changes: int
    revisions: dict[str, int]


@dataclass
class Ledger:
    """What callers and watchers have kept."""

    seen: dict[str, Seen] = field(default_factory=dict)
    sent: dict[str, Sent] = field(default_factory=dict)
    writes: int = 0
    plans: list[Planned] = field(default_factory=list)
    drafts: dict[str, Draft] = field(default_factory=dict)
    heard: dict[str, list[Heard]] = field(default_factory=lambda: defaultdict(list))
    moments: list[Moment] = field(default_factory=list)


class CommitMachine(LifecycleMachine):
    """The same world on stores."""

    def __init__(self, services: Mapping[str, Stored], set_clock: Callable[[datetime], None]) -> None:
        self.versions: Counter[str] = Counter()
        self.stored = services
        self.ledger = Ledger()
        super().__init__(services, set_clock)
        self.ledger.moments.append(Moment(0, self.revisions()))

    # Watching

    @invariant()
    def each_change_is_told_once_in_the_order_of_the_commits(self) -> None:
        last = self.ledger.moments[-1]
        expected = Counter((each.event, each.grant, each.status) for each in self.world.changes[last.changes :])
        for kind, each in self.stored.items():
            told = each.told(self.caller(ADMIN), view=GrantView.ALL, after=last.revisions[kind])
            assert Counter(heard[:3] for heard in told) == expected, kind
            told_at = [last.revisions[kind], *(heard.revision for heard in told)]
            assert told_at == sorted(set(told_at)), kind
            self.ledger.heard[kind] += told
        self.ledger.moments.append(Moment(len(self.world.changes), self.revisions()))

    @rule(
        who=st.one_of(st.just(ADMIN), people), view=st.sampled_from((GrantView.VISIBLE, GrantView.MINE)), data=st.data()
    )
    def watch_again(self, who: str, view: GrantView, data: st.DataObject) -> None:
        """From any moment on, whoever it is is told what it may see, and nothing else."""
        since, person = data.draw(st.sampled_from(self.ledger.moments)), self.person(who)
        expected = [
            (each.event, each.grant, each.status)
            for each in self.world.changes[since.changes :]
            if (
                self.world.would_see(each, person)
                if view is GrantView.VISIBLE
                else self.world.entries[each.grant].of(who)
            )
        ]
        for kind, each in self.stored.items():
            told = each.told(self.caller(who), view=view, after=since.revisions[kind])
            assert Counter(heard[:3] for heard in told) == Counter(expected), kind

    @precondition(lambda self: any(self.ledger.heard.values()))
    @rule(data=st.data())
    def resume_after_any_change(self, data: st.DataObject) -> None:
        for kind, each in self.stored.items():
            heard = self.ledger.heard[kind]
            last = data.draw(st.integers(0, len(heard) - 1))
            assert each.told(self.caller(ADMIN), view=GrantView.ALL, after=heard[last].revision) == heard[last + 1 :], (
                kind
            )

    @rule(who=st.one_of(st.just(ADMIN), people))
    def begin_to_watch(self, who: str) -> None:
        person = self.person(who)
        expected = [
            ("CURRENT", name, entry.status, 0)
            for name, entry in sorted(self.world.entries.items())
            if entry.status in LIVE and self.world.sees(entry, person)
        ]
        for kind, each in self.stored.items():
            assert each.told(self.caller(who), view=GrantView.VISIBLE, after=0) == expected, kind

    # Etags

    @rule(name=names)
    def read(self, name: str) -> None:
        self.look_at(name)

    @precondition(lambda self: self.ledger.seen.keys() & self.world.entries.keys())
    @rule(act=st.sampled_from(ACTS), who=people, changes=edits, span=spans, data=st.data())
    def act_on_what_was_read(self, act: str, who: str, changes: Changes, span: timedelta, data: st.DataObject) -> None:
        seen = sorted(self.ledger.seen.keys() & self.world.entries.keys())
        self.act_as_read(data.draw(st.sampled_from(seen)), act, who, changes, span, data)

    @rule(name=names, first=st.sampled_from(ACTS), act=st.sampled_from(ACTS), who=people, changes=edits, data=st.data())
    def read_and_act_too_late(
        self, name: str, first: str, act: str, who: str, changes: Changes, data: st.DataObject
    ) -> None:
        """Somebody else acts between the reading and the act."""
        self.read(name)
        self.act_if_anybody_may(first, name, Changes(), TICK, data)
        self.act_as_read(name, act, who, changes, TICK, data)

    def act_as_read(
        self, name: str, act: str, who: str, changes: Changes, span: timedelta, data: st.DataObject
    ) -> None:
        entry = self.world.entries[name]
        able = [each for each in sorted(self.groups) if self.allows(act, name, each, changes, span)]
        who = data.draw(st.sampled_from(able)) if able else who
        expected = self.expected(act, entry, self.person(who), changes, span)
        if expected != "NotVisible" and self.has_changed(name):
            expected = "StaleEtag"
        etag_of = self.etag_read(name)
        self.written(
            who,
            expected,
            lambda each, by: each.act(act, name, by, edits=edits_of(changes), more=span, etag=etag_of(each)),
            seen_by=lambda person: self.world.sees(entry, person),
        )
        if expected == OK:
            self.happen(act, entry, self.person(who), changes, span)

    @rule(
        name=st.sampled_from(NAMES),
        between=st.none() | st.sampled_from(CHANGES),
        change=st.sampled_from(CHANGES),
        how=st.sampled_from(("update", "apply", "delete")),
        by=admins,
    )
    def read_and_change_a_policy(
        self, name: str, between: dict[str, Any] | None, change: dict[str, Any], how: str, by: str
    ) -> None:
        """Somebody else may have changed it in between."""
        self.look_at(name)
        if between is not None:
            self.turn(name, between)
        after = replace(self.world.policies[name], **{"deleted_at": None, **change})
        expected = "StaleEtag" if self.has_changed(name) else OK
        if how != "apply" and name not in self.standing():
            expected = "PolicyNotFound"
        elif how != "delete" and not is_sound(after) and (how == "apply" or expected == OK):
            expected = "InvalidField"
        etag_of = self.etag_read(name)
        sent: dict[str, Callable[[Stored, Caller], Any]] = {
            "update": lambda each, by: each.update_policy(by, after, etag=etag_of(each)),
            "apply": lambda each, by: each.apply(by, [PolicyDraft(policy=after, etag=etag_of(each))], prune=False),
            "delete": lambda each, by: each.delete_policy(by, name, etag_of(each)),
        }
        self.written(by, expected, sent[how])
        if expected == OK:
            kind = self.difference({name: after}, prune=False)[name] if how == "apply" else how
            self.enact({name: (kind, None if how == "delete" else after)}, by)

    @rule(
        between=st.sampled_from(("", "set", "set", "drop")),
        value=st.booleans(),
        span=spans,
        drop=st.booleans(),
    )
    def read_and_change_the_signal(self, between: str, value: bool, span: timedelta, drop: bool) -> None:
        """Somebody else may have set or dropped it in between."""
        self.look_at(CALM)
        if between == "set":
            self.set_calm(not value, self.world.now + span)
        elif between == "drop" and self.world.signals:
            self.drop_calm()
        expected = "StaleEtag" if self.has_changed(CALM) else OK
        ends, etag_of = self.world.now + span, self.etag_read(CALM)
        if drop:
            expected = expected if self.world.signals else "SignalNotFound"
            self.written(ADMIN, expected, lambda each, by: each.drop_signal(by, etag=etag_of(each)))
        else:
            self.written(ADMIN, expected, lambda each, by: each.put_signal(by, value, ends, etag=etag_of(each)))
        if expected == OK:
            self.versions[CALM] += 1
            self.world.signals = {} if drop else {"calm": (value, ends)}

    @rule(between=st.booleans(), data=st.data())
    def read_and_end_a_delegation(self, between: bool, data: st.DataObject) -> None:
        """It may have been ended in between."""
        if not self.world.loans:
            self.delegate(giver=ALICE, to=BOB, lead=timedelta(), span=HOUR, only=())
        loan = self.world.loans[data.draw(st.sampled_from(sorted(self.world.loans)))]
        self.look_at(loan.name)
        if between:
            self.end_loan(loan.name)
        expected = "WrongState" if loan.over or loan.ends <= self.world.now else OK
        if self.has_changed(loan.name):
            expected = "StaleEtag"
        etag_of = self.etag_read(loan.name)
        self.written(
            loan.giver.name,
            expected,
            lambda each, by: each.end_delegation(loan.name, by, etag=etag_of(each)),
            seen_by=loan.concerns,
        )
        if expected == OK:
            self.world.end_loan(loan.name)

    def look_at(self, name: str) -> None:
        found = {kind: each.etag(name) for kind, each in self.stored.items()}
        self.ledger.seen[name] = Seen(self.version(name), found)

    def has_changed(self, name: str) -> bool:
        """Whether it has since it was looked at."""
        return self.ledger.seen[name].version != self.version(name)

    def etag_read(self, name: str) -> Callable[[Stored], str]:
        found = {id(each): self.ledger.seen[name].etags[kind] for kind, each in self.stored.items()}
        return lambda each: found[id(each)]

    # request_id

    def written(
        self,
        who: str,
        expected: str,
        act: Callable[[Stored, Caller], Any],
        *,
        seen_by: Callable[[Person], bool] = lambda _: True,
    ) -> dict[str, Any]:
        """Every write has a request_id. One that was refused has used up none."""
        request_id, self.ledger.writes = f"r{len(self.ledger.sent)}", self.ledger.writes + 1
        body = f"write {self.ledger.writes}"
        answers = self.send(act, request_id, who, body, expected)
        if expected == OK:
            self.ledger.sent[request_id] = Sent(who, body, act, seen_by, answers)
        return answers

    @invariant()
    def what_was_written_last_is_answered_again_to_nobody_else(self) -> None:
        for request_id in list(self.ledger.sent)[-1:]:
            self.resend_in_all_ways(request_id, STRANGER)

    @rule(other=people | st.just(OTHER_ADMIN), data=st.data())
    def send_again(self, other: str, data: st.DataObject) -> None:
        """The same call has the same answer, whatever has happened since."""
        for request_id in data.draw(st.lists(st.sampled_from(list(self.ledger.sent)), min_size=1, max_size=3)):
            self.resend_in_all_ways(request_id, other)

    def resend_in_all_ways(self, request_id: str, other: str) -> None:
        """From somebody else, or with another body, it is refused."""
        sent = self.ledger.sent[request_id]
        for who, body in ((sent.who, sent.body), (other, sent.body), (sent.who, "something else")):
            self.resend(request_id, who, body)

    def resend(self, request_id: str, who: str, body: str) -> None:
        sent = self.ledger.sent[request_id]
        expected = OK if (who, body) == (sent.who, sent.body) else "RequestIdReused"
        if not sent.seen_by(self.person(who)):
            expected = "NotVisible"
        answers = self.send(sent.act, request_id, who, body, expected)
        assert expected != OK or answers == sent.answers

    def send(
        self, act: Callable[[Stored, Caller], Any], request_id: str, who: str, body: str, expected: str
    ) -> dict[str, Any]:
        by = self.caller(who)._replace(origin=Origin(request_id=request_id), request_digest=body)
        return self.everywhere(expected, lambda each: act(each, by))

    # Many at once

    @rule(
        holder=st.sampled_from(("", "", ALICE, BOB, BOT)),
        policy=st.sampled_from(("", *NAMES)),
        resource=st.sampled_from(("", *REACHING)),
    )
    def plan_to_revoke(self, holder: str, policy: str, resource: str) -> None:
        selector = GrantSelector(subject=holder, policy=policy, resource=resource)
        if selector == GrantSelector():
            self.everywhere("InvalidField", lambda each: each.plan(selector))
            return
        plans = self.everywhere(OK, lambda each: each.plan(selector))
        expected = self.world.ending(holder, policy, resource)
        for kind, plan in plans.items():
            assert [grant.name for grant in plan.grants] == sorted(expected), kind
        self.ledger.plans.append(Planned(selector, expected, {kind: plan.id for kind, plan in plans.items()}))

    @rule(name=names, between=st.sampled_from(("", "revoke", "release", "approve")), data=st.data())
    def plan_and_carry_out(self, name: str, between: str, data: st.DataObject) -> None:
        """What has ended or begun in between makes the plan stale."""
        self.plan_to_revoke(self.world.entries[name].holder, "", "")
        planned = sorted(self.ledger.plans[-1].names)
        if between:
            within = between != "approve" and planned
            self.act_if_anybody_may(
                between, data.draw(st.sampled_from(planned)) if within else name, Changes(), TICK, data
            )
        self.carry_the_plan_out(-1)

    @precondition(lambda self: self.ledger.plans)
    @rule(which=st.sampled_from((-1, -1, 0)))
    def carry_the_plan_out(self, which: int) -> None:
        plan = self.ledger.plans[which]
        chosen = plan.selector
        current = self.world.ending(chosen.subject, chosen.policy, chosen.resource)
        id_of = {id(each): plan.ids[kind] for kind, each in self.stored.items()}
        expected = OK if current == plan.names else "StalePlan"
        done = self.written(ADMIN, expected, lambda each, by: each.carry_out(by, chosen, id_of[id(each)]))
        if expected == OK:
            self.world.end_all(current, self.person(ADMIN))
            for kind, answer in done.items():
                assert [grant.name for grant in answer.grants] == sorted(plan.names), kind

    @rule(
        asked=st.lists(
            st.tuples(names, st.sampled_from(RESOURCES), st.sampled_from(ACTIONS), st.booleans()),
            min_size=2,
            max_size=5,
        ),
        bad=st.booleans(),
    )
    def check_many(self, asked: list[tuple[str, str, str, bool]], bad: bool) -> None:
        """Each item is answered as if it were alone, after those before it; a bad one fails alone."""
        items: list[Question | RefusedItem] = []
        expected: list[set[str]] = []
        for name, resource, action, itself in asked:
            holder = self.world.entries[name].holder
            groups = frozenset(self.groups.get(holder, ())) if itself else None
            principal = holder if itself else ADMIN
            items.append(Question(subject=holder, action=action, resource=resource, groups=groups, principal=principal))
            expected.append(self.world.answers(holder, action, resource, groups))
            if (chosen := self.world.chosen(holder, action, resource, groups)) is not None:
                self.world.use(chosen)
        if bad:
            items.insert(1, RefusedItem(error=InvalidField("action", "is empty"), about=About()))
            expected.insert(1, {"InvalidField"})
        answers = self.everywhere(OK, lambda each: each.check_many(self.caller(ADMIN), items))
        reasons = {
            kind: [each if isinstance(each, str) else each.reason for each in answer]
            for kind, answer in answers.items()
        }
        for kind, said in reasons.items():
            assert all(reason in among for reason, among in zip(said, expected, strict=True)), (kind, said, expected)
        assert len({tuple(said) for said in reasons.values()}) == 1, reasons

    # Policies as code

    @rule(
        name=st.sampled_from(NAMES),
        change=st.sampled_from(CHANGES),
        left_out=st.sampled_from(("", *NAMES)),
        prune=st.booleans(),
        how=st.sampled_from(("apply", "apply", "propose")),
        by=admins,
    )
    def apply_policies(self, name: str, change: dict[str, Any], left_out: str, prune: bool, how: str, by: str) -> None:
        wanted = {each: policy for each, policy in self.standing().items() if each != left_out}
        wanted[name] = replace(self.world.policies[name], **{"deleted_at": None, **change})
        proposed = [PolicyDraft(policy=policy) for policy in wanted.values()]
        expected = OK if is_sound(wanted[name]) else "InvalidField"
        difference = self.difference(wanted, prune=prune) if expected == OK else {}
        previews = self.everywhere(expected, lambda each: each.preview(proposed, prune=prune))
        if how == "apply":
            answers = self.written(by, expected, lambda each, by: each.apply(by, proposed, prune=prune))
        else:
            fresh = f"policyProposals/p{self.count}"
            self.count += 1
            answers = self.written(by, expected, lambda each, by: each.propose(fresh, by, proposed, prune=prune))
            self.expect_proposal(fresh, by, difference, wanted, answers)
        for answered in (previews, answers):
            for kind, answer in answered.items():
                shown = {each.name: str(each.type) for each in answer.changes} if answer else {}
                assert shown == difference, kind
        if how == "apply":
            self.enact({each: (kind_of_change, wanted.get(each)) for each, kind_of_change in difference.items()}, by)

    def expect_proposal(
        self, fresh: str, by: str, difference: dict[str, str], wanted: dict[str, Policy], answers: dict[str, Any]
    ) -> None:
        """The same changes, proposed again by the same admin, are the proposal that waits already."""
        changes = {
            each: (kind, self.version_of(each), wanted.get(each))
            for each, kind in difference.items()
            if kind != "UNCHANGED"
        }
        waiting = [
            name
            for name, draft in self.ledger.drafts.items()
            if self.status_of(draft) == "PENDING" and (draft.by, draft.changes) == (by, changes)
        ]
        expected = "" if not changes else waiting[0] if waiting else fresh
        assert {answer.proposal if answer else "" for answer in answers.values()} == {expected}
        if expected == fresh:
            self.ledger.drafts[fresh] = Draft(by, changes, self.world.now + PATIENCE)
            self.look_at(fresh)

    @rule(
        name=st.sampled_from(NAMES),
        change=st.sampled_from(CHANGES),
        between=st.none() | st.sampled_from(CHANGES),
        by=admins,
        as_read=st.booleans(),
        again=st.sampled_from(("approve", "reject")),
    )
    def propose_and_approve(
        self, name: str, change: dict[str, Any], between: dict[str, Any] | None, by: str, as_read: bool, again: str
    ) -> None:
        """What has changed in between makes the proposal stale, and its approval what was read of it."""
        before = len(self.ledger.drafts)
        self.apply_policies(name=name, change=change, left_out="", prune=False, how="propose", by=by)
        if len(self.ledger.drafts) == before:
            return
        if between is not None:
            self.turn(name, between)
        fresh, other = list(self.ledger.drafts)[-1], ADMIN if by == OTHER_ADMIN else OTHER_ADMIN
        self.decide(fresh, "approve", other, as_read)
        self.decide(fresh, again, other, True)

    @precondition(lambda self: self.ledger.drafts)
    @rule(by=admins, verb=st.sampled_from(("approve", "approve", "reject")), as_read=st.booleans(), data=st.data())
    def decide_on_a_proposal(self, by: str, verb: str, as_read: bool, data: st.DataObject) -> None:
        self.decide(data.draw(st.sampled_from(sorted(self.ledger.drafts))), verb, by, as_read)

    def decide(self, name: str, verb: str, by: str, as_read: bool) -> None:
        draft = self.ledger.drafts[name]
        changed = any(version != self.version_of(each) for each, (_, version, _) in draft.changes.items())
        if as_read and self.has_changed(name):
            expected = "StaleEtag"
        elif verb == "approve" and by == draft.by:
            expected = "SelfApproval"
        elif self.status_of(draft) != "PENDING":
            expected = "WrongState"
        else:
            expected = "StalePlan" if verb == "approve" and changed else OK
        etag_of = self.etag_read(name) if as_read else lambda _: ""
        self.written(by, expected, lambda each, by: each.decide(verb, by, name, etag=etag_of(each)))
        if expected != OK:
            return
        draft.status = "REJECTED" if verb == "reject" else "APPROVED"
        if verb == "approve":
            self.enact({each: (kind, after) for each, (kind, _, after) in draft.changes.items()}, by)

    @precondition(lambda self: any(self.status_of(draft) == "PENDING" for draft in self.ledger.drafts.values()))
    @rule(off=st.sampled_from((-TICK, timedelta())))
    def wait_for_a_proposal_to_lapse(self, off: timedelta) -> None:
        until = min(draft.until for draft in self.ledger.drafts.values() if self.status_of(draft) == "PENDING")
        if until + off > self.world.now:
            self.wait(until + off - self.world.now)

    @invariant()
    def all_is_as_the_service_left_it(self) -> None:
        for kind, each in self.stored.items():
            assert (kind, each.unsealed()) == (kind, "")

    @invariant()
    def all_hold_the_same_policies(self) -> None:
        expected = {name: (plain(policy), bool(policy.deleted_at)) for name, policy in self.world.policies.items()}
        for kind, each in self.stored.items():
            found = {name: (plain(policy), bool(policy.deleted_at)) for name, policy in each.stored_policies().items()}
            assert found == expected, kind

    def difference(self, wanted: dict[str, Policy], *, prune: bool) -> dict[str, str]:
        there = self.standing()
        found = {name: "CREATED" for name in wanted if name not in there}
        found |= {
            name: "UNCHANGED" if plain(there[name]) == plain(policy) else "UPDATED"
            for name, policy in wanted.items()
            if name in there
        }
        return found | {name: "DELETED" for name in there if prune and name not in wanted}

    def enact(self, changes: dict[str, tuple[str, Policy | None]], by: str) -> None:
        made = {name: after for name, (kind, after) in changes.items() if kind != "UNCHANGED"}
        for name, after in made.items():
            gone = replace(self.world.policies[name], deleted_at=self.world.now)
            self.world.policies[name] = gone if after is None else after
            self.versions[name] += 1
        self.world.end_misfits(made, self.person(by))

    # How it is done

    def put_policy(self, changed: Policy) -> None:
        super().put_policy(changed)
        self.versions[changed.name] += 1

    def set_calm(self, value: bool, ends: datetime) -> None:
        super().set_calm(value, ends)
        self.versions[CALM] += 1

    def standing(self) -> dict[str, Policy]:
        return {name: policy for name, policy in self.world.policies.items() if policy.deleted_at is None}

    def version_of(self, policy: str) -> int:
        return self.versions[policy] if policy in self.standing() else 0

    def version(self, name: str) -> int:
        """Another one after each change; 0 for what is not there. The use of a grant is no change of it."""
        if name == CALM:
            return self.versions[CALM] if self.world.signals else 0
        if name in self.world.loans:
            return 1 + self.world.loans[name].over
        if name in self.ledger.drafts:
            return 1 + (self.ledger.drafts[name].status != "PENDING")
        return self.versions[name] if name in NAMES else sum(line.grant == name for line in self.world.log)

    def status_of(self, draft: Draft) -> str:
        return "LAPSED" if draft.status == "PENDING" and draft.until <= self.world.now else draft.status

    def revisions(self) -> dict[str, int]:
        return {kind: each.revision() for kind, each in self.stored.items()}

    def allows(self, act: str, name: str, who: str, changes: Changes, span: timedelta) -> bool:
        return self.expected(act, self.world.entries[name], self.person(who), changes, span) == OK


def plain(policy: Policy) -> Policy:
    """The policy as somebody chose it."""
    return replace(normalize(policy), revision=0, created_at=None, updated_at=None, deleted_at=None)


def is_sound(policy: Policy) -> bool:
    try:
        normalize(policy)
    except InvalidField:
        return False
    return True
