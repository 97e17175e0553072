"""Who calls, by a single sign-on token: only what its issuer signed for this audience, and now, proves anybody."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from jitaccess import Misconfigured, TokenRefused, Unauthenticated, Unavailable
from jitaccess.guards import Guard, Incoming, subject_of_identity_token
from jitaccess.testing import MemoryService
from tests.guards.doors import DOORS

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
ISSUER, AUDIENCE = "https://login.example.com", "https://orders.example.com"
KEY = ec.generate_private_key(ec.SECP256R1())
JWKS = {"keys": [json.loads(ECAlgorithm.to_jwk(KEY.public_key())) | {"kid": "k1", "use": "sig"}]}
GOOD = {
    "iss": ISSUER,
    "aud": [AUDIENCE],
    "sub": "alice",
    "email": "Alice@example.com",
    "iat": int(NOW.timestamp()) - 60,
    "exp": int(NOW.timestamp()) + 60,
}


def token(key: Any = KEY, alg: str = "ES256", header: Any = None, **changes: Any) -> str:
    claims = {name: value for name, value in (GOOD | changes).items() if value is not None}
    return jwt.encode(claims, key, algorithm=alg, headers={"kid": "k1"} | (header or {}))


def who(keys: Any = JWKS, **options: Any) -> Any:
    return subject_of_identity_token(
        keys, **({"issuer": ISSUER, "audience": AUDIENCE, "claim": "email", "clock": lambda: NOW} | options)
    )


def call(bearer: str) -> Incoming:
    return Incoming.with_headers([(b"Authorization", f"Bearer {bearer}".encode())], None)


def test_a_token_proves_prefix_and_claim() -> None:
    assert who()(call(token())) == "user:alice@example.com"
    assert who(claim="sub", prefix="service:idp-")(call(token(aud=AUDIENCE))) == "service:idp-alice"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (token(iss="https://other.example.com"), "WRONG_ISSUER"),
        (token(iss=None), "WRONG_ISSUER"),
        (token(aud="https://other.example.com"), "WRONG_AUDIENCE"),
        (token(aud=None), "WRONG_AUDIENCE"),
        (token(exp=int(NOW.timestamp())), "EXPIRED"),
        (token(exp=None), "MALFORMED"),
        (token(sub=None), "MALFORMED"),
        (token(nbf=int(NOW.timestamp()) + 61), "NOT_YET_VALID"),
        (token(email=None), "MALFORMED"),
        (token(email="*"), "MALFORMED"),
        (token(email="a\u200bb"), "MALFORMED"),
        (token(email_verified=False), "MALFORMED"),
        (token(events={}), "WRONG_TYPE"),
        (token(authorization_details=[{"type": "jit_grant"}]), "WRONG_TYPE"),
        (token(header={"typ": "logout+jwt"}), "WRONG_TYPE"),
        (token(header={"kid": "k2"}), "UNKNOWN_KEY"),
        (token(key="x" * 32, alg="HS256"), "WRONG_ALGORITHM"),
        (token(key=None, alg="none"), "MALFORMED"),
        (token(key=ec.generate_private_key(ec.SECP256R1())), "BAD_SIGNATURE"),
        ("x", "MALFORMED"),
    ],
)
def test_any_other_token_proves_nobody(bad: str, reason: str) -> None:
    with pytest.raises((TokenRefused, Unauthenticated)) as refused:
        who()(call(bad))

    assert refused.value.reason == reason


def test_keys_of_a_file_are_read_anew_and_a_file_that_is_not_there_lets_nobody_through(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    subject = who(file)

    with pytest.raises(Unavailable):
        subject(call(token()))
    file.write_text(json.dumps(JWKS))
    assert subject(call(token())) == "user:alice@example.com"


@pytest.mark.parametrize("door", ["fastapi", "asgi", "grpc", "grpc.aio"])
def test_every_guard_takes_it(door: str, tmp_path: Path) -> None:
    jit = MemoryService()
    jit.grant("user:alice@example.com", "database/orders/eu", ["rows.*"])

    with DOORS[door](Guard.by_check(jit.client, subject=who())) as knock:
        assert knock("eu", token()).through
        assert knock("eu", token(aud="x")).code == "UNAUTHENTICATED"
        assert knock("eu").code == "UNAUTHENTICATED"
    with DOORS[door](Guard.by_check(jit.client, subject=who(tmp_path / "none"))) as knock:
        assert knock("eu", token()).code == "UNAVAILABLE"


def test_a_job_takes_it_from_an_argument() -> None:
    subject = who(token=lambda incoming: incoming.source["token"])

    assert subject(Incoming(source={"token": token()})) == "user:alice@example.com"


@pytest.mark.parametrize(
    "wrong",
    [{"issuer": ""}, {"audience": ""}, {"claim": ""}, {"prefix": "alice"}, {"keys": "http://idp.example.com/jwks"}],
)
def test_what_could_never_work_is_refused_at_the_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        who(**wrong)
