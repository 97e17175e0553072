"""Tokens of grants, verified without asking the service (RFC 9068, RFC 9396, RFC 8725). Needs `jitaccess[tokens]`.

    from jitaccess import verify_token

    held = verify_token(
        token,
        "https://jit.example.com/.well-known/jwks.json",
        issuer="https://jit.example.com",
        audience="https://orders.example.com",
        action="read",
        resource="database/orders/eu",
    )

A token lives for minutes. Where a grant that is revoked shall end at once, give a `checker` that follows the service;
without one a token is good until it is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, Protocol

from jitaccess._error import InvalidArgument, Misconfigured, named
from jitaccess.extras import needed_for
from jitaccess.jose import jws
from jitaccess.jose.jws import BadSignature, BadToken
from jitaccess.jose.keys import GivenKeys, KeySource, UrlKeys, is_safe_url
from jitaccess.jose.refusal import TokenReason, TokenRefused
from jitaccess.naming import names
from jitaccess.naming.pattern import action_covered, resource_covered

with needed_for("verifying a token", "jitaccess[tokens]"):
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

ALGORITHM: Final = "ES256"
TYPE: Final = "at+jwt"
DETAIL: Final = "jit_grant"
MAX_LIFETIME: Final = timedelta(hours=1)
_SKEW_SECONDS: Final = 60


@dataclass(frozen=True, kw_only=True)
class GrantToken:
    """What a token says that counts: who may do what on what, by which grant, and until when.

    `chain` are the grants that it was passed on from, the first first. `resources` and `actions` are patterns.
    """

    grant: str
    subject: str
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    expire_time: datetime
    issue_time: datetime
    token_id: str
    issuer: str
    audience: tuple[str, ...]
    client_id: str
    policy: str
    chain: tuple[str, ...]

    def covers(self, action: str, resource: str) -> bool:
        """Returns whether it lets its subject do the action on the resource. Raises InvalidArgument for a pattern."""
        wanted, on = named(names.action, action, "action"), named(names.resource, resource, "resource")
        return action_covered(wanted, self.actions) and resource_covered(on, self.resources)


class LiveGrants(Protocol):
    """Knows which grants are live, as a replica that follows the service does."""

    def is_live(self, *, subject: str, grant: str) -> bool:
        """Returns whether the subject's grant is active now. Raises, or says no, where it cannot be sure."""


def verify_token(
    token: str,
    keys: str | Mapping[str, object] | KeySource,
    *,
    issuer: str,
    audience: str,
    action: str | None = None,
    resource: str | None = None,
    checker: LiveGrants | None = None,
    max_lifetime: timedelta = MAX_LIFETIME,
    clock: Callable[[], datetime] | None = None,
) -> GrantToken:
    """Returns what the token says, where it counts: for this audience, now, and for action and resource if given.

    `keys` is the URL of the issuer's JWK set (https, or http on loopback), the set itself, or a source of keys that was
    made before. Raises TokenRefused with a `reason` of `TokenReason`; Misconfigured for keys that are none;
    InvalidArgument for an action or resource that is a pattern or malformed, or one without the other.
    """
    if (action is None) != (resource is None):
        raise InvalidArgument("give both action and resource, or neither", reason="INVALID_FIELD")
    now = (clock or _utc_now)()
    held = read_token(token, source_of(keys), issuer=issuer, max_lifetime=max_lifetime, now=now)
    if not audience or audience not in held.audience:
        raise TokenRefused(f"the token is not for {audience}", reason=TokenReason.WRONG_AUDIENCE)
    if action is not None and resource is not None and not held.covers(action, resource):
        message = f"{held.grant} does not let {held.subject} {action} on {resource}"
        raise TokenRefused(message, reason=TokenReason.NOT_COVERED)
    # Exactly True: a coroutine that nobody awaited is no yes.
    if checker is not None and checker.is_live(subject=held.subject, grant=held.grant) is not True:
        raise TokenRefused(f"{held.grant} is not live any more", reason=TokenReason.GRANT_OVER)
    return held


def read_token(token: str, keys: KeySource, *, issuer: str, max_lifetime: timedelta, now: datetime) -> GrantToken:
    """Returns what the token says, whoever it is for, where the issuer signed it and it is not over.

    Raises TokenRefused.
    """
    try:
        header, payload = jws.decoded(token)
        key = key_of(header, keys, typ=TYPE)
        jws.check_signature(token, key, ALGORITHM)
        return _grant_token(payload, issuer, max_lifetime, now)
    except BadSignature as fault:
        raise TokenRefused(str(fault), reason=TokenReason.BAD_SIGNATURE) from None
    except BadToken as fault:
        raise TokenRefused(str(fault), reason=TokenReason.MALFORMED) from None


def is_of_grant(payload: Mapping[str, Any]) -> bool:
    """Returns whether these claims are of a grant's token, be it good or not."""
    details = payload.get("authorization_details")
    entries = details if isinstance(details, list) else [details]
    return any(isinstance(entry, dict) and entry.get("type") == DETAIL for entry in entries)


def key_of(header: dict[str, Any], keys: KeySource, *, typ: str) -> Any:
    """Returns the key that must have signed a token of the type with this header. Raises TokenRefused."""
    if header.get("alg") != ALGORITHM:
        raise TokenRefused(f"the token's alg is not {ALGORITHM}", reason=TokenReason.WRONG_ALGORITHM)
    if jws.plain_type(header.get("typ")) != typ:
        raise TokenRefused(f"the token's typ is not {typ}", reason=TokenReason.WRONG_TYPE)
    if "crit" in header or "b64" in header:
        raise TokenRefused("the token's header demands an extension", reason=TokenReason.MALFORMED)
    kid = header.get("kid")
    key = keys.key(kid) if isinstance(kid, str) else None
    if key is None:
        raise TokenRefused("the token's kid is not a key of its issuer", reason=TokenReason.UNKNOWN_KEY)
    if not isinstance(key.key, EllipticCurvePublicKey) or key.key.curve.name != "secp256r1":
        raise TokenRefused("the token's alg does not go with its key", reason=TokenReason.UNKNOWN_KEY)
    return key


def _grant_token(payload: dict[str, Any], issuer: str, max_lifetime: timedelta, now: datetime) -> GrantToken:
    if not issuer or payload.get("iss") != issuer:
        raise TokenRefused("the token's iss is not the issuer", reason=TokenReason.WRONG_ISSUER)
    issued, expires = _times(payload, max_lifetime, now)
    detail = _detail(payload)
    return GrantToken(
        grant=_text(detail, "grant"),
        subject=_text(payload, "sub"),
        resources=_texts(detail, "resources"),
        actions=_texts(detail, "actions"),
        expire_time=expires,
        issue_time=issued,
        token_id=_text(payload, "jti"),
        issuer=issuer,
        audience=_texts(payload, "aud"),
        client_id=_text(payload, "client_id"),
        policy=_text(detail, "policy"),
        chain=_texts(detail, "chain", least=0),
    )


def _times(payload: dict[str, Any], max_lifetime: timedelta, now: datetime) -> tuple[datetime, datetime]:
    issued, expires = jws.instant(payload, "iat"), jws.instant(payload, "exp")
    if not 0 < expires - issued <= max_lifetime.total_seconds():
        message = f"the token's lifetime, exp - iat, is not above 0 and at most {max_lifetime}"
        raise TokenRefused(message, reason=TokenReason.LIFETIME_TOO_LONG)
    at = now.timestamp()
    if issued > at + _SKEW_SECONDS or ("nbf" in payload and jws.instant(payload, "nbf") > at):
        raise TokenRefused("the token is of the future", reason=TokenReason.NOT_YET_VALID)
    if at >= expires:
        raise TokenRefused("the token is over", reason=TokenReason.EXPIRED)
    return datetime.fromtimestamp(issued, UTC), datetime.fromtimestamp(expires, UTC)


def _detail(payload: dict[str, Any]) -> dict[str, Any]:
    details = payload.get("authorization_details")
    # One alone: of several, each verifier could pick another.
    if not isinstance(details, list) or len(details) != 1 or not is_of_grant(payload):
        raise TokenRefused(f"the token has not one authorization detail, a {DETAIL}", reason=TokenReason.NO_GRANT)
    detail: dict[str, Any] = details[0]
    return detail


def _text(claims: dict[str, Any], claim: str) -> str:
    value = claims.get(claim)
    if not isinstance(value, str) or not value:
        raise BadToken(f"the token's {claim} is missing or not text")
    return value


def _texts(claims: dict[str, Any], claim: str, *, least: int = 1) -> tuple[str, ...]:
    value = claims.get(claim)
    if not isinstance(value, list) or len(value) < least or not all(isinstance(text, str) and text for text in value):
        raise BadToken(f"the token's {claim} is not a list of texts")
    return tuple(value)


def source_of(keys: str | Mapping[str, object] | KeySource) -> KeySource:
    """Returns where the keys come from, by their URL, or as a set or a source. Raises Misconfigured."""
    if isinstance(keys, str):
        return _url_keys(keys)
    if not isinstance(keys, Mapping):
        return keys
    try:
        return GivenKeys(keys)
    except ValueError as error:
        raise Misconfigured(f"the keys are {error}") from error


@cache
def _url_keys(url: str) -> KeySource:
    """One source a URL, so that the keys are fetched once for all calls."""
    if not is_safe_url(url):
        raise Misconfigured("the keys' URL must be https, or http on loopback: whoever can change it can be anybody")
    return UrlKeys(url)


def _utc_now() -> datetime:
    return datetime.now(UTC)
