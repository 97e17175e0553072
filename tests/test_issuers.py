"""The issuers of the settings: what is wrong with one is told at the start, in one line that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from jit_service.issuers import Issuer
from jit_service.settings import Settings, SettingsError
from jit_service.use_cases.authzen_requests import BINDING_TYPE
from jitaccess.jose.checkpoints import TYPE as CHECKPOINT_TYPE
from tests.certificates import certificate

NAME = "https://login.example.com"
PLAIN = {"issuer": NAME, "audience": "jit"}


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loads one issuer from a file and from the environment, which must say the same of it."""

    def load(**changes: Any) -> Issuer:
        facts = {key: value for key, value in (PLAIN | changes).items() if value is not None}
        path = tmp_path / "issuers.yaml"
        path.write_text(yaml.safe_dump([facts]))
        outcomes: list[Issuer | str] = []
        for name, value in (("JIT_ISSUERS_FILE", str(path)), ("JIT_ISSUERS", json.dumps([facts]))):
            with monkeypatch.context() as environment:
                environment.setenv(name, value)
                try:
                    outcomes += Settings.load().issuers
                except SettingsError as fault:
                    outcomes.append(str(fault))
        assert outcomes[0] == outcomes[1]
        if isinstance(outcomes[0], str):
            raise SettingsError(outcomes[0])
        return outcomes[0]

    return load


def fault(loaded: Any, **changes: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        loaded(**changes)
    message = str(refused.value)
    assert "\n" not in message
    assert message.startswith("JIT_ISSUERS[0]")
    return message


def test_an_issuer_needs_only_its_name_and_an_audience(loaded: Any) -> None:
    issuer = loaded()

    assert issuer.audience == ("jit",)
    assert (issuer.jwks_url, issuer.jwks_file) == (None, None)
    assert [rule.claims for rule in issuer.rules] == [("sub",)]


def test_one_may_stand_for_a_list(loaded: Any) -> None:
    issuer = loaded(audience=["jit-cli", "jit-web"], required_claims={"tid": "t", "hd": ["a", "b"], "mfa": True})

    assert issuer.audience == ("jit-cli", "jit-web")
    assert issuer.required_claims == {"tid": ("t",), "hd": ("a", "b"), "mfa": (True,)}


def test_principal_rules_take_the_place_of_the_one_claim(loaded: Any) -> None:
    issuer = loaded(
        principal_rules=[
            {"claim": "email", "prefix": "user:", "when": "has(claims.email)"},
            {"template": "repo:{repository}:{ref}", "prefix": "service:"},
        ]
    )

    assert [rule.claims for rule in issuer.rules] == [("email",), ("repository", "ref")]
    made = issuer.rules[1].principal({"repository": "acme/shop", "ref": "refs/heads/main"})
    assert made == "service:repo:acme/shop:refs/heads/main"


RULE = {"claim": "email", "prefix": "user:"}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown setting": ({"audiences": ["x"]}, ".audiences: "),
    "no audience": ({"audience": None}, ".audience: "),
    "an empty list of audiences": ({"audience": []}, ".audience: "),
    "an audience without a letter": ({"audience": ["jit", ""]}, ".audience[1]: "),
    "no claim of whom it is for": ({"audience_claim": ""}, ".audience_claim: "),
    "two sources of keys": ({"jwks_url": f"{NAME}/k", "jwks_file": "k.json"}, "at most one"),
    "keys by plain http": ({"jwks_url": "http://login.example.com/k"}, "jwks_url must be https"),
    "a name that leads to no keys": ({"issuer": "accounts.example.com"}, "not an https URL"),
    "a name of plain http": ({"issuer": "http://login.example.com"}, "not an https URL"),
    "a name with a query": ({"issuer": f"{NAME}?x"}, "not an https URL"),
    "an authority for a file": ({"jwks_file": "k.json", "ca_file": "ca.pem"}, "not for a jwks_file"),
    "a token for a file": ({"jwks_file": "k.json", "bearer_token_file": "t"}, "not for a jwks_file"),
    "an authority that is not there": ({"ca_file": "/nowhere/ca.pem"}, "ca_file /nowhere/ca.pem cannot be used"),
    "a token that is not there": (
        {"bearer_token_file": "/etc/nowhere/token"},
        "bearer_token_file /etc/nowhere/token cannot be used",
    ),
    "no type": ({"token_types": []}, ".token_types: "),
    "the type of a denial": ({"token_types": ["JWT", BINDING_TYPE]}, "for another purpose"),
    "the type of a checkpoint": ({"token_types": [f"application/{CHECKPOINT_TYPE.upper()}"]}, "for another purpose"),
    "a prefix of no kind": ({"principal_prefix": "group:"}, ".principal_prefix: must begin with user: or service:"),
    "a rule beside the one claim": (
        {"principal_claim": "email", "principal_rules": [RULE]},
        "principal_rules replace",
    ),
    "a rule of nothing": ({"principal_rules": [{"prefix": "user:"}]}, ".principal_rules[0]: needs exactly one"),
    "a rule of two things": (
        {"principal_rules": [RULE | {"template": "{a}"}]},
        ".principal_rules[0]: needs exactly one",
    ),
    "a rule with a prefix of no kind": ({"principal_rules": [RULE | {"prefix": "x:"}]}, ".principal_rules[0].prefix: "),
    "a rule with an unknown setting": ({"principal_rules": [RULE | {"if": "true"}]}, ".principal_rules[0].if: "),
    "a template without a claim": ({"principal_rules": [{"template": "user:ci"}]}, ".principal_rules[0]: template"),
    "a template with an open brace": ({"principal_rules": [{"template": "user:{a"}]}, ".principal_rules[0]: template"),
    "a template with two claims side by side": (
        {"principal_rules": [{"template": "user:{a}{b}"}]},
        ".principal_rules[0]: template must have text between",
    ),
    "a rule that hides those after it": ({"principal_rules": [RULE, RULE]}, ".principal_rules: [0] has no `when`"),
    "a condition that is not CEL": (
        {"principal_rules": [RULE | {"when": "claims.a =="}]},
        ".principal_rules[0].when: line 1",
    ),
    "a condition that gives no bool": ({"principal_rules": [RULE | {"when": "size(claims)"}]}, "must give bool"),
    "a condition on what is not known yet": (
        {"principal_rules": [RULE | {"when": 'subject == "user:alice"'}]},
        ".principal_rules[0].when: line 1",
    ),
    "a required claim with no value": ({"required_claims": {"tid": []}}, ".required_claims.tid: "),
    "a required claim with an object": ({"required_claims": {"tid": {"a": 1}}}, ".required_claims.tid"),
    "a required claim with half a number": ({"required_claims": {"tid": 1.5}}, ".required_claims.tid"),
}


@pytest.mark.parametrize(("changes", "told"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_an_issuer_is_told_at_the_start(loaded: Any, changes: dict[str, Any], told: str) -> None:
    assert told in fault(loaded, **changes)


def test_an_authority_and_a_token_are_looked_at_and_never_shown(loaded: Any, tmp_path: Path) -> None:
    authority, _ = certificate("localhost", tmp_path)
    secret = tmp_path / "token"
    secret.touch(mode=0o600)
    secret.write_text("hunter2")
    issuer = loaded(ca_file=str(authority), bearer_token_file=str(secret))
    assert issuer.ca_file == authority
    assert "hunter2" not in repr(issuer)

    authority.write_text("no certificate")
    assert "ca_file" in fault(loaded, ca_file=str(authority))
    secret.write_text("hunter2 hunter2")
    assert "hunter2" not in fault(loaded, bearer_token_file=str(secret))
