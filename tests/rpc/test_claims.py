"""Who a token is by its claims: the settings of an issuer that take tokens as real providers make them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jit_service.domain.caller import Role
from jit_service.domain.errors import TokenInvalid
from jit_service.rpc.authentication import Authenticator
from jit_service.rpc.identity import Identity
from tests.conftest import NOON, Clock
from tests.rpc.tokens import DROP, Forge

Ask = Callable[..., Identity]
PEOPLE = {"principal_claim": "email", "principal_prefix": "user:"}


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Forge:
    return Forge(tmp_path_factory.mktemp("keys"))


def asked(forge: Forge) -> Ask:
    """Returns what says who a token with these claims is, where its issuer has these settings."""

    def identify(claims: dict[str, Any], **settings: Any) -> Identity:
        service = Authenticator([forge.issuer(**settings)], clock=Clock(), max_lifetime=timedelta(days=1))
        return service.identify([f"Bearer {forge.token(NOON, **claims)}"])

    return identify


@pytest.fixture
def who(forge: Forge) -> Ask:
    return asked(forge)


def refusal(who: Ask, claims: dict[str, Any], **settings: Any) -> str:
    with pytest.raises(TokenInvalid) as refused:
        who(claims, **settings)
    return refused.value.message


# What would count


def test_a_token_for_another_is_told_the_audience_that_counts(who: Ask) -> None:
    for claims in ({"aud": "https://elsewhere.example.com"}, {"aud": DROP}):
        with pytest.raises(TokenInvalid) as refused:
            who(claims, audience=["jit", "https://jit.example.com"])

        assert refused.value.metadata == {"audience": "jit, https://jit.example.com"}


def test_a_token_of_another_issuer_is_told_the_issuers_and_nothing_of_their_settings(who: Ask, forge: Forge) -> None:
    with pytest.raises(TokenInvalid) as refused:
        who({"iss": "https://elsewhere.example.com"})

    assert refused.value.metadata == {"issuers": forge.name}


# Addresses


@pytest.mark.parametrize("said", [False, "false", "False", None, 0, "no", []])
@pytest.mark.parametrize(
    "settings",
    [
        PEOPLE,
        {"principal_rules": [{"template": "{email}", "prefix": "user:"}]},
        {"principal_rules": [{"template": "{sub}:{email}", "prefix": "user:"}]},
    ],
    ids=["claim", "template", "part of a template"],
)
def test_an_address_that_is_not_verified_is_nobody(who: Ask, said: object, settings: dict[str, Any]) -> None:
    """Where people set their own address, Mallory says that it is Bob's."""
    mallory = {"sub": "00u9", "email": "bob@example.com", "email_verified": said}

    assert "not verified" in refusal(who, mallory, **settings)


@pytest.mark.parametrize("said", [True, "true", "True", DROP])
def test_an_address_that_nothing_speaks_against_counts(who: Ask, said: object) -> None:
    """Entra ID says nothing of it; others say true as text."""
    bob = {"email": "bob@example.com", "email_verified": said}

    assert who(bob, **PEOPLE).principal == "user:bob@example.com"


@pytest.mark.parametrize(
    ("named", "claims"),
    [
        ("user.email", {"user": {"email": "bob@example.com", "email_verified": False}}),
        ("user.email", {"user": {"email": "bob@example.com"}, "email_verified": False}),
        (
            "https://example.com/email",
            {"https://example.com/email": "bob@example.com", "https://example.com/email_verified": False},
        ),
        ("https://example.com/email", {"https://example.com/email": "bob@example.com", "email_verified": False}),
    ],
)
def test_an_address_within_something_else_is_no_better(who: Ask, named: str, claims: dict[str, Any]) -> None:
    assert "not verified" in refusal(who, claims, principal_claim=named, principal_prefix="user:")


def test_an_address_does_not_matter_to_a_principal_of_something_else(who: Ask) -> None:
    mallory = {"sub": "00u9", "email": "bob@example.com", "email_verified": False}

    assert who(mallory, principal_prefix="user:").principal == "user:00u9"


# Required claims


@pytest.mark.parametrize(
    ("required", "claims"),
    [
        ({"tid": "t-1"}, {"tid": "t-1"}),
        ({"hd": ["example.com", "example.org"]}, {"hd": "example.org"}),
        ({"email_verified": True}, {"email_verified": True}),
        ({"email_verified": [True, "true"]}, {"email_verified": "true"}),
        ({"project.id": 7}, {"project": {"id": 7}}),
        ({"amr": "mfa"}, {"amr": ["pwd", "mfa"]}),
        ({"scope": "jit"}, {"scope": "openid jit"}),
    ],
)
def test_a_token_that_says_what_is_required_counts(who: Ask, required: Any, claims: dict[str, Any]) -> None:
    assert who(claims, required_claims=required).principal == "user:alice@example.com"


@pytest.mark.parametrize(
    ("required", "claims"),
    [
        ({"tid": "t-1"}, {}),
        ({"tid": "t-1"}, {"tid": "t-2"}),
        ({"tid": "t-1"}, {"tid": None}),
        ({"tid": "t-1"}, {"tid": {"t-1": True}}),
        ({"email_verified": True}, {"email_verified": "true"}),
        ({"email_verified": True}, {"email_verified": 1}),
        ({"email_verified": True}, {}),
        ({"level": 1}, {"level": True}),
        ({"level": 1}, {"level": 1.0}),
        ({"scope": "jit"}, {"scope": "openid jit2"}),
        ({"tid": "t-1", "hd": "example.com"}, {"tid": "t-1"}),
        ({"project.id": 7}, {"project": {"id": 8}, "id": 7}),
    ],
)
def test_a_token_that_does_not_say_what_is_required_is_refused(who: Ask, required: Any, claims: dict[str, Any]) -> None:
    assert "`required_claims`" in refusal(who, claims, required_claims=required)


# Whom it is for


@pytest.mark.parametrize("aud", ["jit-cli", "jit-gateway", ["x", "jit-cli"]])
def test_an_issuer_may_have_several_audiences(who: Ask, aud: Any) -> None:
    assert who({"aud": aud}, audience=["jit-cli", "jit-gateway"]).principal


COGNITO = {"audience": "client-1", "audience_claim": "client_id"}


def test_a_token_without_aud_names_whom_it_is_for_elsewhere(who: Ask) -> None:
    assert who({"aud": DROP, "client_id": "client-1"}, **COGNITO).principal


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": DROP},
        {"aud": DROP, "client_id": "client-2"},
        {"aud": DROP, "client_id": None},
        {"aud": "other", "client_id": "client-1"},
        {"aud": [], "client_id": "client-1"},
        {"aud": None, "client_id": "client-1"},
    ],
)
def test_a_token_for_nobody_or_for_another_is_refused(who: Ask, claims: dict[str, Any]) -> None:
    """An aud that is there is always judged (RFC 7519, 4.1.3)."""
    assert "`audience`" in refusal(who, claims, **COGNITO)


def test_without_an_aud_the_refusal_names_the_setting(who: Ask) -> None:
    assert "`audience_claim`" in refusal(who, {"aud": DROP, "client_id": "client-1"}, audience="client-1")


# Groups and roles


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (None, set()),
        ("", set()),
        ([], set()),
        ("engineering", {"engineering"}),
        ("Domain Admins", {"Domain Admins"}),
        (["a", "b"], {"a", "b"}),
    ],
)
def test_null_is_no_group_and_text_is_one(who: Ask, groups: Any, expected: set[str]) -> None:
    assert who({"groups": groups}).groups == expected


NESTED = {
    "realm_access": {"roles": ["engineering"]},
    "resource_access": {"jit.example.com": {"roles": ["jit-admin"]}, "jit": {"example": {"com": {"roles": ["no"]}}}},
}


def test_groups_and_roles_may_be_within_something_else(who: Ask) -> None:
    identity = who(
        NESTED | {"groups": DROP},
        groups_claim="realm_access.roles",
        roles_claim="resource_access.jit.example.com.roles",
        roles={"admin": ["no"]},
    )

    assert identity.groups == {"engineering"}
    assert identity.roles == {Role.ADMIN}


def test_the_literal_name_of_a_claim_comes_before_a_path(who: Ask) -> None:
    flat = {"https://example.com/groups": ["flat"], "https://example": {"com/groups": ["path"]}}
    dotted = {"realm_access.roles": ["flat"]} | NESTED

    assert who(flat, groups_claim="https://example.com/groups").groups == {"flat"}
    assert who(dotted, groups_claim="realm_access.roles").groups == {"flat"}


@pytest.mark.parametrize("inner", [None, "roles", ["roles"], 5, {}])
def test_what_a_path_does_not_lead_to_is_no_group(who: Ask, inner: Any) -> None:
    assert who({"realm_access": inner}, groups_claim="realm_access.roles").groups == frozenset()


@pytest.mark.parametrize("named", ["scope", "scp", "token.scope"])
def test_a_scope_is_parted_at_its_spaces(who: Ask, named: str) -> None:
    claims = {"scope": "openid jit.admin", "scp": "openid jit.admin", "token": {"scope": "openid jit.admin"}}

    assert who(claims, roles_claim=named, roles={"admin": ["jit.admin"]}).roles == {Role.ADMIN}
    assert who(claims, groups_claim=named).groups == {"openid", "jit.admin"}


OVERAGE = {
    "a pointer": {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://x"}}},
    "a pointer beside some groups": {"groups": ["a"], "_claim_names": {"groups": "src1"}},
    "the pointer as the claim": {"groups": "src1", "_claim_sources": {"src1": {"endpoint": "https://x"}}},
    "a sign": {"hasgroups": True},
    "a sign as text": {"hasgroups": "true"},
    "a sign beside some groups": {"groups": ["a"], "hasgroups": True},
}


@pytest.mark.parametrize("claims", OVERAGE.values(), ids=OVERAGE)
def test_groups_that_are_left_out_are_not_none(who: Ask, claims: dict[str, Any]) -> None:
    """Somebody in more than two hundred groups has a token without them, and a deny for one of them must hold."""
    assert who({"groups": DROP} | claims).groups is None


@pytest.mark.parametrize("pointed", ["realm_access", "realm_access.roles"])
def test_nested_groups_may_be_left_out_too(who: Ask, pointed: str) -> None:
    assert who({"_claim_names": {pointed: "src1"}}, groups_claim="realm_access.roles").groups is None


@pytest.mark.parametrize("claims", [{"_claim_names": {"address": "src1"}}, {"hasgroups": False}, {"_claim_names": 5}])
def test_other_claims_that_are_left_out_do_not_matter(who: Ask, claims: dict[str, Any]) -> None:
    assert who(claims).groups == {"engineering"}


def test_roles_that_are_left_out_give_nothing(who: Ask) -> None:
    claims = {"roles": "src1", "_claim_names": {"roles": "src1"}, "_claim_sources": {"src1": {}}}

    assert who(claims, roles={"admin": ["src1"]}).roles == frozenset()


# People and machines of one issuer

RULES = [
    {"claim": "email", "prefix": "user:", "when": "has(claims.email)"},
    {"claim": "client_id", "prefix": "service:", "when": 'claims.preferred_username.startsWith("service-account-")'},
]
CI = {"preferred_username": "service-account-ci", "client_id": "ci"}


def test_people_and_machines_of_one_issuer_are_told_apart(who: Ask) -> None:
    assert who({"email": "al@example.com", "client_id": "web"}, principal_rules=RULES).principal == (
        "user:al@example.com"
    )
    assert who(CI, principal_rules=RULES).principal == "service:ci"


def test_the_first_rule_that_applies_counts(who: Ask) -> None:
    rules = [{"claim": "sub", "when": "true"}, {"claim": "email", "prefix": "user:"}]

    assert who({"email": "al@example.com"}, principal_rules=rules).principal == "user:alice@example.com"


def test_a_token_to_which_no_rule_applies_is_nobody(who: Ask) -> None:
    somebody = {"preferred_username": "al", "client_id": "web"}

    assert "none of `principal_rules`" in refusal(who, somebody, principal_rules=RULES)


def test_a_rule_that_cannot_be_judged_is_not_passed_over(who: Ask) -> None:
    """The next one is for those of whom it does not hold."""
    rules = [{"claim": "sub", "when": "claims.external == true"}, {"claim": "email", "prefix": "user:"}]

    assert "`principal_rules[0]`" in refusal(who, {"email": "al@example.com"}, principal_rules=rules)


def test_a_rule_whose_claim_is_missing_does_not_fall_through_to_the_next(who: Ask) -> None:
    rules = [{"claim": "email", "prefix": "user:", "when": "true"}, {"claim": "client_id", "prefix": "service:"}]

    assert "`principal_rules[0]`" in refusal(who, {"client_id": "web"}, principal_rules=rules)


WORKFLOW = {"template": "repo:{repository}:{ref}", "prefix": "service:"}


def test_a_principal_may_be_made_of_several_claims(who: Ask) -> None:
    claims = {"repository": "acme/shop", "ref": "refs/heads/main"}

    assert who(claims, principal_rules=[WORKFLOW]).principal == "service:repo:acme/shop:refs/heads/main"


@pytest.mark.parametrize(
    ("template", "one", "other"),
    [
        ("{a}:{b}", ("x:y", "z"), ("x", "y:z")),
        ("{a}::{b}", ("x:", "y"), ("x", ":y")),
    ],
)
def test_two_tokens_never_give_one_principal(
    who: Ask, template: str, one: tuple[str, str], other: tuple[str, str]
) -> None:
    rules = [{"template": template, "prefix": "user:"}]

    assert "another token" in refusal(who, dict(zip("ab", one, strict=True)), principal_rules=rules)
    assert who(dict(zip("ab", other, strict=True)), principal_rules=rules).principal


@pytest.mark.parametrize("value", [None, 5, "", ["x"], DROP])
def test_a_principal_is_made_of_text(who: Ask, value: object) -> None:
    assert "`principal_claim`" in refusal(who, {"upn": value}, principal_claim="upn", principal_prefix="user:")


@pytest.mark.parametrize(
    "subject", ["auth0|64ab12", "repo:acme/web:ref:refs/heads/main", "ACME\\alice", "qP6P9bly/v3iZJ+ERLrieqD="]
)
def test_a_subject_is_as_its_provider_writes_it(who: Ask, subject: str) -> None:
    assert who({"sub": subject}, principal_prefix="user:").principal == f"user:{subject}"


# What a refusal tells

SECRET = "f00dfeed"
TELLING: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "the issuer": ({"iss": f"https://{SECRET}"}, {}, "JIT_ISSUERS"),
    "the audience": ({"aud": SECRET}, {}, "`audience`"),
    "no audience": ({"aud": DROP, SECRET: SECRET}, {}, "`audience_claim`"),
    "a lifetime": ({"exp": int(NOON.timestamp()) + 31_539_607}, {}, "JIT_MAX_TOKEN_LIFETIME"),
    "the principal": ({"sub": f"{SECRET}\n"}, {}, "`principal_claim`"),
    "a principal of another kind": ({"sub": f"group:{SECRET}"}, {}, "`principal_claim`"),
    "groups": ({"groups": {SECRET: 1}}, {}, "`groups_claim`"),
    "roles": ({"roles": [5, SECRET]}, {}, "`roles_claim`"),
    "a required claim": ({"tid": SECRET}, {"required_claims": {"tid": "t"}}, "`required_claims`"),
    "a template": (
        {"a": f"{SECRET}:", "b": "x"},
        {"principal_rules": [{"template": "{a}:{b}", "prefix": "user:"}]},
        "`principal_rules[0]`",
    ),
    "a condition": (
        {"a": SECRET},
        {"principal_rules": [{"claim": "sub", "when": "int(claims.a) > 1"}]},
        "`principal_rules[0]`",
    ),
}


@pytest.mark.parametrize(("claims", "settings", "setting"), TELLING.values(), ids=TELLING)
def test_a_refusal_names_the_setting_that_would_take_the_token_and_nothing_of_it(
    who: Ask, claims: dict[str, Any], settings: dict[str, Any], setting: str
) -> None:
    message = refusal(who, claims, **settings)

    assert setting in message
    assert SECRET not in message


@pytest.mark.parametrize(
    ("header", "setting"),
    [({"typ": SECRET}, "`token_types`"), ({"alg": SECRET}, "`algorithms`"), ({"kid": SECRET}, "jwks")],
)
def test_a_refused_header_is_told_likewise(forge: Forge, header: dict[str, Any], setting: str) -> None:
    service = Authenticator([forge.issuer()], clock=Clock(), max_lifetime=timedelta(days=1))

    with pytest.raises(TokenInvalid) as refused:
        service.identify([f"Bearer {forge.sign(forge.claims(NOON), **header)}"])

    assert setting in refused.value.message
    assert SECRET not in refused.value.message


def test_the_token_of_a_pod_that_lives_a_year_is_taken_with_the_setting(forge: Forge, tmp_path: Path) -> None:
    year = timedelta(seconds=31_539_607)
    token = forge.sign(forge.claims(NOON, sub="system:serviceaccount:ci:deployer", exp=int((NOON + year).timestamp())))
    issuer = forge.issuer(principal_prefix="service:")

    with pytest.raises(TokenInvalid, match="JIT_MAX_TOKEN_LIFETIME"):
        Authenticator([issuer], clock=Clock(), max_lifetime=timedelta(days=1)).identify([f"Bearer {token}"])
    taken = Authenticator([issuer], clock=Clock(), max_lifetime=year).identify([f"Bearer {token}"])
    assert taken.principal == "service:system:serviceaccount:ci:deployer"
