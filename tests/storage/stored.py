"""The use cases on a store, as the machines of the reference model call them, with names that the test chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import takewhile
from typing import NamedTuple

from sqlmodel import Session, SQLModel, select, update

from jit_service.check.questions import RefusedItem
from jit_service.domain.audit.event import Event
from jit_service.domain.caller import Caller, Role
from jit_service.domain.checks.decision import Decision, Question
from jit_service.domain.conditions.signal import Signal
from jit_service.domain.errors import JitError, StoreUnavailable, Unsatisfiable
from jit_service.domain.grants.delegation import NewDelegation
from jit_service.domain.grants.grant import ExtensionState, Grant, Justification
from jit_service.domain.grants.lock import NewLock as LockWanted
from jit_service.domain.grants.lock import Target
from jit_service.domain.grants.more_time import MoreTime
from jit_service.domain.grants.request import Ask
from jit_service.domain.grants.terms import Edits
from jit_service.domain.language import etag as etags
from jit_service.domain.policies.diff import PolicyDraft
from jit_service.domain.policies.policy import Policy
from jit_service.domain.policies.proposal import Proposal
from jit_service.feeds.grants import ControlEvent, Watched, watch
from jit_service.runtime import sweeper
from jit_service.storage import Store, grant_list
from jit_service.storage.head_follower import HeadFollower
from jit_service.storage.tables import HeadRow
from jit_service.use_cases import audit, bulk_revocation, delegations, grants, locks, policies, proposals, signals
from jit_service.use_cases.bulk_revocation import GrantSelector, RevocationPlan
from jit_service.use_cases.grants import GrantView
from jit_service.use_cases.policies import ApplyResult
from tests import checking
from tests.model.small_world import ALIAS

# As every caller of the model: the letter case of one name counts.
ADMIN = Caller(principal="user:admin@example.com", roles=frozenset({Role.ADMIN}), exact=(ALIAS,))
WHY = Justification(text="because")
CALM = "signals/calm"


class Heard(NamedTuple):
    """One thing that a watcher was told."""

    event: str
    grant: str
    status: str
    revision: int


class Naming:
    """Gives both stores the names that the model has."""

    upcoming = ""

    def __call__(self, _: str, __: int = 0) -> str:
        return self.upcoming


class Stored:
    """The use cases on a store, with names that the test chooses."""

    def __init__(self, store: Store, naming: Naming) -> None:
        self.store = store
        self.naming = naming
        with Session(store.engine) as session:
            self.head = session.exec(select(HeadRow)).one().model_dump()

    def empty(self) -> None:
        """Makes the store as it was when it was new."""
        # What a checker holds is of the database before.
        checking.stop(self.store)
        with Session(self.store.engine) as session, session.begin():
            for table in reversed(SQLModel.metadata.sorted_tables):
                if table.name != HeadRow.__tablename__:
                    session.execute(table.delete())
            session.execute(update(HeadRow).values(**self.head))

    def unsealed(self) -> str:
        """Returns what a start would say of the seals; nothing where they fit."""
        reader = self.store.grant_loader()
        try:
            with reader.load(lambda *_: None) as everything:
                for _ in everything.grants:
                    pass
        except StoreUnavailable as fault:
            return str(fault)
        finally:
            reader.close()
        return ""

    def ask(self, name: str, by: Caller, asked: Ask) -> object:
        self.naming.upcoming = name
        return grants.ask(self.store, by, asked)

    def rehearse(self, by: Caller, asked: Ask) -> object:
        preview = grants.preview(self.store, by, asked).preview
        if preview is None or not preview.satisfiable:
            raise Unsatisfiable("")
        return preview

    def ensure(self, name: str, by: Caller, asked: Ask) -> Grant:
        self.naming.upcoming = name
        return grants.ensure(self.store, by, asked).grant

    def act(self, act: str, name: str, by: Caller, *, edits: Edits, more: timedelta, etag: str = "") -> object:
        match act:
            case "approve":
                shown = self._shown(name)
                return grants.approve(self.store, by, name, comment="", etag=etag, extension_round=shown, edits=edits)
            case "deny":
                return grants.deny(self.store, by, name, comment="so", etag=etag, extension_round=self._shown(name))
            case "counter":
                return grants.counter(self.store, by, name, comment="", etag=etag, edits=edits)
            case "extend":
                return grants.extend(self.store, by, name, MoreTime(duration=more, justification=WHY), etag=etag)
        case = {
            "accept": grants.accept_offer,
            "decline": grants.decline_offer,
            "complete": grants.complete_review,
            "withdraw": grants.withdraw,
            "release": grants.release,
            "revoke": grants.revoke,
        }[act]
        return case(self.store, by, name, comment="so", etag=etag)

    def _shown(self, name: str) -> int:
        """The request that waits now, as whoever decides was shown it."""
        with self.store.snapshot() as snapshot:
            grant = snapshot.grant(name)
            waits = grant is not None and grant.extension_state(snapshot.now) is ExtensionState.PENDING
            return grant.round if waits and grant is not None else 0

    def check(self, by: Caller, question: Question) -> Decision:
        return checking.check(self.store, by, question).decision

    def delegate(self, name: str, by: Caller, wanted: NewDelegation) -> object:
        self.naming.upcoming = name
        return delegations.create(self.store, by, wanted)

    def end_delegation(self, name: str, by: Caller, *, etag: str = "") -> object:
        return delegations.delete(self.store, by, name, etag=etag)

    def put_policy(self, by: Caller, policy: Policy) -> object:
        with self.store.snapshot() as snapshot:
            there = snapshot.policy(policy.name)
        if there is None or there.deleted_at is not None:
            return policies.create(self.store, by, replace(policy, revision=0))
        return self.update_policy(by, policy)

    def update_policy(self, by: Caller, policy: Policy, *, etag: str = "") -> Policy:
        def change(before: Policy) -> Policy:
            kept = {
                "revision": before.revision,
                "created_at": before.created_at,
                "updated_at": before.updated_at,
                "deleted_at": before.deleted_at,
            }
            return replace(policy, **kept)  # type: ignore[arg-type]

        return policies.update(self.store, by, policy.name, etag=etag, change=change)

    def put_signal(self, by: Caller, value: bool, expires_at: datetime, *, etag: str = "") -> object:
        return signals.put(self.store, by, Signal(name=CALM, value=value, expires_at=expires_at), etag=etag)

    def drop_signal(self, by: Caller, *, etag: str = "") -> object:
        return signals.delete(self.store, by, CALM, etag=etag)

    def lock(self, by: Caller, whom: str) -> object:
        return locks.create(self.store, by, LockWanted(target=Target(principal=whom), comment="left"))

    def unlock(self, by: Caller) -> object:
        with self.store.snapshot() as snapshot:
            (lock,) = snapshot.locks
        return locks.delete(self.store, by, lock.name, etag="")

    def sweep(self) -> object:
        return sweeper.record_run_out(self.store)

    def revoke_all_of(self, holder: str, by: Caller) -> int:
        selector = GrantSelector(subject=holder)
        plan = bulk_revocation.plan(self.store, selector)
        return len(bulk_revocation.execute(self.store, by, selector, plan_id=plan.id, comment="leak").grants)

    def inbox(self, by: Caller) -> set[str]:
        page = grants.list_page(
            self.store, by, view=GrantView.REVIEWABLE, filter_text="", order_by="", page_size=100, page_token=""
        )
        return {grant.name for grant in page.grants}

    def grants(self) -> dict[str, Grant]:
        with self.store.snapshot() as snapshot:
            found = snapshot.grants(grant_list.every_grant(), node=None, order=(), after=None, limit=100).entries
        return {grant.name: grant for grant, _ in found}

    def log(self) -> list[Event]:
        assert not audit.verify(self.store).problem
        page = audit.list_page(self.store, ADMIN, filter_text="", order_by="seq", page_size=1000, page_token="")
        return [recorded.event for recorded in page.events]

    # What needs a store

    def revision(self) -> int:
        with self.store.snapshot() as snapshot:
            return snapshot.revision

    def etag(self, name: str) -> str:
        """The etag that whoever reads it now is given; of what is not there, that of nothing. Deleted policies are."""
        with self.store.snapshot() as snapshot:
            kinds = {
                "grants": snapshot.grant,
                "policies": snapshot.policy,
                "signals": snapshot.signal,
                "delegations": snapshot.delegation,
                "policyProposals": snapshot.proposal,
            }
            found = kinds[name.partition("/")[0]](name)
        return etags.etag(name, found.revision if found else 0)

    def told(self, by: Caller, *, view: GrantView, after: int, grant: str = "") -> list[Heard]:
        """What a watcher is told from the revision on, up to now."""
        watched = Watched(view=view, grant=grant, start_revision=after)
        stream = watch(
            self.store, by, watched, follower=HeadFollower(self.store), gone=lambda: False, heartbeat_seconds=0
        )
        told = takewhile(lambda each: each.type is not ControlEvent.HEARTBEAT, stream)
        return [
            Heard(each.type, each.grant.name, each.grant.state(each.at), each.revision)
            for each in told
            if each.grant is not None and each.at is not None
        ]

    def check_many(self, by: Caller, items: Sequence[Question | RefusedItem]) -> list[Decision | str]:
        """The decisions in order; the word for the fault of an item that is none."""
        answers = checking.checker(self.store).check_many(by, items)
        return [type(each).__name__ if isinstance(each, JitError) else each.decision for each in answers]

    def plan(self, selector: GrantSelector) -> RevocationPlan:
        return bulk_revocation.plan(self.store, selector)

    def carry_out(self, by: Caller, selector: GrantSelector, plan_id: str) -> RevocationPlan:
        return bulk_revocation.execute(self.store, by, selector, plan_id=plan_id, comment="leak")

    def preview(self, proposed: Sequence[PolicyDraft], *, prune: bool) -> ApplyResult:
        return policies.preview(self.store, ADMIN, proposed, prune=prune)

    def apply(self, by: Caller, proposed: Sequence[PolicyDraft], *, prune: bool) -> ApplyResult:
        return policies.apply(self.store, by, proposed, prune=prune)

    def delete_policy(self, by: Caller, name: str, etag: str) -> Policy:
        return policies.delete(self.store, by, name, etag=etag)

    def propose(self, name: str, by: Caller, proposed: Sequence[PolicyDraft], *, prune: bool) -> ApplyResult:
        self.naming.upcoming = name
        return proposals.propose(self.store, by, proposed, prune=prune, comment="")

    def decide(self, verb: str, by: Caller, name: str, *, etag: str = "") -> Proposal:
        case = {"approve": proposals.approve, "reject": proposals.reject}[verb]
        return case(self.store, by, name, comment="so", etag=etag).proposal

    def stored_policies(self) -> dict[str, Policy]:
        with self.store.snapshot() as snapshot:
            return {policy.name: policy for policy in snapshot.policies(deleted=True)}
