"""What comes in, and who sent it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jitaccess.errors import Misconfigured, Unauthenticated, Unavailable
from jitaccess.guards.headers import Headers

if TYPE_CHECKING:
    from jitaccess.jose.keys import IssuerKeys, KeySource
    from jitaccess.jose.tokens import LiveGrants


@dataclass(frozen=True)
class Incoming:
    """A call: its headers (of gRPC: its metadata), and what the framework has of it.

    `headers.get("X-User")` finds a header in whatever letter case; a job has none.

    `source` is a starlette HTTPConnection, an ASGI scope, a gRPC ServicerContext, or a job's inspect.BoundArguments.
    `peer` is the address that the framework has of whoever is at the other end of the connection, empty where none.
    """

    headers: Headers = field(default_factory=Headers, repr=False)
    source: Any = field(default=None, repr=False)
    peer: str = ""

    def __post_init__(self) -> None:
        """Takes headers that are given as pairs, too."""
        object.__setattr__(self, "headers", Headers(self.headers))

    @classmethod
    def with_headers(
        cls, headers: Iterable[tuple[str | bytes, str | bytes]], source: object, peer: str = ""
    ) -> Incoming:
        """Returns a call with headers as they come over the wire."""
        return cls(Headers((_text(name), _text(value)) for name, value in headers), source, peer)


Subject = Callable[[Incoming], str | Awaitable[str]]
"""Says who is calling, by something that is proved: `user:…` or `service:…`. Raises Unauthenticated."""


def bearer_token(incoming: Incoming) -> str:
    """Returns the token of the authorization header, RFC 6750. Raises Unauthenticated where there is not one alone."""
    given = incoming.headers.get_all("authorization")
    if not given:
        raise Unauthenticated("there is no bearer token", reason="TOKEN_MISSING")
    # Of several, whoever else reads them could take another.
    scheme, _, token = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer" or not token or not token.isascii() or set(token) & set(" ,\t"):
        raise Unauthenticated("the authorization is not one bearer token", reason="TOKEN_INVALID")
    return token


@dataclass(frozen=True)
class FixedSubject:
    """The program itself as the subject, whoever calls and from wherever."""

    principal: str

    def __call__(self, _: Incoming) -> str:
        return self.principal


def fixed_subject(principal: str) -> Subject:
    """Returns a subject that is the program itself, whoever calls: for jobs."""
    return FixedSubject(principal)


def subject_of_grant_token(
    keys: str | Mapping[str, object] | KeySource,
    *,
    issuer: str,
    audience: str,
    checker: LiveGrants | None = None,
    clock: Callable[[], datetime] | None = None,
) -> Subject:
    """Returns who the subject of the call's grant token is (`verify_token`, extra `tokens`): the token proves it.

    The guard then checks what that subject may do, by any grant.
    """
    from jitaccess.jose.tokens import verify_token

    def subject(incoming: Incoming) -> str:
        token = bearer_token(incoming)
        return verify_token(token, keys, issuer=issuer, audience=audience, checker=checker, clock=clock).subject

    return subject


def subject_of_identity_token(
    keys: str | Path | Mapping[str, object] | IssuerKeys,
    *,
    issuer: str,
    audience: str,
    claim: str = "sub",
    prefix: str = "user:",
    token: Callable[[Incoming], str] = bearer_token,
    clock: Callable[[], datetime] | None = None,
) -> Subject:
    """Returns who the caller is by the call's single sign-on token (extra `tokens`): `prefix` and its `claim`.

    `keys` is the URL of the provider's JWK set (https, or http on loopback), a file of one, the set itself, or one of
    `jitaccess.jose.keys`; URL and file are read again as the provider changes them. The token must be signed by an
    asymmetric algorithm and have iss, aud, exp and sub. A claim `email` that the token says is not verified is refused.
    Give a claim that nobody can choose freely, and a prefix that makes no other provider's principals.

    The subject raises TokenRefused (401), and Unavailable (503) where the keys cannot be had. What could never work is
    Misconfigured at once.
    """
    from jitaccess.jose.identity import identity_principal
    from jitaccess.jose.keys import FileKeys, IssuerKeys, KeysAway
    from jitaccess.jose.tokens import source_of

    source = FileKeys(keys) if isinstance(keys, Path) else source_of(keys)
    if not isinstance(source, IssuerKeys):
        raise Misconfigured("keys: must be a URL, a Path, a JWK set, or a source of jitaccess.jose.keys")
    if not all(isinstance(text, str) and text for text in (issuer, audience, claim)):
        raise Misconfigured("issuer, audience and claim: each must be one text that is not empty")
    if prefix and not prefix.startswith(("user:", "service:")):
        raise Misconfigured("prefix: must begin with user: or service:, or be empty if the claim's own text does")

    def subject(incoming: Incoming) -> str:
        now = (clock or _utc_now)()
        given = token(incoming)
        if not isinstance(given, str) or not given:
            raise Unauthenticated("there is no token", reason="TOKEN_MISSING")
        try:
            return identity_principal(
                given, source, issuer=issuer, audience=audience, claim=claim, prefix=prefix, now=now
            )
        except KeysAway:
            raise Unavailable("the keys of the token's issuer are not available now", reason="KEYS_AWAY") from None

    return subject


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _text(given: str | bytes) -> str:
    return given if isinstance(given, str) else given.decode("latin-1")
