"""Tokens of grants, verified offline: one that is good, and every forgery by its name."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from jitaccess import GrantToken, InvalidArgument, Misconfigured, TokenReason, TokenRefused, verify_token
from tests.conftest import HOUR, NOON
from tests.rpc.tokens import DROP, Forge, encoded

ISSUER = "https://jit.example.com"
AUDIENCE = "https://orders.example.com"
SECOND = timedelta(seconds=1)
DETAIL = {
    "type": "jit_grant",
    "grant": "grants/g7",
    "policy": "policies/orders",
    "actions": ["read", "rows.*"],
    "resources": ["database/orders/**"],
    "chain": [],
}


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Forge:
    return Forge(tmp_path_factory.mktemp("keys"), name=ISSUER)


def claims(**changes: Any) -> dict[str, Any]:
    issued = int(NOON.timestamp())
    good = {
        "iss": ISSUER,
        "sub": "user:alice@example.com",
        "aud": [AUDIENCE],
        "client_id": "portal",
        "iat": issued,
        "exp": issued + 600,
        "jti": "t1",
        "authorization_details": [DETAIL],
    }
    return {name: value for name, value in (good | changes).items() if value is not DROP}


def token(forge: Forge, changes: dict[str, Any] | None = None, **header: Any) -> str:
    return forge.sign(claims(**(changes or {})), **({"typ": "at+jwt"} | header))


def keys(forge: Forge) -> dict[str, Any]:
    return {"keys": [forge.jwk(), forge.rsa_jwk()]}


def verified(forge: Forge, text: str, *, now: datetime = NOON, **options: Any) -> GrantToken:
    usual: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE, "clock": lambda: now}
    return verify_token(text, options.pop("keys", keys(forge)), **(usual | options))


def why_not(forge: Forge, text: str, **options: Any) -> str:
    with pytest.raises(TokenRefused) as refusal:
        verified(forge, text, **options)
    for part in text.split("."):
        assert len(part) < 8 or part not in str(refusal.value)
    return refusal.value.reason


def test_a_good_token_tells_who_may_what_by_which_grant(forge: Forge) -> None:
    held = verified(forge, token(forge))

    assert (held.grant, held.subject, held.token_id) == ("grants/g7", "user:alice@example.com", "t1")
    assert (held.resources, held.actions, held.chain) == (("database/orders/**",), ("read", "rows.*"), ())
    assert (held.issue_time, held.expire_time) == (NOON, NOON + 600 * SECOND)
    assert verified(forge, token(forge), action="rows.create", resource="database/orders/eu") == held


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("write", "database/orders/eu"),
        ("rows", "database/orders/eu"),
        ("rows.a.b", "database/orders/eu"),
        ("read", "database/orders"),
        ("read", "database/users/eu"),
        ("READ", "database/orders/eu"),
        ("read", "database/Orders/eu"),
    ],
)
def test_a_token_covers_what_its_patterns_do_and_no_more(forge: Forge, action: str, resource: str) -> None:
    assert why_not(forge, token(forge), action=action, resource=resource) == TokenReason.NOT_COVERED


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("*", "database/orders/eu"),
        ("read", "database/orders/*"),
        ("read", "database/orders/**"),
        ("read", "database/orders/../users"),
        ("read", "database/orders/%2e%2e/users"),
        ("read", "database/orders//eu"),
        ("read", "database/orders/a\\..\\b"),
        ("read", "Database/orders/eu"),
        ("read", "database/\u043erders/eu"),
        ("read", "database/orders/a\u200b"),
        ("read", "database/orders/a\0"),
        ("", "database/orders/eu"),
        ("read", ""),
        ("read", None),
        (None, "database/orders/eu"),
    ],
)
def test_a_question_that_can_be_read_in_two_ways_is_none(
    forge: Forge, action: str | None, resource: str | None
) -> None:
    with pytest.raises(InvalidArgument):
        verified(forge, token(forge), action=action, resource=resource)


def test_a_name_counts_in_its_canonical_form(forge: Forge) -> None:
    detail = DETAIL | {"resources": ["database/caf\u00e9"]}
    text = token(forge, {"authorization_details": [detail]})

    assert verified(forge, text, action="read", resource="database/cafe\u0301")


def test_a_token_ends_exactly_at_its_exp(forge: Forge) -> None:
    text = token(forge)

    assert verified(forge, text, now=NOON + 600 * SECOND - timedelta(microseconds=1))
    assert why_not(forge, text, now=NOON + 600 * SECOND) == TokenReason.EXPIRED


class Replica:
    """Knows which grants are live."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def is_live(self, *, subject: str, grant: str) -> bool:
        assert (subject, grant) == ("user:alice@example.com", "grants/g7")
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: bool = self.answer
        return answer


def test_with_a_replica_the_token_dies_with_its_grant(forge: Forge) -> None:
    assert verified(forge, token(forge), checker=Replica(True))
    assert why_not(forge, token(forge), checker=Replica(False)) == TokenReason.GRANT_OVER


@pytest.mark.parametrize("answer", [None, 1, "yes", object()])
def test_a_replica_that_says_neither_yes_nor_no_says_no(forge: Forge, answer: object) -> None:
    assert why_not(forge, token(forge), checker=Replica(answer)) == TokenReason.GRANT_OVER


def test_a_replica_that_cannot_be_sure_lets_nobody_through(forge: Forge) -> None:
    with pytest.raises(RuntimeError):
        verified(forge, token(forge), checker=Replica(RuntimeError("stale")))


def test_alg_none(forge: Forge) -> None:
    signed = forge.sign(claims(), algorithm="none", typ="at+jwt")

    assert why_not(forge, signed) == TokenReason.MALFORMED
    assert why_not(forge, f"{signed}AA") == TokenReason.WRONG_ALGORITHM


def test_hmac_with_the_public_key_as_its_secret(forge: Forge) -> None:
    assert why_not(forge, forge.confused(NOON)) == TokenReason.WRONG_ALGORITHM


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_another_algorithm_of_a_key_in_the_set(forge: Forge, algorithm: str) -> None:
    text = token(forge, key=forge.rsa, algorithm=algorithm, kid="k1-rsa")

    assert why_not(forge, text) == TokenReason.WRONG_ALGORITHM


def test_the_right_alg_named_over_an_rsa_key(forge: Forge) -> None:
    assert why_not(forge, token(forge, kid="k1-rsa")) == TokenReason.UNKNOWN_KEY


def test_a_key_on_another_curve(forge: Forge) -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    public = jwt.algorithms.ECAlgorithm.to_jwk(other.public_key(), as_dict=True)
    held = {"keys": [{**public, "kid": "p384", "use": "sig"}]}

    assert why_not(forge, token(forge, kid="p384"), keys=held) == TokenReason.UNKNOWN_KEY


def test_a_kid_of_another_issuer(forge: Forge, tmp_path: Path) -> None:
    other = Forge(tmp_path, name="https://other.example.com", kid="other")

    assert why_not(forge, token(other)) == TokenReason.UNKNOWN_KEY


def test_anothers_key_under_our_kid(forge: Forge, tmp_path: Path) -> None:
    other = Forge(tmp_path, name="https://other.example.com")

    assert why_not(forge, token(other)) == TokenReason.BAD_SIGNATURE


@pytest.mark.parametrize("kid", [DROP, None, 7, "", "nobody", "../k1", ["k1"], {"k1": 1}])
def test_no_kid_that_is_one(forge: Forge, kid: Any) -> None:
    assert why_not(forge, token(forge, kid=kid)) == TokenReason.UNKNOWN_KEY


@pytest.mark.parametrize("typ", ["JWT", "jwt", DROP, None, "", "at+jwt2", "dpop+jwt", 7])
def test_another_typ(forge: Forge, typ: Any) -> None:
    assert why_not(forge, token(forge, typ=typ)) == TokenReason.WRONG_TYPE


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
def test_the_typ_of_rfc_9068_in_each_spelling(forge: Forge, typ: str) -> None:
    assert verified(forge, token(forge, typ=typ))


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"crit": []}, {"b64": False}])
def test_crit(forge: Forge, header: dict[str, Any]) -> None:
    assert why_not(forge, token(forge, **header)) == TokenReason.MALFORMED


@pytest.mark.parametrize("header", [{"jwk": True}, {"jku": "https://evil.example.com"}, {"x5u": "https://e.example"}])
def test_a_key_that_the_token_brings_along_is_not_looked_at(
    forge: Forge, tmp_path: Path, header: dict[str, Any]
) -> None:
    other = Forge(tmp_path, name="https://other.example.com")
    brought = {"jwk": other.jwk()} if "jwk" in header else header

    assert why_not(forge, forge.sign(claims(), key=other.ec, typ="at+jwt", **brought)) == TokenReason.BAD_SIGNATURE


@pytest.mark.parametrize("audience", [["https://users.example.com"], AUDIENCE, [], None, DROP, [AUDIENCE + "/"], [7]])
def test_another_aud(forge: Forge, audience: Any) -> None:
    reason = why_not(forge, token(forge, {"aud": audience}))

    assert reason in (TokenReason.WRONG_AUDIENCE, TokenReason.MALFORMED)


@pytest.mark.parametrize("issuer", ["https://evil.example.com", ISSUER + "/", "", None, DROP, [ISSUER]])
def test_another_iss(forge: Forge, issuer: Any) -> None:
    assert why_not(forge, token(forge, {"iss": issuer})) == TokenReason.WRONG_ISSUER


@pytest.mark.parametrize("tail", ["=", "==", "\n", " ", ".", ".x"])
def test_a_second_spelling_of_a_good_token(forge: Forge, tail: str) -> None:
    assert why_not(forge, token(forge) + tail) == TokenReason.MALFORMED


def test_a_signature_with_another_last_bit_that_decodes_the_same(forge: Forge) -> None:
    text = token(forge)
    twins = [text[:-1] + last for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"]

    assert sum(_is_good(forge, twin) for twin in twins) == 1


def _is_good(forge: Forge, text: str) -> bool:
    try:
        verified(forge, text)
    except TokenRefused:
        return False
    return True


def test_exp_far_away(forge: Forge) -> None:
    issued = int(NOON.timestamp())

    assert verified(forge, token(forge, {"exp": issued + 3600}))
    assert why_not(forge, token(forge, {"exp": issued + 3601})) == TokenReason.LIFETIME_TOO_LONG
    assert why_not(forge, token(forge), max_lifetime=599 * SECOND) == TokenReason.LIFETIME_TOO_LONG
    assert why_not(forge, token(forge, {"exp": 10**30})) == TokenReason.MALFORMED


@pytest.mark.parametrize("exp", [DROP, None, "1e10", True, float("inf"), -1, [1]])
def test_exp_that_is_none(forge: Forge, exp: Any) -> None:
    assert why_not(forge, token(forge, {"exp": exp})) == TokenReason.MALFORMED


def test_a_token_of_the_future(forge: Forge) -> None:
    assert verified(forge, token(forge), now=NOON - 60 * SECOND)
    assert why_not(forge, token(forge), now=NOON - 61 * SECOND) == TokenReason.NOT_YET_VALID
    later = int(NOON.timestamp()) + 1
    assert why_not(forge, token(forge, {"nbf": later})) == TokenReason.NOT_YET_VALID


def test_an_identity_token_used_as_a_grant_token(forge: Forge) -> None:
    assert why_not(forge, forge.token(NOON)) == TokenReason.WRONG_TYPE
    as_access_token = forge.sign(forge.claims(NOON, aud=[AUDIENCE]), typ="at+jwt")
    assert why_not(forge, as_access_token) == TokenReason.NO_GRANT


@pytest.mark.parametrize(
    "details",
    [
        DROP,
        None,
        [],
        DETAIL,
        [DETAIL, DETAIL],
        [DETAIL, {"type": "payment"}],
        [DETAIL | {"type": "payment"}],
        ["jit_grant"],
    ],
)
def test_other_than_one_grant_in_it(forge: Forge, details: Any) -> None:
    assert why_not(forge, token(forge, {"authorization_details": details})) == TokenReason.NO_GRANT


@pytest.mark.parametrize(
    "change",
    [
        {"grant": ""},
        {"grant": 7},
        {"resources": []},
        {"resources": "database/**"},
        {"resources": [7]},
        {"actions": [""]},
        {"actions": None},
        {"chain": None},
    ],
)
def test_a_grant_without_what_makes_one(forge: Forge, change: dict[str, Any]) -> None:
    text = token(forge, {"authorization_details": [DETAIL | change]})

    assert why_not(forge, text) == TokenReason.MALFORMED


@pytest.mark.parametrize("claim", ["sub", "jti", "client_id"])
def test_a_token_without_a_claim_that_rfc_9068_demands(forge: Forge, claim: str) -> None:
    assert why_not(forge, token(forge, {claim: DROP})) == TokenReason.MALFORMED


def test_a_claim_that_stands_twice(forge: Forge) -> None:
    head = encoded(json.dumps({"typ": "at+jwt", "kid": "k1", "alg": "ES256"}).encode())
    text = json.dumps(claims())[:-1] + ', "sub": "user:mallory@example.com"}'
    signed = head + b"." + encoded(text.encode())
    signature = jwt.get_algorithm_by_name("ES256").sign(signed, forge.ec)

    assert why_not(forge, (signed + b"." + encoded(signature)).decode()) == TokenReason.MALFORMED


def test_a_payload_that_was_changed(forge: Forge) -> None:
    head, _, signature = token(forge).split(".")
    other = base64.urlsafe_b64encode(json.dumps(claims(sub="user:mallory@example.com")).encode()).rstrip(b"=").decode()

    assert why_not(forge, f"{head}.{other}.{signature}") == TokenReason.BAD_SIGNATURE


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "\ud800.a.b", "a" * 9000, "eyJ9.e30.AA", "é.é.é"])
def test_what_is_no_token_at_all(forge: Forge, text: str) -> None:
    assert why_not(forge, text) == TokenReason.MALFORMED


@pytest.mark.parametrize(
    "url",
    [
        "http://jit.example.com/jwks",
        "http://localhost.evil.com/jwks",
        "http://localhost:x@evil.com/jwks",
        "http://127.0.0.1.evil.com/",
        "file:///etc/passwd",
        "https://user@evil.com/",
        "",
    ],
)
def test_keys_come_over_a_way_that_nobody_can_change(forge: Forge, url: str) -> None:
    with pytest.raises(Misconfigured):
        verified(forge, token(forge), keys=url)


@pytest.mark.parametrize("given", [{}, {"keys": 7}, {"kty": "EC"}])
def test_keys_that_are_none_are_said_to_be_none(forge: Forge, given: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        verified(forge, token(forge), keys=given)


def test_an_hour_is_the_longest_that_a_service_can_be_set_to() -> None:
    from jit_service.settings import Settings, SettingsError

    with pytest.raises(SettingsError):
        Settings.load(max_grant_token_lifetime=HOUR + SECOND)
