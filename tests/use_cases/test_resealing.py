"""The sealing key is rotated: all is verified and sealed anew in one commit, and the old key opens nothing any more."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from jit_service.domain.audit.event import SERVICE, EventType
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.errors import KeysUnavailable, StoreUnavailable
from jit_service.storage import Store, audit_compaction, prepared, rows
from jit_service.storage import store as store_module
from jit_service.storage.grant_loader import GrantLoader
from jit_service.storage.readers.audit import Recomputed
from jit_service.storage.readers.resealing import ResealReader
from jit_service.storage.readers.seals import SealReader
from jit_service.storage.resealing import ResealingTransaction
from jit_service.storage.sealing_keys import SealingKeys, Superseded
from jit_service.use_cases import audit, grants, policies, resealing, signing_keys
from jit_service.use_cases.keyring import KeyRing
from jit_service.use_cases.resealing import Resealed
from tests.conftest import Clock
from tests.storage.histories import put_back, tables
from tests.storage.people import ADMIN, BOB, ask
from tests.storage.test_seals import (
    ATTACKS,
    EU,
    KEY,
    ON_SQLITE,
    US,
    Attack,
    Site,
    SiteTwin,
    built,
    copied,
    demand_twin_caught,
    unseal,
)
from tests.use_cases.test_tokens import issuing_with

NEW, NEWER = bytes(range(32, 64)), bytes(range(64, 96))
BY = Caller(principal=SERVICE, origin=Origin(method="jit-service keys reseal"))
OLD_ID, NEW_ID = SealingKeys.of(KEY).first.key_id, SealingKeys.of(NEW).first.key_id


def quiet(_: str, __: int, ___: int) -> None:
    """Shows nobody how far it is."""


@pytest.fixture(scope="session")
def built_site(template_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with built(template_url, tmp_path_factory.mktemp("site"), with_log) as site:
        yield site


@pytest.fixture
def site(built_site: Site, clock: Clock, tmp_path: Path) -> Iterator[Site]:
    with copied(built_site, clock, tmp_path) as site:
        yield site


def with_log(site: Site) -> Site:
    """Adds signing keys, and a log of which one part is merged and the rest is not."""
    signing_keys.maintain(site.store, issuing_with(KeyRing(site.store.keys)))
    checked(site.store)
    assert site.store.merge_audit()
    ask(site.store, resource="database/orders/it")
    return site


def checked(store: Store) -> None:
    """Records as many checks as a piece of the log has at least."""
    record = b'{"type":"ACCESS_CHECKED","at":"2026-03-02T12:00:00Z"}'
    for _ in range(8):
        store.append([record] * (audit_compaction.PIECE // 8), at=store.clock())


def opened(site: Site, *keys: bytes) -> Store:
    return Store(site.url, clock=site.clock, keys=SealingKeys.of(*keys))


def reseal(site: Site, *keys: bytes) -> Resealed:
    with closing(opened(site, *keys)) as store:
        return resealing.reseal(store, by=BY, report=quiet)


def recorded(store: Store, type_: EventType) -> Sequence[Any]:
    page = audit.list_page(
        store, ADMIN, filter_text=f'event_type = "{type_}"', order_by="seq", page_size=100, page_token=""
    )
    return page.events


def demand_sound(store: Store) -> None:
    verified = audit.verify(store)
    assert (verified.first_bad_seq, verified.problem, verified.differing, verified.difference) == (0, "", "", "")


def test_after_it_the_new_key_alone_opens_everything_and_the_old_one_nothing(site: Site) -> None:
    published = signing_keys.key_set(site.store, issuing_with(KeyRing(site.store.keys)))
    before = tables(site.store)

    done = reseal(site, NEW, KEY)

    assert (done.before, done.now) == (OLD_ID, NEW_ID)
    with closing(opened(site, NEW)) as store:
        demand_sound(store)
        assert signing_keys.key_set(store, issuing_with(KeyRing(store.keys))) == published
        assert site.allows(store, US)
        assert not site.allows(store, EU)
        assert not site.allows(store, "database/orders/denied")
        with store.snapshot() as snapshot:
            assert [policy.name for policy in snapshot.policies_as_of(site.clock())]
            assert snapshot.changes(after=0, limit=100)
        assert policies.create(store, ADMIN, site.deny.__class__(**vars_of(site.deny, name="policies/more")))
        demand_sound(store)
    with closing(opened(site, KEY)) as store, pytest.raises(StoreUnavailable, match=f"key {NEW_ID}.* only {OLD_ID}"):
        store.head()
    after = tables(site.store)
    for table, column in (("grant_change", "seal"), ("audit_piece", "seal"), ("signing_key", "sealed")):
        assert {row[column] for row in before[table]}.isdisjoint({row[column] for row in after[table]})


def vars_of(policy: Any, **changes: Any) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in policy.__dataclass_fields__} | {"revision": 0} | changes


def test_it_is_on_record_and_a_second_time_there_is_nothing_to_do(site: Site) -> None:
    done = reseal(site, NEW, KEY)

    again = reseal(site, NEW, KEY)

    assert again == Resealed(NEW_ID, NEW_ID, 0)
    with closing(opened(site, NEW)) as store:
        (found,) = recorded(store, EventType.STORE_RESEALED)
    assert found.event.principal == SERVICE
    assert found.event.origin.method == "jit-service keys reseal"
    assert found.event.message == f"{done.rows} rows are sealed with key {NEW_ID} instead of {OLD_ID}"


def test_a_dry_run_verifies_everything_and_changes_nothing(site: Site) -> None:
    before = tables(site.store)

    with closing(opened(site, NEW, KEY)) as store:
        found = resealing.examine(store, report=quiet)

    assert (found.before, found.now) == (OLD_ID, NEW_ID)
    assert tables(site.store) == before
    assert reseal(site, NEW, KEY) == found


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_somebody_changed_before_is_named_and_nothing_is_sealed_anew(site: Site, attack: Attack) -> None:
    _, touched = attack(site)
    before = tables(site.store)

    # Of several the first by name is told.
    named = r"grants/\w+" if attack is unseal else touched
    with pytest.raises(StoreUnavailable, match=f"{named} is|rows of policy|locks may stand"):
        reseal(site, NEW, KEY)

    assert tables(site.store) == before


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE grant_change SET document = REPLACE(document, 'orders/eu', 'orders/**')", "changes/"),
        ("UPDATE policy_revision SET document = REPLACE(document, 'database', 'datebase')", "policies/.*@"),
        ("UPDATE audit_digests SET digests = X''", "summarised as something else"),
        ("UPDATE audit_piece SET seal = hash", "summarised as something else"),
        ("UPDATE signing_key SET kid = 'other'", "does not open signing key other"),
        ("DELETE FROM setting_change", "record"),
    ],
)  # fmt: skip
@ON_SQLITE
def test_what_verification_of_rows_does_not_look_at_is_looked_at(site: Site, statement: str, told: str) -> None:
    site.sql(statement)

    with pytest.raises((StoreUnavailable, KeysUnavailable), match=told):
        reseal(site, NEW, KEY)

    assert {row["sealing_key"] for row in tables(site.store)["head"]} == {OLD_ID}


def test_a_row_that_the_old_key_sealed_is_not_believed_after_it(site: Site) -> None:
    """Whoever stole the old key, or kept rows of its time, puts one back; this host still has the old key."""
    revoked = [row for row in site.earlier["access_grant"] if row["name"] == site.revoked.name]
    old_changes = tables(site.store)["grant_change"]
    reseal(site, NEW, KEY)
    now = tables(site.store)
    others = [row for row in now["access_grant"] if row["name"] != site.revoked.name]
    put_back(site.store, now | {"access_grant": [*others, *revoked], "grant_change": old_changes})

    with closing(opened(site, NEW, KEY)) as store:
        assert not site.allows(store, EU)
        assert audit.verify(store).differing == site.revoked.name
        with store.snapshot() as snapshot, pytest.raises(StoreUnavailable, match="changes/"):
            snapshot.changes(after=0, limit=100)


def test_a_signing_key_that_the_old_key_sealed_is_none_after_it(site: Site) -> None:
    issuing = issuing_with(KeyRing(site.store.keys))
    with site.store.snapshot() as snapshot:
        stolen = snapshot.signing_keys()[0].sealed
    reseal(site, NEW, KEY)
    site.sql("UPDATE signing_key SET sealed = :stolen", stolen=stolen)

    for keys in (SealingKeys.of(NEW, KEY), site.store.keys):
        with closing(Store(site.url, clock=site.clock, keys=keys)) as store:
            with pytest.raises((KeysUnavailable, StoreUnavailable)):
                signing_keys.key_set(store, issuing_with(KeyRing(keys)))
    assert issuing


def test_the_whole_store_under_the_old_key_is_refused_where_the_new_one_was_seen(site: Site, tmp_path: Path) -> None:
    before = tables(site.store)
    noted: list[str] = []
    keys = SealingKeys(lambda: (NEW, KEY), on_change=noted.append)
    with closing(Store(site.url, clock=site.clock, keys=keys)) as store:
        assert site.allows(store, US)
        reseal(site, NEW, KEY)
        assert site.allows(store, US)
        put_back(store, before)

        with pytest.raises(Superseded, match=f"{OLD_ID}, which key {NEW_ID} has replaced"):
            store.head()
        assert not site.allows(store, US)
    assert noted == [OLD_ID, NEW_ID]
    again = SealingKeys(lambda: (NEW, KEY), history=noted)
    with closing(Store(site.url, clock=site.clock, keys=again)) as store, pytest.raises(Superseded):
        store.head()


def test_a_key_that_has_sealed_the_store_before_is_not_taken_again(site: Site) -> None:
    reseal(site, NEW, KEY)

    with pytest.raises(StoreUnavailable, match=f"key {OLD_ID} has sealed this store before"):
        reseal(site, KEY, NEW)

    assert reseal(site, NEWER, NEW).before == NEW_ID
    with closing(opened(site, NEWER)) as store:
        demand_sound(store)


def test_a_host_goes_on_while_the_store_is_sealed_anew(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Its file has both keys before; it says no false word of a forgery, and loads the grants again."""
    held = [KEY]
    with closing(Store(site.url, clock=site.clock, keys=SealingKeys(lambda: tuple(held)))) as store:
        assert site.allows(store, US)
        held[:] = [NEW, KEY]

        reseal(site, NEW, KEY)

        for _ in range(2):
            assert site.allows(store, US)
            assert not site.allows(store, EU)
        ask(store, resource="database/orders/more")
        grants.revoke(store, BOB, site.live.name, comment="over", etag="")
        assert not site.allows(store, US)
        store.prove_writing()
    assert "the store was sealed anew with key" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "CRITICAL"]


def test_a_host_without_the_new_key_refuses_until_it_has_it(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    held = [KEY]
    with closing(Store(site.url, clock=site.clock, keys=SealingKeys(lambda: tuple(held)))) as store:
        assert site.allows(store, US)
        reseal(site, NEW, KEY)

        for _ in range(2):
            assert not site.allows(store, US)
        with pytest.raises(StoreUnavailable, match=f"sealed with key {NEW_ID}, and this host has only {OLD_ID}"):
            store.prove_writing()
        told = [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"]
        assert len(told) == 1
        assert NEW_ID in told[0]

        held[:] = [NEW, KEY]
        assert site.allows(store, US)
        store.prove_writing()


def test_a_piece_that_is_merged_meanwhile_is_sealed_with_the_key_in_effect(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = SealingKeys.of(NEW, KEY)
    with closing(Store(site.url, clock=site.clock, keys=keys)) as store:
        checked(store)

        def merged(*arguments: Any, **named: Any) -> Any:
            found = whole(*arguments, **named)
            reseal(site, NEW, KEY)
            return found

        whole = audit_compaction.merged
        with monkeypatch.context() as patch:
            patch.setattr(store_module.audit_compaction, "merged", merged)
            assert store.merge_audit() == 0
        demand_sound(store)
        assert store.merge_audit() > 0
        demand_sound(store)


class Cut(Exception):
    """The process ends here."""


@pytest.mark.parametrize("at", ["first rows", "last rows", "record", "commit"])
def test_one_that_is_cut_off_leaves_the_store_as_it_was(site: Site, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    before = tables(site.store)
    cut_off(monkeypatch, at)

    with pytest.raises(Cut):
        reseal(site, NEW, KEY)

    monkeypatch.undo()
    assert tables(site.store) == before
    with closing(opened(site, KEY)) as store:
        demand_sound(store)
        assert site.allows(store, US)
    assert reseal(site, NEW, KEY).now == NEW_ID


def cut_off(monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    def write(self: ResealingTransaction, seals: Any) -> None:
        if at == "first rows" or seals.table.__tablename__ == "audit_piece":
            raise Cut
        written(self, seals)

    def cut(*_: Any) -> None:
        raise Cut

    written = ResealingTransaction._write_seals
    match at:
        case "first rows" | "last rows":
            monkeypatch.setattr(ResealingTransaction, "_write_seals", write)
        case "record":
            monkeypatch.setattr(ResealingTransaction, "record_resealed", cut)
        case "commit":
            monkeypatch.setattr(ResealingTransaction, "finish", cut)


KILLED = """
import os, sys
from jit_service.runtime.service import utc_now
from jit_service.storage import Store
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.use_cases import resealing, signing_keys

keys = SealingKeys.of(bytes(range(32, 64)), bytes(range(32)))
seen = []
def report(what, done, of):
    seen.append(what)
    if seen.count("sealing rows") == 2:
        os.kill(os.getpid(), 9)
resealing.reseal(Store(sys.argv[1], clock=utc_now, keys=keys), by=signing_keys.service_caller(), report=report)
"""


@ON_SQLITE
def test_one_that_is_killed_leaves_the_store_as_it_was(site: Site) -> None:
    before = tables(site.store)

    killed = subprocess.run([sys.executable, "-c", KILLED, site.url], check=False, capture_output=True, text=True)

    assert killed.returncode == -9, killed.stderr
    assert tables(site.store) == before
    demand_sound(site.store)
    assert reseal(site, NEW, KEY).now == NEW_ID


def test_two_at_once_seal_it_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault_in_rest(snapshot: Any, so_far: Any) -> Any:
        monkeypatch.undo()
        reseal(site, NEW, KEY)
        return (yield from whole(snapshot, so_far))

    whole = audit.fault_in_rest
    monkeypatch.setattr(audit, "fault_in_rest", fault_in_rest)

    with pytest.raises(StoreUnavailable, match=f"sealed the store anew meanwhile, with key {NEW_ID}"):
        reseal(site, NEW, KEY)

    with closing(opened(site, NEW)) as store:
        assert len(recorded(store, EventType.STORE_RESEALED)) == 1


TWINS: list[SiteTwin] = [
    (
        "one that seals anew what nobody verified",
        SealReader.difference_of,
        "if row.seal is None or self._sealer.of(row.name, row.fact) != bytes(row.seal):",
        "if False:",
        lambda site: (rewrite_end(site), demand_not_sealed(site)),
    ),
    (
        "one that does not ask the log what a row was",
        SealReader.difference_of,
        "if state not in (SEALED_ANEW, bytes(row.seal).hex()):",
        "if False:",
        lambda site: (rewrite_end_with_key(site), demand_not_sealed(site)),
    ),
    (
        "one that does not add up what there was",
        ResealReader.sealed_anew,
        "self._sealer.demand_total(kind, totals.old.get(kind, 0), self._sums)",
        "pass",
        lambda site: (sums_of_nothing(site), demand_not_sealed(site)),
    ),
    (
        "a key that was replaced and is taken",
        SealingKeys.opening,
        "if sealer.key_id in self._replaced:",
        "if False:",
        lambda site: test_the_whole_store_under_the_old_key_is_refused_where_the_new_one_was_seen(site, Path()),
    ),
    (
        "sums of seals that are kept beyond their key",
        GrantLoader._sums_as_before,
        "if sealer.key_id != self._sealer.key_id:",
        "if False:",
        lambda site: still_allowed(site),
    ),
    (
        "a log that is held against seals of another key",
        Recomputed._seal_anew,
        "self.states = {of: SEALED_ANEW for of, state in self.states.items() if state}",
        "pass",
        lambda site: (reseal(site, NEW, KEY), verified_with(site, NEW)),
    ),
    (
        "a merged piece that keeps the old key's seal",
        Store.merge_audit,
        "is_replaced = is_replaced and self.keys.opening(read_head(connection))[0] is sealer",
        "pass",
        lambda site: merged_meanwhile(site),
    ),
]


def demand_not_sealed(site: Site) -> None:
    with pytest.raises(StoreUnavailable):
        reseal(site, NEW, KEY)


def rewrite_end(site: Site) -> None:
    site.sql("UPDATE access_grant SET end_comment = 'forged' WHERE name = :n", n=site.revoked.name)


def rewrite_end_with_key(site: Site) -> None:
    """As whoever has the key does it. An ended grant is in no sum, so only the log knows better."""
    rewrite_end(site)
    with site.store.engine.connect() as connection:
        row = prepared.GRANT.rows(connection, name=site.revoked.name)[0]
        reviews = prepared.REVIEWS.rows(connection, name=site.revoked.name)
    seal = site.store.keys.first.of(site.revoked.name, rows.grant_of(row, reviews))
    site.sql("UPDATE access_grant SET seal = :seal WHERE name = :n", seal=seal, n=site.revoked.name)


def sums_of_nothing(site: Site) -> None:
    """The head's sums are of another moment than the rows, and the seal of the head is right."""
    with site.store.engine.connect() as connection:
        revision, locks = connection.execute(text("SELECT revision, locks FROM head")).one()
    seal = site.store.keys.first.of_head(revision=revision, locks=locks, sums="{}")
    site.sql("UPDATE head SET sums = '{}', seal = :seal", seal=seal)


def still_allowed(site: Site) -> None:
    with closing(opened(site, NEW, KEY)) as store:
        assert site.allows(store, US)
        reseal(site, NEW, KEY)
        assert site.allows(store, US)


def verified_with(site: Site, key: bytes) -> None:
    with closing(opened(site, key)) as store:
        demand_sound(store)


def merged_meanwhile(site: Site) -> None:
    with pytest.MonkeyPatch.context() as patch:
        test_a_piece_that_is_merged_meanwhile_is_sealed_with_the_key_in_effect(site, patch)


@ON_SQLITE
@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin[0])
def test_no_twin_survives(twin: SiteTwin, built_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demand_twin_caught(twin, built_site, tmp_path, monkeypatch)
