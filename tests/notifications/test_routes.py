"""Routes from the settings to a mailbox: what commits leave for whom, and what is wrong with a route."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from jit_service.domain.grants.delegation import NewDelegation
from jit_service.domain.notification import Retries, Subscription, interests
from jit_service.domain.policies.policy import PrincipalSet, Step
from jit_service.domain.routing import Route
from jit_service.notifications import delivery
from jit_service.notifications.delivery import Channel, deliver_next
from jit_service.notifications.mail import Mail
from jit_service.notifications.routes import routes_of, subscriptions_of
from jit_service.runtime import sweeper
from jit_service.settings import Settings, SettingsError
from jit_service.storage import Store
from jit_service.use_cases import delegations, grants
from tests.conftest import HOUR, Clock
from tests.notifications.mail_server import mail_server
from tests.notifications.test_mail import receiver
from tests.storage.people import ALICE, BOB, CAROL, add_policy, approve, ask

PEOPLE = Route(receiver="mail", whom=PrincipalSet(principals=("user:*@example.com",)))
OWNERS = Route(receiver="chat", addressees=("#owners",), whom=PrincipalSet(groups=("owners",)))
SECURITY = Route(receiver="chat", addressees=("#security",), whom=PrincipalSet(groups=("security",)))
ROUTES = (PEOPLE, OWNERS, SECURITY)
OWNED, SECURED = PrincipalSet(groups=("owners",)), PrincipalSet(groups=("security",))
TO_ALICE = ("mail", ALICE.principal)
TO_OWNERS, TO_SECURITY = ("chat", "#owners"), ("chat", "#security")
Opens = Callable[..., Store]


@pytest.fixture
def open_store(database_url: str, clock: Clock) -> Iterator[Opens]:
    opened: list[Store] = []

    def open_it(routes: Sequence[Route] = ROUTES, subscriptions: Sequence[Subscription] = ()) -> Store:
        opened.append(Store(database_url, clock=clock, routes=routes, subscriptions=subscriptions))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


def told(store: Store) -> list[tuple[str, str]]:
    """Who waits to be told, and from then on does not."""
    with store.outbox() as outbox:
        found = sorted((left.receiver, left.addressee) for left in outbox.waiting())
        for receiver_ in {receiver_ for receiver_, _ in found}:
            while (claim := outbox.claim(receiver_, lease=HOUR)) is not None:
                outbox.remove(claim)
    return found


def test_each_step_is_told_when_it_comes_and_all_who_were_asked_are_told_of_the_end(open_store: Opens) -> None:
    store = open_store()
    add_policy(store, steps=(Step(approvers=OWNED), Step(approvers=SECURED)))

    grant = ask(store)
    assert told(store) == [TO_OWNERS]
    approve(store, grant)
    assert told(store) == [TO_SECURITY, TO_ALICE]
    approve(store, grant, by=CAROL._replace(groups=frozenset({"security"})))
    assert told(store) == [TO_OWNERS, TO_SECURITY, TO_ALICE]
    grants.revoke(store, BOB, grant.name, comment="over", etag="")

    assert told(store) == [TO_OWNERS, TO_SECURITY, TO_ALICE]
    with store.snapshot() as snapshot:
        assert snapshot.told_before(grant.name) == []


def test_those_who_were_asked_are_told_that_nobody_decided_in_time(open_store: Opens, clock: Clock) -> None:
    store = open_store()
    add_policy(store)
    ask(store)
    told(store)
    clock.advance(24 * HOUR)

    sweeper.record_run_out(store)

    assert told(store) == [TO_OWNERS, TO_ALICE]


def test_an_escalation_tells_the_escalated_once_however_many_processes_sweep(open_store: Opens, clock: Clock) -> None:
    store = open_store()
    escalates = Step(approvers=OWNED, timeout=HOUR / 2, escalate_to=SECURED)
    add_policy(store, steps=(escalates,))
    grant = ask(store)
    told(store)
    clock.advance(HOUR / 2)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: sweeper.record_run_out(store), range(3)))

    assert told(store) == [TO_SECURITY]
    grants.withdraw(store, ALICE, grant.name, comment="", etag="")
    assert told(store) == [TO_OWNERS, TO_SECURITY]


def test_an_end_that_is_near_tells_the_holder(open_store: Opens, clock: Clock) -> None:
    store = open_store()
    add_policy(store, warn_before=HOUR / 4)
    approve(store, ask(store))
    told(store)
    clock.advance(HOUR - HOUR / 4)

    sweeper.record_run_out(store)

    assert told(store) == [TO_ALICE]


def test_a_request_is_told_to_whoever_may_decide_in_an_approvers_place(open_store: Opens, clock: Clock) -> None:
    store = open_store()
    add_policy(store)
    delegations.create(store, BOB, NewDelegation(delegate=CAROL.principal, expires_at=clock() + HOUR))
    told(store)

    grant = ask(store)

    assert told(store) == [TO_OWNERS, ("mail", CAROL.principal)]
    approve(store, grant)
    assert told(store) == [TO_OWNERS, TO_ALICE, ("mail", CAROL.principal)]
    clock.advance(HOUR)
    ask(store)
    assert told(store) == [TO_OWNERS]


def test_nobody_is_told_where_a_rule_approved(open_store: Opens) -> None:
    store = open_store()
    add_policy(store, steps=())

    ask(store)

    assert told(store) == []


def test_one_address_is_told_once_whatever_leads_to_it(open_store: Opens) -> None:
    everything = Subscription(receiver="chat", interests=interests(["GRANT_REQUESTED"]), addressees=("#owners",))
    security_too = replace(SECURITY, addressees=("#owners",))
    store = open_store([OWNERS, security_too], [everything])
    add_policy(store, steps=(Step(approvers=PrincipalSet(groups=("owners", "security"))),))

    ask(store)

    assert told(store) == [TO_OWNERS]


def test_a_request_finds_its_approver_by_mail_and_its_decision_the_requester(open_store: Opens) -> None:
    named = Step(approvers=PrincipalSet(principals=(BOB.principal,)))
    with mail_server() as there:
        to = receiver(there.port, to=[])
        wire = Mail(to, console="https://jit.example.com", resolve=lambda *_: ("127.0.0.1",))
        channel = Channel(receiver="mail", wire=wire, timeout=timedelta(seconds=5), retries=Retries(), for_people=True)
        store = open_store([PEOPLE])
        add_policy(store, steps=(named,))

        grant = ask(store)
        while deliver_next(store, channel):
            pass
        approve(store, grant)
        while deliver_next(store, channel):
            pass

    assert there.recipients == ["bob@example.com", "alice@example.com"]
    request, decision = there.mails
    assert "alice@example.com asks for read on database/orders/eu" in request["subject"]
    assert "bob@example.com approved" in decision["subject"]
    assert delivery.list_waiting(store) == []


# Settings


MAIL: dict[str, Any] = {"name": "mail", "kind": "email", "host": "smtp.example.com", "from": "jit@example.com"}
HOOK: dict[str, Any] = {"name": "hook", "url": "https://hooks.example.com/x", "format": "ntfy"}


def loaded(directory: Path, *routes: dict[str, Any], receivers: Any = (MAIL, HOOK)) -> Settings:
    path = directory / "notifications.yaml"
    path.write_text(yaml.safe_dump({"receivers": list(receivers), "routes": list(routes)}))
    return Settings.load(notifications_file=path)


def fault(directory: Path, route: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as refused:
        loaded(directory, route)
    return str(refused.value)


def test_a_file_has_receivers_and_routes(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        {"receiver": "mail", "principals": ["user:*@example.com"]},
        {
            "receiver": "mail",
            "groups": ["owners"],
            "to": ["owners@example.com"],
            "policies": ["policies/prod-*"],
            "labels": {"team": "red"},
            "events": ["GRANT_REQUESTED:PENDING"],
            "must_know": ["LOCK_CREATED"],
        },
    )

    people, owners = routes_of(settings.routes, settings.notifications)
    assert people == PEOPLE
    assert owners == Route(
        receiver="mail",
        addressees=("owners@example.com",),
        whom=OWNED,
        policies=("policies/prod-*",),
        labels={"team": "red"},
        interests=interests(["GRANT_REQUESTED:PENDING"]),
        must_know=interests(["LOCK_CREATED"]),
    )
    assert Settings.load(**settings.as_given).routes == settings.routes


def test_a_receiver_that_a_route_names_is_told_by_routes_only_and_whom_it_names_itself(tmp_path: Path) -> None:
    to_all = {"receiver": "hook", "groups": ["owners"]}
    chat = MAIL | {"name": "chat", "to": ["all@example.com"]}
    settings = loaded(tmp_path, to_all, {"receiver": "chat", "principals": [ALICE.principal]}, receivers=(HOOK, chat))

    subscriptions = subscriptions_of(settings.routes, settings.notifications)

    assert [(each.receiver, each.addressees) for each in subscriptions] == [("chat", ("all@example.com",))]


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ({}, "JIT_ROUTES[0].receiver: is missing"),
        ({"receiver": "pager", "groups": ["a"]}, "receiver: 'pager' is no receiver; those are mail, hook"),
        ({"receiver": "mail"}, "names nobody; give groups or principals"),
        ({"receiver": "mail", "groups": ["a"]}, "to: is missing; the service does not know who is in a group"),
        ({"receiver": "mail", "groups": ["a"], "to": ["nowhere"]}, "to: must be a mail address"),
        ({"receiver": "mail", "principals": ["user:bob"]}, "principals: must be a mail address"),
        ({"receiver": "mail", "principals": ["bob"]}, "JIT_ROUTES[0].principals"),
        ({"receiver": "mail", "principals": ["user:*a*"]}, "JIT_ROUTES[0].principals"),
        ({"receiver": "hook", "groups": ["a"], "to": ["x"]}, "to: hook is one place, so it has no addresses"),
        ({"receiver": "hook", "groups": ["a"], "policies": ["orders"]}, "JIT_ROUTES[0].policies"),
        ({"receiver": "hook", "groups": ["a"], "events": ["NOTHING"]}, "JIT_ROUTES[0].events"),
        ({"receiver": "hook", "groups": ["a"], "must_know": ["NOTHING"]}, "JIT_ROUTES[0].must_know"),
        ({"receiver": "hook", "groups": ["a"], "labels": {"": "x"}}, "JIT_ROUTES[0].labels"),
        ({"receiver": "hook", "groups": ["a"], "colour": "red"}, "JIT_ROUTES[0].colour"),
    ],
)
def test_what_is_wrong_with_a_route_is_told_at_the_start(tmp_path: Path, route: dict[str, Any], said: str) -> None:
    assert said in fault(tmp_path, route)


@pytest.mark.parametrize("text", ["routes: 1", "receivers: {}", "other: []", "7"])
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notifications.yaml"
    path.write_text(text)

    with pytest.raises(SettingsError, match="must hold a list of notifications, or `receivers` and `routes`"):
        Settings.load(notifications_file=path)
