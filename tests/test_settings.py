"""The settings: what is wrong with one is told in words, what holds is told without secrets, and files are read."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from jit_service.configuration import table
from jit_service.settings import Settings, SettingsError
from jitaccess.naming.variables import Variable
from tests.notifications.webhooks import facts

ISSUER = {"issuer": "https://login.example.com", "audience": "jit"}


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns what is said of these variables, which must be refused in one line."""

    def told(**variables: str) -> str:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SettingsError) as refused:
            Settings.load()
        assert "\n" not in str(refused.value)
        return str(refused.value)

    return told


class TestUnknownVariables:
    @pytest.mark.parametrize(
        ("typo", "meant"),
        [
            ("JIT_AUDIT_CHEKS", "JIT_AUDIT_CHECKS"),
            ("JIT_NOTIFICATION_FILE", "JIT_NOTIFICATIONS_FILE"),
            ("JIT_TOKEN_ISUER", "JIT_TOKEN_ISSUER"),
            ("jit_worker", "JIT_WORKERS"),
        ],
    )
    def test_a_typo_is_refused_with_what_was_meant(self, fault: Any, typo: str, meant: str) -> None:
        assert f"{typo} is no setting; did you mean {meant}?" in fault(**{typo: "x"})

    def test_all_are_named_at_once_and_what_is_like_nothing_has_no_guess(self, fault: Any) -> None:
        told = fault(JIT_LOGS="x", JIT_XYZZY="")

        assert "JIT_LOGS is no setting" in told
        assert "JIT_XYZZY is no setting (" in told

    def test_the_clients_variables_and_those_of_its_commands_pass(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for variable in Variable:
            monkeypatch.setenv(variable, "x")

        Settings.load()

    def test_letter_case_does_not_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("jit_workers", "3")

        assert Settings.load().workers == 3


@pytest.mark.parametrize(
    ("given", "stored"),
    [("", None), ("none", set()), ("team, https://example.com/level", {"team", "https://example.com/level"})],
)
def test_the_claims_that_are_stored_are_named_one_by_one(
    monkeypatch: pytest.MonkeyPatch, given: str, stored: set[str] | None
) -> None:
    monkeypatch.setenv("JIT_STORED_CLAIMS", given)

    assert Settings.load().claims_to_store == stored


def test_grants_are_kept_as_long_as_a_repeated_request_id_is_answered_with_them(fault: Any) -> None:
    told = fault(JIT_GRANT_RETENTION="2d", JIT_REPLAY_RETENTION="3d")

    assert told == "JIT_GRANT_RETENTION: must not be shorter than JIT_REPLAY_RETENTION"


class TestWords:
    @pytest.mark.parametrize(
        ("variable", "value", "told"),
        [
            ("JIT_WORKERS", "many", "JIT_WORKERS: must be a whole number"),
            ("JIT_WORKERS", "0", "JIT_WORKERS: must be at least 1"),
            ("JIT_REFLECTION", "maybe", "JIT_REFLECTION: must be true or false"),
            ("JIT_TRANSPORT", "http", "JIT_TRANSPORT: must be grpcio or native"),
            ("JIT_AUDIT_CHECKS", "some", "JIT_AUDIT_CHECKS: must be committed, buffered, denied or off"),
            ("JIT_CHECKS_PER_SECOND", "x", "JIT_CHECKS_PER_SECOND: must be a number"),
            ("JIT_MAX_TOKEN_LIFETIME", "1 hour", "JIT_MAX_TOKEN_LIFETIME: must be a duration, such as 90s, 30m, 1h"),
            ("JIT_MAX_TOKEN_LIFETIME", "0", "JIT_MAX_TOKEN_LIFETIME: must be greater than 0 seconds"),
            ("JIT_NOTIFICATIONS_SOURCE", "a b", "must be 1 to 256 ASCII characters without spaces"),
            ("JIT_TRUSTED_PROXIES", "proxy", "must be addresses, networks such as 10.0.0.0/8, or unix"),
            ("JIT_DATABASE_URL", "mysql://u:hunter2@h/d", "must be sqlite:///FILE or postgresql://USER@HOST/DB"),
            ("JIT_NOTIFICATION_RETENTION", "1h", "JIT_NOTIFICATION_RETENTION: must be at least 2 days"),
            (
                "JIT_STORED_CLAIMS",
                "team, my claim",
                "names the claim 'my claim'; a name is 1 to 256 printable",
            ),
            ("JIT_STORED_CLAIMS", "claims.team", "JIT_STORED_CLAIMS: names 'claims.team'; give the name alone"),
            ("JIT_GRANT_RETENTION", "47h", "JIT_GRANT_RETENTION: must be at least 2d"),
            ("JIT_CHANGE_RETENTION", "1h", "JIT_CHANGE_RETENTION: must be at least 2d"),
            ("JIT_STORED_CLAIMS", "team,team", "JIT_STORED_CLAIMS: has team twice"),
            ("JIT_STORED_CLAIMS", "none,team", "JIT_STORED_CLAIMS: has `none` beside names of claims"),
            ("JIT_ISSUERS", "{}", "JIT_ISSUERS: must be a list, such as [a, b]"),
            ("JIT_ISSUERS", "[", "JIT_ISSUERS: is not JSON; give a list"),
        ],
    )
    def test_a_wrong_value_is_told_with_what_is_allowed(self, fault: Any, variable: str, value: str, told: str) -> None:
        message = fault(**{variable: value})

        assert told in message
        assert "hunter2" not in message

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"roles": {"admin": "x"}}, "JIT_ISSUERS[0].roles.admin: must be a list, such as [a, b]"),
            ({"roles": ["admin"]}, "JIT_ISSUERS[0].roles: must be a mapping, such as {key: value}"),
            ({"roles": {"root": ["x"]}}, "JIT_ISSUERS[0].roles.root: must be checker, auditor, admin or responder"),
            ({"role_claim": "x"}, "JIT_ISSUERS[0].role_claim: is no key here; did you mean roles_claim? Allowed are"),
            ({"principal_rules": [{"claims": "x"}]}, "JIT_ISSUERS[0].principal_rules[0].claims: is no key here"),
            ({"audience": None}, "JIT_ISSUERS[0].audience[0]: must be text; put it into quotes"),
            ({"required_claims": {"tid": 1.5}}, "required_claims.tid[0]: must be text, a whole number, true or false"),
            ({"max_token_lifetime": "x"}, "JIT_ISSUERS[0].max_token_lifetime: must be a duration"),
        ],
    )
    def test_a_wrong_issuer_is_told_by_its_place(self, fault: Any, change: dict[str, Any], told: str) -> None:
        assert told in fault(JIT_ISSUERS=json.dumps([ISSUER | change]))

    def test_a_wrong_receiver_is_told_by_its_place_without_its_url(self, fault: Any, tmp_path: Path) -> None:
        given = facts(tmp_path, "https://hooks.example.com/hunter2", name="On Call", attempt=3)

        told = fault(JIT_NOTIFICATIONS=json.dumps([given]))

        assert "JIT_NOTIFICATIONS[0].name: must be at most 63 of a-z, 0-9 and hyphens" in told
        assert "JIT_NOTIFICATIONS[0].attempt: is no key here; did you mean attempts?" in told
        assert "hunter2" not in told

    def test_all_faults_are_told_at_once(self, fault: Any) -> None:
        told = fault(JIT_WORKERS="many", JIT_GRPC="8081")

        assert "JIT_WORKERS: " in told
        assert "JIT_GRPC: " in told

    def test_a_key_that_stands_twice_in_a_file_is_refused(self, fault: Any, tmp_path: Path) -> None:
        path = tmp_path / "issuers.yaml"
        path.write_text("- issuer: https://login.example.com\n  audience: jit\n  audience: other\n")

        assert "stands twice" in fault(JIT_ISSUERS_FILE=str(path))

    def test_durations_of_issuers_and_receivers_are_as_people_write_them(self, tmp_path: Path) -> None:
        receiver = facts(tmp_path, "https://hooks.example.com/", timeout="30s", longest_retry="2h")

        settings = Settings.load(issuers=[ISSUER | {"max_token_lifetime": "1h30m"}], notifications=[receiver])

        assert settings.issuers[0].max_token_lifetime == timedelta(minutes=90)
        assert settings.notifications[0].timeout == timedelta(seconds=30)
        assert settings.notifications[0].longest_retry == timedelta(hours=2)


class TestPorts:
    @pytest.mark.parametrize("variable", ["JIT_GRPC", "JIT_PASSING"])
    @pytest.mark.parametrize("allowed", ["JIT_INSECURE_LISTEN", "JIT_ALLOW_PLAINTEXT"])
    def test_a_port_without_tls_is_for_loopback_unless_somebody_says_otherwise(
        self, fault: Any, monkeypatch: pytest.MonkeyPatch, variable: str, allowed: str
    ) -> None:
        told = fault(**{variable: "0.0.0.0:8081"})

        assert f"{variable}: 0.0.0.0:8081 is not loopback, and this port has no TLS" in told
        assert "--tls-cert" in told
        assert "--insecure-listen" in told

        monkeypatch.setenv(allowed, "true")
        Settings.load()

    def test_that_is_said_before_anything_is_looked_for(self, fault: Any) -> None:
        told = fault(JIT_GRPC="0.0.0.0:8081", JIT_ISSUERS_FILE="/nowhere", JIT_NOTIFICATIONS_FILE="/nowhere")

        assert "has no TLS" in told
        assert "/nowhere" not in told

    def test_with_a_certificate_it_may_listen_anywhere(self) -> None:
        settings = Settings.load(
            grpc="0.0.0.0:8081", passing="0.0.0.0:8082", tls_cert="server.crt", tls_key="server.key"
        )

        assert settings.tls is not None

    @pytest.mark.parametrize(
        ("principal", "told"),
        [
            ({"uri": "spiffe://e.org/x", "dns": "x.internal"}, "[0]: needs exactly one of uri and dns"),
            ({"uri": "spiffe://e.org/x*"}, "[0].uri: must be SCHEME://HOST/PATH"),
            ({"uri": "spiffe://e.org*"}, "[0].uri: must be SCHEME://HOST/PATH"),
            ({"dns": "*"}, "[0].dns: must be a host's name"),
            ({"dns": "a.*.internal"}, "[0].dns: must be a host's name"),
            ({"dns": "x.internal", "principal": "user:alice"}, "[0]: principal must begin with service:"),
            ({"dns": "x.internal", "principal": "service:jit-service"}, "[0]: principal must be service:NAME"),
            ({"dns": "*.internal", "principal": "service:x"}, "[0]: principal must end in *"),
            ({"dns": "*.internal", "principal": "service:*", "roles": ["admin"]}, "[0]: roles are for one"),
            ({"dns": "x.internal", "roles": ["root"]}, "[0].roles[0]: must be checker, auditor, admin or responder"),
            ({"dns": "x.internal", "role": ["admin"]}, "[0].role: is no key here; did you mean roles?"),
        ],
    )
    def test_a_wrong_principal_of_a_certificate_is_told_by_its_place(
        self, fault: Any, principal: dict[str, Any], told: str
    ) -> None:
        given = json.dumps([{"principal": "service:x"} | principal])

        assert f"JIT_TLS_PRINCIPALS{told}" in fault(JIT_TLS_PRINCIPALS=given)

    def test_an_issuer_makes_no_principals_of_certificates_unless_it_says_so(self) -> None:
        rule = {"uri": "spiffe://e.org/*", "principal": "service:e/*"}
        tls = {"tls_cert": "a", "tls_key": "b", "tls_client_ca": "c", "tls_principals": [rule]}
        other = ISSUER | {"principal_prefix": "service:"}

        with pytest.raises(SettingsError, match=r"can make service:e/\* too, which JIT_TLS_PRINCIPALS gives"):
            Settings.load(issuers=[other], **tls)
        Settings.load(issuers=[other | {"shares_principals": True}], **tls)
        Settings.load(issuers=[other | {"principal_prefix": "service:idp/"}], **tls)

    @pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0", "unix, 10.0.0.1, 0.0.0.0/0"])
    def test_not_every_address_may_name_its_client_unless_somebody_says_otherwise(
        self, fault: Any, monkeypatch: pytest.MonkeyPatch, everybody: str
    ) -> None:
        assert "JIT_TRUSTED_PROXIES: trusts every address" in fault(JIT_TRUSTED_PROXIES=everybody)

        monkeypatch.setenv("JIT_TRUST_ANY_PROXY", "true")
        Settings.load()


class TestWhatHolds:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            (
                "postgresql://jit:hunter2@db:5432,other:5432/jit?sslmode=require",
                "postgresql://jit@db:5432,other:5432/jit",
            ),
            ("postgresql://db/jit?password=hunter2", "postgresql://db/jit"),
            ("postgresql://jit:hunter2?x@db/jit", "postgresql"),
            ("postgresql://jit:hunter2@x@db/jit", "postgresql"),
            ("postgresql://jit:x/hunter2@db/jit", "postgresql"),
            ("postgresql://jit:1:hunter2@db/jit", "postgresql"),
            ("postgresql://db/jit?password=hunter2@x", "postgresql"),
            ("sqlite:////var/lib/jit/jit.db", "sqlite:////var/lib/jit/jit.db"),
        ],
    )
    def test_the_database_is_shown_without_its_password(self, url: str, shown: str) -> None:
        told = Settings.load(database_url=url).effective()

        assert f" database_url={shown} " in told
        assert "hunter2" not in told

    def test_every_setting_is_on_the_line_and_no_secret(self, tmp_path: Path) -> None:
        receiver = facts(tmp_path, "https://hooks.example.com/hunter2")
        settings = Settings.load(issuers=[ISSUER], notifications=[receiver], max_token_lifetime="1h")

        told = settings.effective()

        assert [pair.partition("=")[0] for pair in told.split(" ")] == list(Settings.model_fields)
        assert " issuers=https://login.example.com " in told
        assert " notifications=oncall " in told
        assert " max_token_lifetime=1h " in told
        assert "hunter2" not in told

    def test_the_table_has_every_setting_with_a_form_and_a_meaning(self) -> None:
        rows = list(table.rows(Settings))

        assert [row.variable for row in rows] == [f"JIT_{name.upper()}" for name in Settings.model_fields]
        assert all(row.form and row.meaning for row in rows)
        assert {row.variable: row.form for row in rows}["JIT_WORKERS"] == "a whole number, 1 to 64"


class TestFiles:
    def test_a_worker_reads_the_files_that_the_settings_name_anew(self, tmp_path: Path) -> None:
        path = tmp_path / "issuers.yaml"
        path.write_text(yaml.safe_dump([ISSUER | {"principal_prefix": "user:"}]))
        other = ISSUER | {"issuer": "https://other.example.com", "principal_prefix": "service:"}
        settings = Settings.load(issuers_file=path, issuers=[other])
        path.write_text(yaml.safe_dump([ISSUER | {"audience": "changed", "principal_prefix": "user:"}]))

        again = Settings.load(**json.loads(json.dumps(settings.as_given)))

        assert [issuer.issuer for issuer in again.issuers] == ["https://other.example.com", "https://login.example.com"]
        assert again.issuers[1].audience == ("changed",)

    def test_an_open_secret_is_refused_like_the_key_file(self, fault: Any, tmp_path: Path) -> None:
        given = facts(tmp_path, "https://hooks.example.com/")
        (tmp_path / "secret").chmod(0o644)

        told = fault(JIT_NOTIFICATIONS=json.dumps([given]))

        assert "secret is open to everybody (mode 0644); chmod o-rwx it" in told
