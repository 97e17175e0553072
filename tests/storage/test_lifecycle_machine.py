"""The use cases on SQLite and on PostgreSQL, side by side, against the reference model (invariant I22)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from sqlmodel import Session, SQLModel, select, update

from jit_service import audit, delegations, grants, policies, revocation, signals, sweeper
from jit_service.domain.approval import Edits
from jit_service.domain.caller import Caller, Role
from jit_service.domain.decision import Decision, Question
from jit_service.domain.delegation import Wanted
from jit_service.domain.errors import Unsatisfiable
from jit_service.domain.event import Event
from jit_service.domain.grant import Grant, Justification
from jit_service.domain.policy import Policy
from jit_service.domain.request import Ask, MoreTime
from jit_service.domain.signal import Signal
from jit_service.grants import View
from jit_service.revocation import Selector
from jit_service.storage import Store, query
from jit_service.storage.tables import HeadRow
from tests import checking
from tests.conftest import Clock
from tests.domain.lifecycle import LifecycleMachine

ADMIN = Caller(principal="user:admin@example.com", roles=frozenset({Role.ADMIN}))
WHY = Justification(text="because")
EXAMPLES = int(os.environ.get("EXAMPLES", "25"))


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

    def ask(self, name: str, by: Caller, asked: Ask) -> object:
        self.naming.upcoming = name
        return grants.ask(self.store, by, asked)

    def rehearse(self, by: Caller, asked: Ask) -> object:
        preview = grants.preview(self.store, by, asked).preview
        if preview is None or not preview.satisfiable:
            raise Unsatisfiable("")
        return preview

    def ensure(self, name: str, by: Caller, asked: Ask) -> str:
        self.naming.upcoming = name
        return grants.ensure(self.store, by, asked).grant.name

    def act(self, act: str, name: str, by: Caller, *, edits: Edits, more: timedelta) -> object:
        match act:
            case "approve":
                return grants.approve(self.store, by, name, comment="", etag="", edits=edits)
            case "counter":
                return grants.counter(self.store, by, name, comment="", etag="", edits=edits)
            case "extend":
                return grants.extend(self.store, by, name, MoreTime(duration=more, justification=WHY), etag="")
        case = {
            "deny": grants.deny,
            "accept": grants.accept_offer,
            "decline": grants.decline_offer,
            "complete": grants.complete_review,
            "withdraw": grants.withdraw,
            "release": grants.release,
            "revoke": grants.revoke,
        }[act]
        return case(self.store, by, name, comment="so", etag="")

    def check(self, by: Caller, question: Question) -> Decision:
        return checking.check(self.store, by, question).decision

    def delegate(self, name: str, by: Caller, wanted: Wanted) -> object:
        self.naming.upcoming = name
        return delegations.create(self.store, by, wanted)

    def end_delegation(self, name: str, by: Caller) -> object:
        return delegations.delete(self.store, by, name, etag="")

    def put_policy(self, policy: Policy) -> object:
        with self.store.snapshot() as snapshot:
            there = snapshot.policy(policy.name)
        if there is None:
            return policies.create(self.store, ADMIN, replace(policy, revision=0))

        def change(before: Policy) -> Policy:
            kept = {
                "revision": before.revision,
                "created_at": before.created_at,
                "updated_at": before.updated_at,
                "deleted_at": before.deleted_at,
            }
            return replace(policy, **kept)  # type: ignore[arg-type]

        return policies.update(self.store, ADMIN, policy.name, etag="", change=change)

    def put_signal(self, value: bool, expires_at: datetime) -> object:
        return signals.put(self.store, ADMIN, Signal(name="signals/calm", value=value, expires_at=expires_at), etag="")

    def drop_signal(self) -> object:
        return signals.delete(self.store, ADMIN, "signals/calm", etag="")

    def sweep(self) -> object:
        return sweeper.record_run_out(self.store)

    def revoke_all_of(self, holder: str, by: Caller) -> int:
        selector = Selector(subject=holder)
        plan = revocation.plan(self.store, selector)
        return len(revocation.carry_out(self.store, by, selector, plan_id=plan.id, comment="leak").grants)

    def inbox(self, by: Caller) -> set[str]:
        page = grants.list_page(
            self.store, by, view=View.REVIEWABLE, filter_text="", order_by="", page_size=100, page_token=""
        )
        return {grant.name for grant in page.grants}

    def grants(self) -> dict[str, Grant]:
        with self.store.snapshot() as snapshot:
            found = snapshot.grants(query.every_grant(), node=None, order=(), after=None, limit=100)
        return {grant.name: grant for grant, _ in found}

    def log(self) -> list[Event]:
        assert not audit.verify(self.store).problem
        page = audit.list_page(self.store, ADMIN, filter_text="", order_by="seq", page_size=1000, page_token="")
        return [recorded.event for recorded in page.events]


class Naming:
    """Gives both stores the names that the model has."""

    upcoming = ""

    def __call__(self, _: str) -> str:
        return self.upcoming


@pytest.fixture
def naming(monkeypatch: pytest.MonkeyPatch) -> Naming:
    naming = Naming()
    monkeypatch.setattr(grants, "new_name", naming)
    monkeypatch.setattr(delegations, "new_name", naming)
    return naming


@pytest.fixture
def stores(sqlite_url: str, postgresql_url: str, clock: Clock, naming: Naming) -> Iterator[dict[str, Stored]]:
    both = {"sqlite": Store(sqlite_url, clock=clock), "postgresql": Store(postgresql_url, clock=clock)}
    yield {kind: Stored(store, naming) for kind, store in both.items()}
    for store in both.values():
        checking.stop(store)
        store.close()


def test_both_databases_give_the_models_answers(stores: dict[str, Stored], clock: Clock) -> None:
    def set_clock(now: datetime) -> None:
        clock.now = now

    def machine() -> LifecycleMachine:
        for store in stores.values():
            store.empty()
        return LifecycleMachine(stores, set_clock)

    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]
        settings=settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None),
    )
