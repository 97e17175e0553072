"""`jit-service check` finds what would keep a start from working, and changes nothing."""

from __future__ import annotations

import json
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jit_service.configuration import certificate
from jit_service.configuration.certificate import TlsFiles
from jit_service.domain.audit.event import SERVICE
from jit_service.domain.caller import Caller, Origin
from jit_service.runtime import preflight
from jit_service.runtime.preflight import Form, Report
from jit_service.runtime.service import issuing_of, open_store
from jit_service.use_cases import signing_keys
from tests.certificates import Authority
from tests.conftest import TICK, Clock
from tests.notifications.webhooks import facts
from tests.runtime.hosts import Host


class Checked(Host):
    """A host, and what `check` says of it."""

    def check(self, *, strict: bool = False, **changes: Any) -> Report:
        return preflight.report(lambda: self.settings(**changes), clock=self.clock, strict=strict)

    def told(self, level: str, **changes: Any) -> list[str]:
        return [f"{each.about}: {each.message}" for each in self.check(**changes).findings if each.level == level]


@pytest.fixture
def host(tmp_path: Path, sqlite_template: Path, clock: Clock) -> Checked:
    return Checked.made(tmp_path, sqlite_template, clock)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_sound_host_has_no_fault_and_nothing_is_changed(host: Checked) -> None:
    before = contents(host.data_dir)

    report = host.check(strict=True)

    assert {finding.level for finding in report.findings} == {"ok"}
    assert not report.fails
    assert contents(host.data_dir) == before


def test_the_report_is_lines_for_people_or_json(host: Checked) -> None:
    report = host.check(workers=0)

    assert report.text(Form.TEXT) == "fault    settings: JIT_WORKERS: must be at least 1"
    told = json.loads(report.text(Form.JSON))
    assert told["ok"] is False
    assert told["findings"] == [{"level": "fault", "about": "settings", "message": "JIT_WORKERS: must be at least 1"}]


def test_each_wrong_setting_is_a_finding(host: Checked) -> None:
    assert len(host.told("fault", workers=0, rpc_threads=0)) == 2


def test_a_database_that_is_not_there_is_not_made(host: Checked, tmp_path: Path) -> None:
    (told,) = host.told("fault", data_dir=tmp_path / "new")

    assert "there is no database" in told
    assert "jit-service migrate" in told
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("revision", "fault"), [("0099", "of a newer version (0099)"), ("0001", "run `jit-service migrate`")]
)
def test_a_database_of_another_version_is_told(host: Checked, revision: str, fault: str) -> None:
    with sqlite3.connect(host.data_dir / "jit.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()

    (told,) = host.told("fault")

    assert fault in told


def test_a_newer_schema_that_this_version_may_serve_is_a_warning(host: Checked) -> None:
    with sqlite3.connect(host.data_dir / "jit.db") as connection:
        connection.execute(
            "UPDATE alembic_version SET oldest_serving = version_num, version_num = '0099', marked_revision = '0099'"
        )
    connection.close()

    (told,) = host.told("warning")

    assert "the schema 0099 of a newer version" in told


def test_a_database_that_a_running_service_has_open_is_read_as_it_is(host: Checked) -> None:
    store = open_store(host.settings(), clock=host.clock)
    issuing = issuing_of(host.settings())
    assert issuing is not None
    signing_keys.rotate(store, issuing, by=Caller(principal=SERVICE, origin=Origin(method="test")))

    report = host.check()

    store.close()
    assert not report.fails


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_is_told_with_its_version(host: Checked, database_url: str) -> None:
    assert any("PostgreSQL" in told for told in host.told("ok", database_url=database_url))
    assert "standby: PostgreSQL is one server without a standby: what it loses is lost" in host.told(
        "warning", database_url=database_url
    )


def test_postgresql_that_does_not_answer_is_told_without_its_password(host: Checked) -> None:
    (told,) = host.told("fault", database_url="postgresql://jit:hunter2@127.0.0.1:1/jit")

    assert told.startswith("database: cannot ")
    assert "hunter2" not in told


def test_another_key_file_does_not_open_the_database(host: Checked) -> None:
    host.key.write_text("A" * 43 + "=")

    (told,) = host.told("fault")

    assert "token.key does not open the database (the store is sealed with key " in told


def test_a_key_file_that_is_gone_or_open_to_everybody_is_told(host: Checked) -> None:
    host.key.chmod(0o644)
    (open_to_all,) = host.told("fault")
    host.key.unlink()
    (gone,) = host.told("fault")

    assert "open to everybody (mode 0644); chmod o-rwx it" in open_to_all
    assert "put back the key that sealed it" in gone


def test_an_issuer_whose_keys_are_away_is_a_warning_since_it_heals_by_itself(host: Checked) -> None:
    away = [{"issuer": "https://login.example.com", "audience": "a", "jwks_url": "http://127.0.0.1:1/jwks"}]

    assert "ISSUER_KEYS_UNAVAILABLE" in host.told("warning", issuers=away)[0]
    assert not host.check(issuers=away).fails
    assert host.check(issuers=away, strict=True).fails


@pytest.mark.parametrize(("content", "fault"), [("{", "cannot be had"), ('{"keys": []}', "no key that may sign")])
def test_a_key_set_of_no_use_is_a_fault(host: Checked, content: str, fault: str) -> None:
    issuer = host.forge.issuer()
    host.forge.path.write_text(content)

    assert fault in host.told("fault", issuers=[issuer])[0]


def test_without_an_issuer_nobody_could_call(host: Checked) -> None:
    assert "JIT_ISSUERS_FILE" in host.told("fault", issuers=[])[0]


def test_a_receiver_whose_name_leads_where_it_may_not_is_told_before_an_event_is(host: Checked, tmp_path: Path) -> None:
    given = facts(tmp_path, "https://localhost/hunter2", allow_private=False)

    (told,) = host.told("warning", notifications=[given])

    assert "receiver oncall: would get nothing now" in told
    assert "hunter2" not in told


def test_an_address_of_another_machine_cannot_be_bound_and_a_taken_port_does_not_matter(host: Checked) -> None:
    (told,) = host.told("fault", grpc="192.0.2.1:8081", allow_plaintext=True)

    assert "192.0.2.1 is not an address of this machine" in told


def test_a_broken_policy_file_is_told(host: Checked, tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text("policies: [")

    assert host.told("fault", policies=path)[0].startswith("policies: ")


def test_what_everybody_may_read_is_a_warning(host: Checked) -> None:
    host.data_dir.chmod(0o755)
    (host.data_dir / "jit.db").chmod(0o644)

    (told,) = host.told("warning")

    assert "jit.db is open to everybody (mode 0644); chmod o-rwx it" in told


def test_a_log_in_that_nobody_is_told_of_is_a_warning(host: Checked) -> None:
    login = [host.forge.issuer(cli_client_id="jit-cli")]

    assert host.told("warning", issuers=login) == []
    (told,) = host.told("warning", issuers=login, token_issuer="")
    assert "JIT_PUBLIC_URL" in told


@pytest.mark.parametrize(
    ("left", "level", "told"),
    [
        (timedelta(days=14), "ok", "is good until "),
        (timedelta(days=14) - TICK, "warning", ", in 13 days: renew it"),
        (TICK, "warning", "is good until "),
        (timedelta(), "fault", "has expired, at "),
    ],
)
def test_the_end_of_the_certificate_is_told(
    host: Checked, tmp_path: Path, left: timedelta, level: str, told: str
) -> None:
    pair = Authority(tmp_path).sign("server", dns=["localhost"])
    files = {"tls_cert": pair.chain, "tls_key": pair.key}
    host.clock.now = certificate.read(TlsFiles(chain=pair.chain, key=pair.key)).expires_at - left

    (said,) = [each for each in host.check(**files).findings if each.about == "certificate"]

    assert (said.level, told in said.message) == (level, True)


def test_a_certificate_that_cannot_be_used_is_told(host: Checked, tmp_path: Path) -> None:
    pair = Authority(tmp_path).sign("server", dns=["localhost"])
    pair.key.chmod(0o644)

    told = host.told("fault", tls_cert=pair.chain, tls_key=pair.key)

    assert told == [f"certificate: JIT_TLS_KEY: {pair.key} is open to everybody (mode 0644); chmod o-rwx it"]
