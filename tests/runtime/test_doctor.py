"""`jit-service doctor` finds what is wrong with a service that runs, and changes nothing."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jit_service.domain.audit.event import EventType
from jit_service.domain.notification import Interest, Subscription
from jit_service.runtime import doctor
from jit_service.runtime.preflight import Form, Report
from jit_service.runtime.sealing import known_sealing_keys_of
from jit_service.storage import Store
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.use_cases import resealing, signing_keys
from jit_service.use_cases.keyring import new_key, secrets_of
from tests.conftest import Clock
from tests.notifications.webhooks import facts
from tests.runtime.hosts import Host
from tests.storage import people


class Patient(Host):
    """A host on which the service runs, and what the doctor says of it."""

    def report(self, **changes: Any) -> Report:
        return doctor.report(lambda: self.settings(**changes), clock=self.clock)

    def told(self, *levels: str, **changes: Any) -> list[str]:
        return [f"{each.about}: {each.message}" for each in self.report(**changes).findings if each.level in levels]

    def sql(self, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.data_dir / "jit.db")) as connection:
            connection.execute(statement, values)
            connection.commit()


@pytest.fixture
def host(tmp_path: Path, sqlite_template: Path, clock: Clock) -> Patient:
    made = Patient.made(tmp_path, sqlite_template, clock)
    with closing(made.open()) as store:
        people.add_policy(store)
        people.approve(store, people.ask(store))
    return made


def test_a_sound_service_has_no_finding_and_nothing_is_written(host: Patient) -> None:
    with closing(host.open()) as store:
        before = store.head()

        report = host.report()

        assert store.head() == before
    assert {each.level for each in report.findings} == {"ok"}
    assert not report.fails
    assert {"audit log", "grants", "clock", "disk", "signing keys", "notifications"} <= {
        each.about for each in report.findings
    }


def test_people_get_a_table_and_programs_json(host: Patient) -> None:
    report = host.report()

    assert all("  ok       " in line for line in report.table().splitlines())
    assert json.loads(report.text(Form.JSON))["ok"] is True


def _widen(host: Patient) -> None:
    host.sql("UPDATE access_grant SET expires_at = expires_at + 1000000")


def _rewrite(host: Patient) -> None:
    host.sql("UPDATE audit_event SET payload = CAST(replace(CAST(payload AS TEXT), 'alice', 'malice') AS BLOB)")


def _remove_key(host: Patient) -> None:
    host.key.unlink()


def _set_back(host: Patient) -> None:
    host.clock.advance(timedelta(hours=-1))


class Case(NamedTuple):
    spoil: Callable[[Patient], object]
    level: str
    words: str


CASES = {
    "a grant that somebody changed": Case(_widen, "fault", "not as"),
    "a record that somebody changed": Case(_rewrite, "fault", "audit log: "),
    "a key file that is gone": Case(_remove_key, "fault", "put back the key that sealed it"),
    "a clock that was set back": Case(_set_back, "fault", "clock: is 1:00:00 behind the newest record"),
    "a schema of another version": Case(
        lambda host: host.sql("UPDATE alembic_version SET version_num = '0099'"), "fault", "of a newer version"
    ),
    "a key that was not replaced": Case(
        lambda host: host.clock.advance(timedelta(days=40)), "warning", "should have been replaced"
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_wrong_is_found(host: Patient, case: Case) -> None:
    case.spoil(host)

    told = host.told(case.level)

    assert [line for line in told if case.words in line], told
    assert host.report().fails is (case.level == "fault")


def test_how_far_a_rotation_of_the_sealing_key_is_is_told(host: Patient) -> None:
    old = host.key.read_text()
    host.key.write_text(f"{new_key()}\n{old}")
    new_id, old_id = known_sealing_keys_of(host.settings()).ids

    (told,) = [told for told in host.told("warning") if told.startswith("sealing key")]
    assert told.startswith(f"sealing key: {old_id} is in effect, {new_id} is to follow: once each host has it, run ")
    with closing(host.open()) as store:
        resealing.reseal(store, by=signing_keys.service_caller(), report=lambda *_: None)
    assert (
        f"sealing key: {new_id} is in effect; {old_id} may be removed now: keep it only with the backups that it sealed"
        in host.told("warning")
    )
    host.key.write_text(host.key.read_text().splitlines()[0])
    host.clock.advance(timedelta(days=3))
    assert f"sealing key: {new_id} is in effect, and is the only one" in host.told("ok")
    assert any(
        told.startswith(f"sealing key: {new_id} is in effect for 3 days, since record ") for told in host.told("ok")
    )


def test_no_key_is_made_where_there_is_none(host: Patient) -> None:
    _remove_key(host)

    host.report()

    assert not host.key.exists()


def test_notifications_that_nobody_takes_are_told(host: Patient, tmp_path: Path) -> None:
    receiver = facts(tmp_path, "https://127.0.0.1:9/notified")
    told_of = Subscription(receiver="oncall", interests=frozenset({Interest(type=EventType.GRANT_APPROVED)}))
    with closing(
        Store(
            host.settings().store_url,
            clock=host.clock,
            subscriptions=[told_of],
            keys=SealingKeys.of(*secrets_of(host.key)),
        )
    ) as store:
        people.approve(store, people.ask(store))
    assert "notifications: 1 wait for their delivery" in host.told("ok")

    host.clock.advance(timedelta(hours=1))

    there, gone = host.told("warning", notifications=[receiver]), host.told("warning")
    assert [line for line in there if line.startswith("receiver oncall: 1 notifications wait")]
    assert [line for line in gone if line.startswith("receiver oncall: is not in the settings, and 1 of its")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"insecure_listen": True}, "JIT_INSECURE_LISTEN: tokens may cross the network in clear"),
        ({"audit_checks": "off"}, "JIT_AUDIT_CHECKS: no check is on record"),
        ({"max_token_lifetime": "36h"}, "JIT_MAX_TOKEN_LIFETIME"),
        ({"trust_any_proxy": True}, "JIT_TRUST_ANY_PROXY"),
    ],
)
def test_settings_that_take_away_what_is_promised_are_told(host: Patient, changes: dict[str, Any], words: str) -> None:
    assert [line for line in host.told("warning", **changes) if words in line]


def test_a_disk_without_room_is_a_fault(host: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage(host.data_dir))
    monkeypatch.setattr(doctor, "disk_usage", lambda _: usage(2**33, 2**33 - 2**20, 2**20))

    assert [line for line in host.told("fault") if "soon nothing can be written" in line]


def test_on_postgresql_the_clock_is_held_against_the_servers(host: Patient, postgresql_url: str) -> None:
    # The test's clock stands still, the server's does not.
    told = host.told("fault", database_url=postgresql_url)

    assert [line for line in told if "clock: this host's clock is" in line], told
