"""Whoever can write to the database, and has not the key, gives nobody access: raw SQL against each kind of row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from jit_service.check import GrantCache, questions
from jit_service.domain.conditions.signal import Signal
from jit_service.domain.errors import StoreUnavailable
from jit_service.domain.grants.delegation import NewDelegation as WantedDelegation
from jit_service.domain.grants.lock import NewLock, Target
from jit_service.runtime.sweeper import record_run_out
from jit_service.storage import Store, rows
from jit_service.storage.grant_loader import GrantLoader
from jit_service.storage.sealing import Sealer
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.storage.snapshot import Snapshot
from jit_service.use_cases import audit, delegations, grants, locks, policies, signals
from tests import checking
from tests.conftest import HOUR, NOON, Clock, copy_of
from tests.domain.factories import deny_policy
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.histories import put_back, tables
from tests.storage.people import ADMIN, ALICE, BOB, CAROL, GATEWAY, add_policy, approve, ask, policy

KEY = bytes(range(32))
EU, US = "database/orders/eu", "database/orders/us"
YEAR = 365 * 86_400 * 10**6


class Site:
    """A store as it stands before somebody gets at its database, and what they may want of it."""

    def __init__(self, url: str, clock: Clock) -> None:
        self.url, self.clock = url, clock
        self.store = Store(url, clock=clock, keys=SealingKeys.of(KEY))
        add_policy(self.store)
        add_policy(self.store, name="policies/calm", resources=("database/calm/**",), check_condition="signals.calm")
        self.revoked = approve(self.store, ask(self.store))
        self.earlier = tables(self.store)
        grants.revoke(self.store, BOB, self.revoked.name, comment="over", etag="")
        self.live = approve(self.store, ask(self.store, resource=US))
        self.pending = ask(self.store, resource="database/orders/fr")
        self.calm = approve(self.store, ask(self.store, resource="database/calm/x"))
        signals.put(self.store, ADMIN, Signal(name="signals/calm", value=False, expires_at=clock() + 9 * HOUR), etag="")
        self.denied = approve(self.store, ask(self.store, resource="database/orders/denied"))
        denied = {"resources": ("database/orders/denied",), "actions": ("**",), "eligible": policy().eligible}
        self.deny = policies.create(self.store, ADMIN, deny_policy(name="policies/no", revision=0, **denied))
        wanted = WantedDelegation(delegate=ALICE.principal, expires_at=clock() + HOUR)
        self.delegation = delegations.create(self.store, CAROL, wanted).delegation
        locked = NewLock(target=Target(principal="user:dave@example.com"), comment="x")
        self.lock = locks.create(self.store, ADMIN, locked).lock

    def sql(self, statement: str, **values: Any) -> None:
        with self.store.engine.begin() as connection:
            assert connection.execute(text(statement), values).rowcount

    def allows(self, store: Store, resource: str, subject: str = ALICE.principal) -> bool:
        """Says whether a check is a yes; one that is not answered is none."""
        asked = questions.question(GATEWAY, subject=subject, action="read", resource=resource)
        try:
            return checking.check(store, GATEWAY, asked).decision.allowed
        except StoreUnavailable:
            return False

    def after_restart(self) -> Store:
        return Store(self.url, clock=self.clock, keys=SealingKeys.of(KEY))


Attack = Callable[[Site], tuple[str, str]]
SiteTwin = tuple[str, Any, str, str, Callable[[Site], Any]]
ON_SQLITE = pytest.mark.parametrize("template_url", ["sqlite"], indirect=True)


def unrevoke(site: Site) -> tuple[str, str]:
    site.sql(
        "UPDATE access_grant SET ended_at = NULL, ended_as = NULL, ended_by = NULL, end_comment = NULL WHERE name = :n",
        n=site.revoked.name,
    )
    return EU, site.revoked.name


def widen(site: Site) -> tuple[str, str]:
    site.sql("UPDATE access_grant SET resources = :r WHERE name = :n", r='["database/**"]', n=site.live.name)
    return "database/ledger/x", site.live.name


def prolong(site: Site) -> tuple[str, str]:
    site.sql(
        f"UPDATE access_grant SET expires_at = expires_at + {YEAR}, duration = duration + {YEAR} WHERE name = :n",
        n=site.live.name,
    )
    site.clock.advance(5 * HOUR)
    return US, site.live.name


def delete_deny(site: Site) -> tuple[str, str]:
    site.sql("DELETE FROM policy WHERE name = :n", n=site.deny.name)
    return "database/orders/denied", site.deny.name


def edit_deny(site: Site) -> tuple[str, str]:
    document = policy_document(site).replace("database/orders/denied", "database/orders/nothing")
    site.sql("UPDATE policy SET document = :d WHERE name = :n", d=document, n=site.deny.name)
    return "database/orders/denied", site.deny.name


def policy_document(site: Site) -> str:
    with site.store.engine.connect() as connection:
        found = connection.execute(
            text("SELECT CAST(document AS TEXT) FROM policy WHERE name = :n"), {"n": site.deny.name}
        )
        document: str = found.scalar_one()
        return document


def restore_older(site: Site) -> tuple[str, str]:
    (row,) = [row for row in site.earlier["access_grant"] if row["name"] == site.revoked.name]
    now = tables(site.store)
    others = [other for other in now["access_grant"] if other["name"] != site.revoked.name]
    put_back(site.store, now | {"access_grant": [*others, row]})
    return EU, site.revoked.name


def insert_grant(site: Site) -> tuple[str, str]:
    now = tables(site.store)
    (row,) = [row for row in now["access_grant"] if row["name"] == site.live.name]
    forged = row | {"name": "grants/forged", "resources": ["database/ledger/**"], "revision": row["revision"] + 1}
    put_back(site.store, now | {"access_grant": [*now["access_grant"], forged]})
    return "database/ledger/x", "grants/forged"


def add_review(site: Site) -> tuple[str, str]:
    now = tables(site.store)
    review = now["review"][0] | {"grant_name": site.pending.name, "reviewer": "user:eve@example.com"}
    put_back(site.store, now | {"review": [*now["review"], review]})
    return "database/orders/fr", site.pending.name


def change_signal(site: Site) -> tuple[str, str]:
    site.sql("UPDATE signal SET value = 'true'")
    return "database/calm/x", "signals/calm"


def delete_signal(site: Site) -> tuple[str, str]:
    site.sql("DELETE FROM signal")
    return "database/calm/x", "signals/calm"


def delete_lock(site: Site) -> tuple[str, str]:
    site.sql("DELETE FROM access_lock")
    return "database/orders/nothing", site.lock.name


def unseal(site: Site) -> tuple[str, str]:
    unrevoke(site)
    site.sql("UPDATE access_grant SET seal = NULL, live_seal = NULL")
    return EU, min(site.revoked.name, site.live.name, site.pending.name, site.calm.name, site.denied.name)


ATTACKS: list[Attack] = [
    unrevoke,
    widen,
    prolong,
    delete_deny,
    edit_deny,
    restore_older,
    insert_grant,
    add_review,
    change_signal,
    delete_signal,
    delete_lock,
    unseal,
]


@contextmanager
def built(template_url: str, directory: Path, finish: Callable[[Site], Site] = lambda site: site) -> Iterator[Site]:
    """A site that nobody uses, to copy: to build one takes longer than most tests of it."""
    with copy_of(template_url, directory) as url:
        site = finish(Site(url, Clock()))
        checking.stop_all()
        site.store.close()
        yield site


@contextmanager
def copied(built_site: Site, clock: Clock, directory: Path) -> Iterator[Site]:
    with copy_of(built_site.url, directory) as url:
        site = copy(built_site)
        site.url, site.clock = url, clock
        site.store = site.after_restart()
        yield site
        checking.stop_all()
        site.store.close()


@pytest.fixture(scope="session")
def built_site(template_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with built(template_url, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def site(built_site: Site, clock: Clock, tmp_path: Path) -> Iterator[Site]:
    with copied(built_site, clock, tmp_path) as site:
        yield site


def test_nothing_differs_where_nobody_did_anything(site: Site) -> None:
    verified = audit.verify(site.store)

    assert (verified.problem, verified.differing) == ("", "")
    assert site.allows(site.store, US)
    assert not site.allows(site.store, EU)
    assert not site.allows(site.store, "database/orders/denied")


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("when", ["running", "restarted"])
def test_whoever_writes_to_the_database_gives_nobody_access(site: Site, attack: Attack, when: str) -> None:
    assert site.allows(site.store, US)

    resource, touched = attack(site)
    if when == "restarted":
        checking.stop(site.store)
    store = site.store if when == "running" else site.after_restart()

    assert not site.allows(store, resource)
    # Nor once somebody has sums_text, and what is new is looked for.
    with_another_grant(site.store)
    assert not site.allows(store, resource)
    assert audit.verify(site.after_restart()).differing == touched


def with_another_grant(store: Store) -> None:
    with suppress(StoreUnavailable):
        ask(store, resource="database/orders/more")


def test_a_change_that_is_undone_before_it_is_seen_is_noticed(site: Site) -> None:
    """As a trigger does it: the revoke is acknowledged, and its row is put back before anybody looks."""
    assert site.allows(site.store, US)
    before = tables(site.store)["access_grant"]
    view = checking.checker(site.store)
    assert view
    other = Store(site.url, clock=site.clock, keys=SealingKeys.of(KEY))
    grants.revoke(other, BOB, site.live.name, comment="over", etag="")
    now = tables(other)
    put_back(other, now | {"access_grant": before})
    other.close()

    assert not site.allows(site.store, US)


def test_an_older_row_that_is_written_on_from_is_noticed(site: Site) -> None:
    """A revoked grant is put back as it was, and its holder gives it up: what is written comes of a forgery."""
    restore_older(site)
    grants.release(site.store, ALICE, site.revoked.name, comment="", etag="")

    assert not site.allows(site.store, US)
    with pytest.raises(StoreUnavailable):
        GrantCache(site.store, clock=site.clock, bound=HOUR)


@pytest.mark.parametrize("recorded", [False, True])
def test_what_ran_out_is_no_change_of_somebody_elses(site: Site, clock: Clock, recorded: bool) -> None:
    """Grants that expired and requests that lapsed, before and after the log is told of them."""
    assert site.allows(site.store, US)
    clock.advance(20 * HOUR)
    if recorded:
        assert record_run_out(site.store)
    else:
        ask(site.store, resource="database/orders/later")

    store = site.after_restart()

    GrantCache(store, clock=clock, bound=HOUR).stop()
    asked = questions.question(GATEWAY, subject=ALICE.principal, action="read", resource=US)
    for each in (store, site.store):
        assert not checking.check(each, GATEWAY, asked).decision.allowed
    assert audit.verify(store).differing == ""


def test_the_texts_of_a_change_are_not_remembered_for_others() -> None:
    columns = {"type": "GRANT_REQUESTED", "at": NOON, "grant_name": "grants/1", "document": '{"etag": "of this alone"}'}

    first, second = (rows.change_fact(columns)["document"]["etag"] for _ in range(2))

    assert first == second
    assert first is not second


def test_another_key_reads_nothing(site: Site) -> None:
    other = Store(site.url, clock=site.clock, keys=SealingKeys.of(bytes(32)))

    with pytest.raises(StoreUnavailable, match=r"the store is sealed with key [0-9a-f]{16}, and this host has only"):
        ask(other)
    with pytest.raises(StoreUnavailable):
        GrantCache(other, clock=site.clock, bound=HOUR)
    other.close()


def test_it_is_told_loudly_and_health_says_no(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    widen(site)

    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            GrantCache(site.store, clock=site.clock, bound=HOUR)

    told = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert len(told) == 1
    assert site.live.name in told[0].getMessage()
    with pytest.raises(StoreUnavailable):
        site.store.prove_writing()


def test_a_proposal_and_a_delegation_that_were_changed_are_not_used(site: Site) -> None:
    site.sql("UPDATE delegation SET delegate = 'user:eve@example.com'")

    with site.store.snapshot() as snapshot, pytest.raises(StoreUnavailable):
        snapshot.delegations_to("user:eve@example.com")
    assert audit.verify(site.store).differing == site.delegation.name


def test_what_is_there_from_before_there_were_seals_is_sealed_once(site: Site) -> None:
    for table in ("access_grant", "policy", "signal", "delegation", "access_lock", "grant_change", "head"):
        site.sql(f"UPDATE {table} SET seal = NULL")
    site.sql("UPDATE access_grant SET live_seal = NULL")
    site.sql("UPDATE head SET sums = ''")
    assert site.store.is_unsealed()

    store = site.after_restart()
    assert store.seal_existing() > 10

    assert not store.is_unsealed()
    assert site.allows(store, US)
    assert ask(store, resource="database/orders/more")
    assert audit.verify(store).differing == ""


TWINS: list[SiteTwin] = [
    (
        "a load that looks at no seal",
        GrantLoader._demand_seals,
        "if wanted != seal:",
        "if False:",
        lambda site: demand_unsealed(site, match=widen(site)[1]),
    ),
    (
        "a load that counts nothing",
        Sealer.demand_total,
        "if total % _MODULUS != sums.get(kind, 0):",
        "if False:",
        lambda site: (delete_deny(site), demand_unsealed(site)),
    ),
    (
        "news that are not all there is",
        GrantLoader._advanced_sum,
        "self._sealer.demand_total(GRANTS, total, sums)",
        "pass",
        test_a_change_that_is_undone_before_it_is_seen_is_noticed,
    ),
    (
        "news whose seals are not looked at",
        GrantLoader._policies,
        "self._sealer.demand(policy.name, policy, seal)",
        "pass",
        lambda site: (edit_deny(site), demand_unsealed(site)),
    ),
    (
        "transactions that look at no seal",
        Snapshot._sealed,
        "self._sealer.demand(row.name, fact, row.seal)",
        "pass",
        lambda site: (unrevoke(site), demand_refused(site)),
    ),
]


def demand_unsealed(site: Site, match: str = "") -> None:
    with pytest.raises(StoreUnavailable, match=match):
        GrantCache(site.store, clock=site.clock, bound=HOUR)


def demand_refused(site: Site) -> None:
    with site.store.snapshot() as snapshot, pytest.raises(StoreUnavailable):
        snapshot.grant(site.revoked.name)


def demand_twin_caught(twin: SiteTwin, built_site: Site, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    *sown, caught_by = twin
    with copied(built_site, Clock(), directory) as site:
        caught_by(site)

    with copied(built_site, Clock(), directory) as site:
        demand_caught(Twin(*sown, lambda: caught_by(site)), monkeypatch)


@ON_SQLITE
@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin[0])
def test_no_twin_survives(twin: SiteTwin, built_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demand_twin_caught(twin, built_site, tmp_path, monkeypatch)
