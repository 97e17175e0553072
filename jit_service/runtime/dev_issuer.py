"""The issuer of `up --dev`: signs tokens for made-up people with a key in the data directory."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from jit_service.domain.caller import Role
from jit_service.issuers import DEVELOPMENT as ISSUER
from jit_service.issuers import Issuer

AUDIENCE: Final = "jitaccess"
LIFETIME: Final = timedelta(hours=24)
PEOPLE: Final[dict[str, tuple[str, tuple[str, ...], tuple[Role, ...]]]] = {
    "alice": ("user:alice@example.com", ("engineering",), ()),
    "bob": ("user:bob@example.com", ("engineering", "database-owners"), ()),
    "carol": ("user:carol@example.com", ("security",), ()),
    "dave": ("user:dave@example.com", (), ()),
    "gateway": ("service:gateway", (), (Role.CHECKER,)),
    "auditor": ("user:auditor@example.com", (), (Role.AUDITOR,)),
    "admin": ("user:admin@example.com", (), (Role.ADMIN,)),
}
"""The made-up people: principal, groups, API roles."""
_KID: Final = "dev"


class NoDevIssuer(Exception):
    """There is no development key in the data directory."""


class DevIssuer:
    """Signs tokens with a key in DATA_DIR/dev, which is made once. Anyone who can read it can act as any principal."""

    def __init__(self, data_dir: Path) -> None:
        self._directory = data_dir.resolve() / "dev"
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._key = self._load_or_make_key()
        _write(self._directory / "jwks.json", json.dumps(self.key_set()))

    @classmethod
    def of(cls, data_dir: Path) -> DevIssuer:
        """Returns the issuer whose key is there already. Raises NoDevIssuer; nothing is made then."""
        key = data_dir.resolve() / "dev" / "key.pem"
        if not key.is_file():
            raise NoDevIssuer(
                f"no service runs there: {key} is not there, so no service would accept the token; give the data "
                "directory of `jit-service up --dev`"
            )
        return cls(data_dir)

    def issuer(self) -> Issuer:
        """Returns the settings by which the service accepts these tokens."""
        return Issuer(
            issuer=ISSUER,
            audience=(AUDIENCE,),
            jwks_file=self._directory / "jwks.json",
            algorithms=("ES256",),
            # Its tokens may name principals of other issuers too.
            shares_principals=True,
            roles={role: (role.value,) for role in Role},
        )

    def token(
        self,
        principal: str,
        *,
        now: datetime,
        groups: Iterable[str] = (),
        roles: Iterable[Role] = (),
        ttl: timedelta = LIFETIME,
        log_in: Mapping[str, Any] | None = None,
    ) -> str:
        """Returns a token that is valid from `now` for `ttl`; `log_in` are claims on how its holder logged in."""
        rights = {"groups": list(groups), "roles": list(roles)}
        claims = {**(log_in or {}), "iss": ISSUER, "aud": AUDIENCE, "sub": principal} | rights
        return self.signed(claims, now=now, ttl=ttl, typ="JWT")

    def key_set(self) -> dict[str, Any]:
        """Returns the key set that its tokens verify by."""
        public = jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": _KID, "use": "sig", "alg": "ES256"}]}

    def signed(self, claims: Mapping[str, Any], *, now: datetime, ttl: timedelta, typ: str) -> str:
        """Returns a token of this type with these claims, that is valid from `now` for `ttl`."""
        issued = int(now.timestamp())
        times = {"iat": issued, "exp": issued + int(ttl.total_seconds()), "jti": uuid.uuid4().hex}
        return jwt.encode({**claims, **times}, self._key, algorithm="ES256", headers={"kid": _KID, "typ": typ})

    def read(self, token: str, *, issuer: str, audiences: Sequence[str]) -> dict[str, Any]:
        """Returns the claims of a token of this key, even if it is over. Raises jwt.InvalidTokenError."""
        options: Any = {"verify_exp": False, "verify_iat": False, "require": ["sub", "aud", "iss"]}
        claims: dict[str, Any] = jwt.decode(
            token, self._key.public_key(), algorithms=["ES256"], issuer=issuer, audience=audiences, options=options
        )
        return claims

    def write_tokens(self, now: datetime) -> dict[str, Path]:
        """Writes a token, valid for 24 h, to DATA_DIR/dev/tokens/NAME.jwt for each of PEOPLE. Returns the paths."""
        directory = self._directory / "tokens"
        directory.mkdir(mode=0o700, exist_ok=True)
        written = {}
        for who, (principal, groups, roles) in PEOPLE.items():
            written[who] = directory / f"{who}.jwt"
            _write(written[who], self.token(principal, groups=groups, roles=roles, now=now))
        return written

    def _load_or_make_key(self) -> ec.EllipticCurvePrivateKey:
        path = self._directory / "key.pem"
        if not path.exists():
            made = ec.generate_private_key(ec.SECP256R1())
            pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            _write(path, pem.decode())
        key = load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{path} is not an EC key; remove it to make a new one")
        return key


def first_steps(data_dir: Path, *, http: str, grpc: str, tls: bool, login: str | None) -> str:
    """Returns what to paste for a first request as alice, by REST, at the command line and in a browser.

    `tls` says whether gRPC has TLS, whose authority only its operator knows.
    """
    secure = " JIT_CA_FILE=ca.pem" if tls else ""
    tokens = data_dir / "dev" / "tokens"
    body = '{"resources": ["database/orders/eu"], "actions": ["read"], "duration": "600s"}'
    provider = f"\nProvider at which people log in, and pick who they are: {login}\n" if login else ""
    console = f"\nIn a browser, where you log in as any of these people: http://{http}/console\n"
    return f"""
Tokens: {tokens}/{{{",".join(PEOPLE)}}}.jwt, valid for 24 h. A first request, by REST:

  curl -s http://{http}/v1/grants -H "authorization: Bearer $(cat {tokens}/alice.jwt)" \\
    -H 'content-type: application/json' -d '{body}'

The same person at the command line:

  export JIT_ADDRESS={grpc}{secure} JIT_TOKEN_FILE={tokens}/alice.jwt
  {Path(sys.executable).parent / "jit"} ls
{console}{provider}"""


def _write(path: Path, text: str) -> None:
    """Writes the file atomically; only this user can read it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(temporary).replace(path)
