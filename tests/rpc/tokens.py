"""A forge: issuers with their keys, good tokens, and every kind of bad one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jit_service.issuers import Issuer

NAME = "https://login.example.com"
AUDIENCE = "jitaccess"
DROP: Any = object()


class Forge:
    """An issuer with an EC and an RSA key, whose tokens say what a test wants."""

    def __init__(self, directory: Path, *, name: str = NAME, kid: str = "k1") -> None:
        self.name = name
        self.kid = kid
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.path = directory / f"{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"
        self.publish(self.jwk(), self.rsa_jwk())

    def jwk(self, **changes: Any) -> dict[str, Any]:
        public = jwt.algorithms.ECAlgorithm.to_jwk(self.ec.public_key(), as_dict=True)
        return {**public, "kid": self.kid, "use": "sig", **changes}

    def rsa_jwk(self, **changes: Any) -> dict[str, Any]:
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self.rsa.public_key(), as_dict=True)
        return {**public, "kid": f"{self.kid}-rsa", "use": "sig", **changes}

    def publish(self, *keys: dict[str, Any]) -> None:
        """Replaces the issuer's key set."""
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps({"keys": keys}))
        temporary.replace(self.path)

    def issuer(self, **changes: Any) -> Issuer:
        return Issuer(**({"issuer": self.name, "audience": AUDIENCE, "jwks_file": self.path} | changes))

    def claims(self, now: datetime, **changes: Any) -> dict[str, Any]:
        issued = int(now.timestamp())
        claims = {
            "iss": self.name,
            "aud": AUDIENCE,
            "sub": "user:alice@example.com",
            "iat": issued,
            "exp": issued + 3600,
            "groups": ["engineering"],
        }
        return {name: value for name, value in (claims | changes).items() if value is not DROP}

    def sign(self, claims: Mapping[str, Any], *, key: Any = None, algorithm: str = "ES256", **header: Any) -> str:
        """Signs by hand, so that nothing is refused here that the service should refuse."""
        head = {"typ": "JWT", "kid": self.kid, "alg": algorithm} | header
        signed = b".".join(
            encoded(json.dumps(part).encode())
            for part in ({name: value for name, value in head.items() if value is not DROP}, claims)
        )
        return raw_sign(signed, key or self.ec, algorithm)

    def token(self, now: datetime, **changes: Any) -> str:
        return self.sign(self.claims(now, **changes))

    def confused(self, now: datetime) -> str:
        """HMAC with the public key's text as the secret: good, for a verifier that lets the token choose."""
        secret = self.rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        head = encoded(json.dumps({"typ": "JWT", "kid": f"{self.kid}-rsa", "alg": "HS256"}).encode())
        signed = head + b"." + encoded(json.dumps(self.claims(now)).encode())
        return (signed + b"." + encoded(hmac.digest(secret, signed, "sha256"))).decode()


def raw_sign(signed: bytes, key: Any, algorithm: str) -> str:
    """Signs the two parts as they are."""
    if algorithm == "none":
        return signed.decode() + "."
    signature = jwt.get_algorithm_by_name(algorithm).sign(signed, key)
    return (signed + b"." + encoded(signature)).decode()


def encoded(content: bytes) -> bytes:
    """Returns unpadded base64url."""
    return base64.urlsafe_b64encode(content).rstrip(b"=")
