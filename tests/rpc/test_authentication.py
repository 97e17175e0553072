"""Tokens: one that is good, and every way in which one is not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from jit_service.domain.caller import Role
from jit_service.domain.errors import IssuerKeysUnavailable, TokenExpired, TokenInvalid, TokenMissing
from jit_service.issuers import Issuer
from jit_service.rpc.authentication import Authenticator
from jit_service.rpc.identity import Identity
from jit_service.settings import Settings, SettingsError
from tests.conftest import HOUR, NOON, TICK, Clock
from tests.rpc.tokens import AUDIENCE, DROP, Forge, encoded, raw_sign

SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Forge:
    return Forge(tmp_path_factory.mktemp("keys"))


def authenticator(*issuers: Issuer, clock: Callable[[], Any] | None = None) -> Authenticator:
    return Authenticator(issuers, clock=clock or Clock(), max_lifetime=timedelta(hours=24))


def identify(forge: Forge, token: str, *, clock: Clock | None = None, **settings: Any) -> Identity:
    return authenticator(forge.issuer(**settings), clock=clock).identify([f"Bearer {token}"])


def test_a_good_token_proves_principal_and_groups(forge: Forge) -> None:
    identity = identify(forge, forge.token(NOON))

    assert identity == Identity(
        principal="user:alice@example.com",
        groups=frozenset({"engineering"}),
        roles=frozenset(),
        expires_at=NOON + timedelta(hours=1),
        issuer="https://login.example.com",
        issuer_subject="user:alice@example.com",
    )


@pytest.mark.parametrize(
    ("jti", "recorded"),
    [
        (DROP, ""),
        ("", ""),
        (7, ""),
        ("t-1", "t-1"),
        ("a" * 256, "a" * 256),
        ("a" * 257, "sha256:"),
        ("a\nb", "sha256:"),
    ],
)
def test_a_tokens_id_is_known_as_far_as_it_can_be_shown(forge: Forge, jti: Any, recorded: str) -> None:
    token_id = identify(forge, forge.token(NOON, jti=jti)).token_id

    assert token_id.startswith(recorded[:7]) if recorded.startswith("sha256:") else token_id == recorded
    assert len(token_id) <= 256


PEOPLE = {"principal_claim": "email", "principal_prefix": "user:"}


def test_the_letter_case_of_an_address_is_folded_unless_the_issuer_says_that_it_counts(forge: Forge) -> None:
    token = forge.token(NOON, email="Alice@Example.com")

    assert identify(forge, token, **PEOPLE).principal == "user:alice@example.com"
    exact = identify(forge, token, **PEOPLE, principal_case="exact")
    assert (exact.principal, exact.exact) == ("user:Alice@Example.com", ("user:",))


def test_a_name_that_is_like_no_address_keeps_its_letter_case(forge: Forge) -> None:
    assert identify(forge, forge.token(NOON, sub="auth0|64AB"), principal_prefix="user:").principal == "user:auth0|64AB"


@pytest.mark.parametrize("claimed", ["jit-service", "JIT-Service"])
def test_no_token_is_the_services_own(forge: Forge, claimed: str) -> None:
    with pytest.raises(TokenInvalid, match="the service itself"):
        identify(forge, forge.token(NOON, sub=claimed), principal_prefix="service:")


def load(*issuers: Issuer) -> Settings:
    return Settings.load(issuers=issuers)


COLLIDING = {
    "the same prefix": ("user:", "user:"),
    "one that begins the other": ("user:", "user:corp:"),
    "in other letters": ("user:CORP:", "user:corp:"),
    "none": ("", "service:ci:"),
}


@pytest.mark.parametrize("prefixes", COLLIDING.values(), ids=COLLIDING)
@pytest.mark.parametrize("sharing", [(), (0,), (1,)])
def test_two_issuers_that_could_speak_for_the_same_people_must_both_say_so(
    forge: Forge, prefixes: tuple[str, str], sharing: tuple[int, ...]
) -> None:
    def issuers(sharing: tuple[int, ...], **changes: Any) -> list[Issuer]:
        return [
            forge.issuer(
                issuer=f"https://{index}.example.com",
                principal_prefix=prefix,
                shares_principals=index in sharing,
                **(changes if index else {}),
            )
            for index, prefix in enumerate(prefixes)
        ]

    with pytest.raises(SettingsError, match=r"https://0\.example\.com and https://1\.example\.com .*shares_principals"):
        load(*issuers(sharing))
    with pytest.raises(SettingsError, match="principal_case"):
        load(*issuers((0, 1), principal_case="exact"))

    assert len(load(*issuers((0, 1))).issuers) == 2


@pytest.mark.parametrize("prefixes", [("user:", "service:"), ("user:a:", "user:b:"), ("user:corp:", "user:corpus:")])
def test_issuers_with_prefixes_of_their_own_need_say_nothing(forge: Forge, prefixes: tuple[str, str]) -> None:
    named = [
        forge.issuer(issuer=f"https://{index}.example.com", principal_prefix=prefix)
        for index, prefix in enumerate(prefixes)
    ]

    assert len(load(*named).issuers) == 2


LEFT_OUT: dict[str, dict[str, Any]] = {
    "a pointer": {"groups": DROP, "_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {}}},
    "a pointer beside some": {"_claim_names": {"groups": "src1"}},
    "a sign": {"groups": DROP, "hasgroups": True},
    "a sign that is text": {"groups": DROP, "hasgroups": "true"},
}


@pytest.mark.parametrize("changes", LEFT_OUT.values(), ids=LEFT_OUT)
def test_groups_that_the_provider_leaves_out_are_not_known(forge: Forge, changes: dict[str, Any]) -> None:
    assert identify(forge, forge.token(NOON, **changes)).groups is None


@pytest.mark.parametrize(
    "changes", [{"groups": DROP}, {"groups": []}, {"groups": DROP, "_claim_names": {"roles": "s"}}]
)
def test_a_token_without_groups_is_in_none(forge: Forge, changes: dict[str, Any]) -> None:
    assert identify(forge, forge.token(NOON, **changes)).groups == frozenset()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_in_any_case(forge: Forge, scheme: str) -> None:
    assert authenticator(forge.issuer()).identify([f"{scheme} {forge.token(NOON)}"]).principal


@pytest.mark.parametrize(
    ("algorithm", "typ"), [("RS256", "JWT"), ("RS256", "at+jwt"), ("RS256", "application/at+jwt"), ("RS256", "jwt")]
)
def test_other_allowed_algorithms_and_types_count(forge: Forge, algorithm: str, typ: str) -> None:
    token = forge.sign(forge.claims(NOON), key=forge.rsa, algorithm=algorithm, kid=f"{forge.kid}-rsa", typ=typ)

    assert identify(forge, token).principal


def test_a_token_need_not_have_a_typ(forge: Forge) -> None:
    """RFC 7519, 5.1; Okta, Cognito and Kubernetes leave it out."""
    assert identify(forge, forge.sign(forge.claims(NOON), typ=DROP)).principal


def test_an_issuer_that_names_its_types_may_demand_one(forge: Forge) -> None:
    untyped = forge.sign(forge.claims(NOON), typ=DROP)

    with pytest.raises(TokenInvalid, match="`token_types`"):
        identify(forge, untyped, token_types=["at+jwt"])
    assert identify(forge, untyped, token_types=["at+jwt", ""]).principal


def only_rsa(tmp_path: Path, **changes: Any) -> Forge:
    """An issuer with one RSA key, as AD FS has."""
    forge = Forge(tmp_path)
    forge.publish(forge.rsa_jwk(**changes), forge.jwk())
    return forge


def without_kid(forge: Forge, **header: Any) -> str:
    return forge.sign(forge.claims(NOON), key=forge.rsa, algorithm="RS256", kid=DROP, x5t="AAAA", **header)


@pytest.mark.parametrize("kid", ["k7", None])
def test_a_token_without_kid_counts_by_the_only_key_that_fits(tmp_path: Path, kid: str | None) -> None:
    forge = only_rsa(tmp_path, kid=kid)
    service = authenticator(forge.issuer())

    for _ in range(2):
        assert service.identify([f"Bearer {without_kid(forge)}"]).principal


def test_a_token_without_kid_does_not_count_where_two_keys_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a remembered one, when the second key comes."""
    monkeypatch.setattr("jitaccess.jose.keys.LOOK_SECONDS", 0.0)
    forge = only_rsa(tmp_path)
    service, header = authenticator(forge.issuer()), [f"Bearer {without_kid(forge)}"]
    assert service.identify(header)

    forge.publish(forge.rsa_jwk(), Forge(tmp_path, name="https://other.example.com").rsa_jwk(kid="k8"))

    with pytest.raises(TokenInvalid, match="no kid"):
        service.identify(header)


@pytest.mark.parametrize("changes", [{"use": "enc"}, {"alg": "RS512"}, {"kty": "oct", "k": "AAAA"}])
def test_a_key_for_something_else_does_not_fit(tmp_path: Path, changes: dict[str, Any]) -> None:
    forge = only_rsa(tmp_path, **changes)

    with pytest.raises(TokenInvalid):
        identify(forge, without_kid(forge))
    with pytest.raises(TokenInvalid):
        identify(forge, forge.sign(forge.claims(NOON), key=forge.rsa, algorithm="RS256", kid="k1-rsa"))


@pytest.mark.parametrize("late", [timedelta(), -20 * SECOND, -60 * SECOND])
def test_a_provider_whose_clock_is_ahead_may_say_nbf(forge: Forge, late: timedelta) -> None:
    """`nbf` = `iat`, as Entra ID has it; also when the token is remembered."""
    token = forge.token(NOON, nbf=int(NOON.timestamp()))
    service = authenticator(forge.issuer(), clock=Clock(NOON + late))

    for _ in range(2):
        assert service.identify([f"Bearer {token}"]).principal


def test_a_token_of_somebody_in_two_hundred_groups_counts(forge: Forge) -> None:
    groups = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(200)]
    token = forge.token(NOON, groups=groups)
    assert len(token) > 10_000

    assert identify(forge, token).groups == set(groups)


def test_a_token_that_is_longer_than_the_bound_is_told_which_setting_it_is(forge: Forge) -> None:
    token = forge.token(NOON, filling="x" * 1024)
    service = Authenticator([forge.issuer()], clock=Clock(), max_lifetime=HOUR, max_bytes=len(token))
    assert service.identify([f"Bearer {token}"])

    with pytest.raises(TokenInvalid, match=f"longer than {len(token)} characters; JIT_MAX_TOKEN_BYTES"):
        service.identify([f"Bearer {forge.token(NOON, filling='x' * 1027)}"])


def test_an_audience_may_be_one_of_a_list(forge: Forge) -> None:
    assert identify(forge, forge.token(NOON, aud=["other", AUDIENCE])).principal


@pytest.mark.parametrize("authorization", [[], ["Basic abc"], ["token"]])
def test_without_a_bearer_token_there_is_nobody(forge: Forge, authorization: list[str]) -> None:
    with pytest.raises(TokenMissing):
        authenticator(forge.issuer()).identify(authorization)


def test_two_authorization_headers_are_refused(forge: Forge) -> None:
    header = f"Bearer {forge.token(NOON)}"

    with pytest.raises(TokenInvalid):
        authenticator(forge.issuer()).identify([header, header])


BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.example.com"},
    "the issuer with a slash more": {"iss": "https://login.example.com/"},
    "no issuer": {"iss": DROP},
    "an issuer that is a list": {"iss": ["https://login.example.com"]},
    "another audience": {"aud": "other"},
    "a longer audience": {"aud": "jitaccess2"},
    "no audience": {"aud": DROP},
    "an empty list of audiences": {"aud": []},
    "no subject": {"sub": DROP},
    "an empty subject": {"sub": ""},
    "a subject that is a number": {"sub": 7},
    "a subject without its kind": {"sub": "alice@example.com"},
    "a look-alike subject": {"sub": "user:\u0430lice@example.com"},
    "a control character in the subject": {"sub": "user:alice\n@example.com"},
    "no exp": {"exp": DROP},
    "no iat": {"iat": DROP},
    "an exp of 10**30": {"exp": 10**30},
    "an exp that is true": {"exp": True},
    "an exp that is text": {"exp": "9999999999"},
    "an exp that is not a number": {"exp": float("nan")},
    "an exp without end": {"exp": float("inf")},
    "an exp before its iat": {"exp": int(NOON.timestamp()) - 1},
    "a negative iat": {"iat": -1},
    "a lifetime a second over the cap": {"exp": int(NOON.timestamp()) + 24 * 3600 + 1},
    "an iat 61 s ahead": {"iat": int(NOON.timestamp()) + 61},
    "an nbf 61 s ahead": {"nbf": int(NOON.timestamp()) + 61},
    "an nbf that is text": {"nbf": "0"},
    "the event of a log-out": {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
    "groups that are a number": {"groups": 5},
    "groups with a number": {"groups": ["a", 5]},
    "groups that are a map": {"groups": {"engineering": True}},
    "roles with a number": {"roles": [5]},
}


@pytest.mark.parametrize("changes", BAD_CLAIMS.values(), ids=BAD_CLAIMS)
def test_a_token_that_says_something_wrong_is_refused(forge: Forge, changes: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalid):
        identify(forge, forge.token(NOON, **changes))


BAD_HEADERS: dict[str, dict[str, Any]] = {
    "an id token's typ": {"typ": "id+jwt"},
    "a log-out token's typ": {"typ": "logout+jwt"},
    "a typ that is a number": {"typ": 1},
    "a typ that is null": {"typ": None},
    "the typ of a denial": {"typ": "jit-denial+jwt"},
    "the typ of a checkpoint": {"typ": "audit-checkpoint+jwt"},
    "a foreign kid": {"kid": "k2"},
    "a kid that is a path": {"kid": "../../../../dev/null"},
    "a kid that is a number": {"kid": 1},
    "a kid of the other key": {"kid": "k1-rsa"},
    "crit": {"crit": ["exp"]},
    "b64": {"b64": False},
}


@pytest.mark.parametrize("changes", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_token_with_a_wrong_header_is_refused(forge: Forge, changes: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalid):
        identify(forge, forge.sign(forge.claims(NOON), **changes))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE"])
def test_an_unsigned_token_is_refused(forge: Forge, algorithm: str) -> None:
    head = encoded(json.dumps({"typ": "JWT", "kid": forge.kid, "alg": algorithm}).encode())
    signed = head + b"." + encoded(json.dumps(forge.claims(NOON)).encode())

    for token in (raw_sign(signed, None, "none"), raw_sign(signed, None, "none") + "AA"):
        with pytest.raises(TokenInvalid):
            identify(forge, token)


def test_a_public_key_is_no_hmac_secret(forge: Forge) -> None:
    with pytest.raises(TokenInvalid):
        identify(forge, forge.confused(NOON))


def test_an_algorithm_that_the_issuer_does_not_use_is_refused(forge: Forge) -> None:
    with pytest.raises(TokenInvalid):
        identify(forge, forge.token(NOON), algorithms=("RS256",))


def test_a_key_of_ones_own_under_a_known_kid_is_refused(forge: Forge) -> None:
    with pytest.raises(TokenInvalid):
        identify(forge, forge.sign(forge.claims(NOON), key=ec.generate_private_key(ec.SECP256R1())))


def test_a_key_that_the_token_brings_is_not_trusted(forge: Forge, tmp_path: Path) -> None:
    mallory = Forge(tmp_path, kid=forge.kid)

    for brought in ({"jwk": mallory.jwk()}, {"jku": f"file://{mallory.path}"}, {"x5c": ["AAAA"]}):
        with pytest.raises(TokenInvalid):
            identify(forge, forge.sign(forge.claims(NOON), key=mallory.ec, **brought))


def test_one_issuer_does_not_speak_for_another(forge: Forge, tmp_path: Path) -> None:
    other = Forge(tmp_path, name="https://other.example.com", kid=forge.kid)
    both = authenticator(forge.issuer(), other.issuer())
    assert both.identify([f"Bearer {other.token(NOON)}"])

    with pytest.raises(TokenInvalid):
        both.identify([f"Bearer {other.sign(forge.claims(NOON))}"])


def respelled(token: str) -> dict[str, str]:
    head, payload, signature = token.split(".")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    loose = signature[:-1] + last[last.index(signature[-1]) + 1]
    return {
        "padding": token + "==",
        "a space": token + " ",
        "a space inside": f"{head}. {payload}.{signature}",
        "other spare bits": f"{head}.{payload}.{loose}",
        "the plain alphabet": token.replace("-", "+").replace("_", "/") + "+",
        "two parts": f"{head}.{payload}",
        "four parts": f"{token}.",
        "nothing": "",
        "dots": "..",
        "too long": token + "A" * (24 << 10),
        "not ASCII": token + "\u00e9",
    }


@pytest.mark.parametrize("spelling", list(respelled("a.b.A")))
def test_a_second_spelling_of_a_good_token_is_refused(forge: Forge, spelling: str) -> None:
    with pytest.raises(TokenInvalid):
        identify(forge, respelled(forge.token(NOON))[spelling])


@pytest.mark.parametrize("part", [0, 1])
def test_a_key_that_stands_twice_is_refused(forge: Forge, part: int) -> None:
    contents = [json.dumps({"typ": "JWT", "kid": forge.kid, "alg": "ES256"}), json.dumps(forge.claims(NOON))]
    contents[part] = contents[part][:-1] + ', "aud": "x", "aud": "jitaccess"}'
    signed = b".".join(encoded(content.encode()) for content in contents)

    with pytest.raises(TokenInvalid):
        identify(forge, raw_sign(signed, forge.ec, "ES256"))


def test_json_that_is_deep_or_no_object_is_refused(forge: Forge) -> None:
    head = encoded(json.dumps({"typ": "JWT", "kid": forge.kid, "alg": "ES256"}).encode())

    for payload in (b"[]", b"1", b"{", b"[" * 3000, b"\xff"):
        with pytest.raises(TokenInvalid):
            identify(forge, raw_sign(head + b"." + encoded(payload), forge.ec, "ES256"))


@pytest.mark.parametrize("claim", ["a\0b", {"deep": ["\0"]}, {"\0": 1}, "\ud800"])
def test_text_that_no_store_could_keep_is_refused(forge: Forge, claim: object) -> None:
    with pytest.raises(TokenInvalid):
        identify(forge, forge.token(NOON, extra=claim))


@pytest.mark.parametrize(("late", "over"), [(HOUR - TICK, False), (HOUR, True)])
def test_a_token_is_over_exactly_at_its_exp(forge: Forge, late: timedelta, over: bool) -> None:
    token = forge.token(NOON)
    clock = Clock(NOON + late)

    if not over:
        assert identify(forge, token, clock=clock).principal
        return
    with pytest.raises(TokenExpired):
        identify(forge, token, clock=clock)


def test_an_issuer_may_have_a_shorter_cap(forge: Forge) -> None:
    token = forge.token(NOON, exp=int(NOON.timestamp()) + 601)

    with pytest.raises(TokenInvalid):
        identify(forge, token, max_token_lifetime=timedelta(minutes=10))


def test_roles_come_from_the_claim_values_that_the_settings_name(forge: Forge) -> None:
    settings = {"roles_claim": "groups", "roles": {"admin": ("jit-admins",), "auditor": ("auditors", "sox")}}
    token = forge.token(NOON, groups=["sox", "engineering"], roles=["admin"])

    assert identify(forge, token, **settings).roles == {Role.AUDITOR}
    assert identify(forge, forge.token(NOON, roles=["admin"])).roles == frozenset()


def test_the_principal_may_come_from_another_claim(forge: Forge) -> None:
    settings = {"principal_claim": "email", "principal_prefix": "user:"}

    assert identify(forge, forge.token(NOON, sub="00u1", email="al@example.com"), **settings).principal == (
        "user:al@example.com"
    )
    with pytest.raises(TokenInvalid):
        identify(forge, forge.token(NOON, sub="00u1"), **settings)


def test_a_group_that_no_policy_could_name_is_left_out(forge: Forge) -> None:
    identity = identify(forge, forge.token(NOON, groups=["Domain Admins", "a\u202eb", "", "/nested/group"]))

    assert identity.groups == {"Domain Admins", "/nested/group"}


def test_no_message_holds_the_token(forge: Forge) -> None:
    token = forge.token(NOON, aud="other")

    with pytest.raises(TokenInvalid) as refused:
        identify(forge, token)

    assert not any(part in refused.value.message for part in token.split("."))


def test_a_changed_key_file_counts_at_the_next_look_for_remembered_tokens_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jitaccess.jose.keys.LOOK_SECONDS", 0.0)
    forge = Forge(tmp_path)
    service = authenticator(forge.issuer())
    header = [f"Bearer {forge.token(NOON)}"]
    assert service.identify(header)

    forge.publish(forge.rsa_jwk())
    with pytest.raises(TokenInvalid):
        service.identify(header)

    forge.publish(forge.jwk(), forge.rsa_jwk())
    assert service.identify(header)


def test_a_remembered_token_ends_at_its_exp(tmp_path: Path) -> None:
    forge, clock = Forge(tmp_path), Clock()
    service = Authenticator([forge.issuer()], clock=clock, max_lifetime=timedelta(days=1))
    header = [f"Bearer {forge.token(NOON)}"]
    ends = service.identify(header).expires_at
    clock.now = ends - TICK
    assert service.identify(header)

    clock.now = ends
    with pytest.raises(TokenExpired):
        service.identify(header)


def test_a_remembered_token_does_not_count_before_it_begins(tmp_path: Path) -> None:
    forge, clock = Forge(tmp_path), Clock()
    service = Authenticator([forge.issuer()], clock=clock, max_lifetime=timedelta(days=1))
    header = [f"Bearer {forge.token(NOON)}"]
    assert service.identify(header)

    clock.now = NOON - timedelta(hours=1)
    with pytest.raises(TokenInvalid):
        service.identify(header)


def test_only_so_many_tokens_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jit_service.rpc.authentication._MAX_VERIFIED", 2)
    forge = Forge(tmp_path)
    service = authenticator(forge.issuer())
    for number in range(4):
        assert service.identify([f"Bearer {forge.token(NOON, jti=str(number))}"])

    assert len(service._verified) == 2


def test_only_so_many_bytes_of_tokens_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forge = Forge(tmp_path)
    service = authenticator(forge.issuer())
    monkeypatch.setattr("jit_service.rpc.authentication._MAX_VERIFIED_BYTES", 10_000)
    for number in range(4):
        for _ in range(2):
            assert service.identify([f"Bearer {forge.token(NOON, jti=str(number), filling='x' * 3000)}"])

    assert len(service._verified) == 2
    assert service._verified_bytes == sum(known.size for known in service._verified.values())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"keys": 5}', "[" * 100_000])
def test_while_a_key_file_is_broken_nobody_can_say_whether_a_token_is_good(tmp_path: Path, content: str) -> None:
    forge = Forge(tmp_path)
    forge.path.write_text(content)

    with pytest.raises(IssuerKeysUnavailable):
        identify(forge, forge.token(NOON))
    forge.path.unlink()
    with pytest.raises(IssuerKeysUnavailable):
        identify(forge, forge.token(NOON))


@pytest.mark.parametrize("content", ['{"keys": []}', '{"keys": [5]}'])
def test_an_issuer_without_a_key_has_signed_nothing(tmp_path: Path, content: str) -> None:
    forge = Forge(tmp_path)
    forge.path.write_text(content)

    with pytest.raises(TokenInvalid):
        identify(forge, forge.token(NOON))


def test_base64_of_the_standard_library_would_let_more_pass() -> None:
    """Why the spelling is compared: this is what a lenient decoder does."""
    assert base64.urlsafe_b64decode("QQ==") == base64.urlsafe_b64decode("QR==")


DETAIL = {"type": "jit_grant", "grant": "grants/g", "actions": ["read"], "resources": ["a/b"]}


@pytest.mark.parametrize("details", [[DETAIL], DETAIL, [{"type": "payment"}, DETAIL], [{"type": "jit_grant"}]])
def test_a_grants_token_used_as_an_identity_token(forge: Forge, details: Any) -> None:
    """Also where its issuer and audience are those of callers: it says what may be done, not who calls."""
    token = forge.sign(forge.claims(NOON, authorization_details=details), typ="at+jwt")

    with pytest.raises(TokenInvalid, match="a grant's token"):
        identify(forge, token)


@pytest.mark.parametrize(
    "details", [[], None, [{"type": "payment"}], "jit_grant", ["jit_grant"], [{"type": ["jit_grant"]}]]
)
def test_other_authorization_details_are_the_issuers_affair(forge: Forge, details: Any) -> None:
    token = forge.sign(forge.claims(NOON, authorization_details=details), typ="at+jwt")

    assert identify(forge, token).principal == "user:alice@example.com"


def test_the_issuer_of_grants_tokens_is_no_issuer_of_callers(forge: Forge) -> None:
    from jit_service.settings import Settings, SettingsError

    with pytest.raises(SettingsError, match="JIT_TOKEN_ISSUER"):
        Settings.load(issuers=(forge.issuer(),), token_issuer=forge.name)


@pytest.mark.parametrize(
    "url", ["http://localhost.evil.com/", "http://localhost:x@evil.com/", "http://127.0.0.1.evil.com/"]
)
def test_a_host_that_only_begins_like_this_machine_is_another(forge: Forge, url: str) -> None:
    with pytest.raises(ValueError, match="jwks_url must be https"):
        forge.issuer(jwks_file=None, jwks_url=url)
