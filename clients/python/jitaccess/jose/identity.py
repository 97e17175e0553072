"""Single sign-on tokens: whom an identity provider says a caller is (OpenID Connect Core 1.0, RFC 9068, RFC 8725)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from jitaccess._error import InvalidArgument, named
from jitaccess.jose import jws
from jitaccess.jose.jws import BadSignature, BadToken
from jitaccess.jose.keys import ASYMMETRIC, IssuerKeys, pick_of
from jitaccess.jose.refusal import TokenReason, TokenRefused
from jitaccess.jose.tokens import is_of_grant
from jitaccess.naming import names

PATIENCE_SECONDS: Final = 3
"""For how long a call may wait for keys that are not at hand."""
_MAX_TOKEN: Final = 24 << 10  # A token with two hundred groups has 12 KB.
_SKEW_SECONDS: Final = 60
_TYPES: Final = ("", "jwt", "at+jwt")


def identity_principal(
    token: str, keys: IssuerKeys, *, issuer: str, audience: str, claim: str, prefix: str, now: datetime
) -> str:
    """Returns the principal, prefix and claim, of a token that counts: of this issuer, for this audience, now.

    Raises TokenRefused, and KeysAway where the issuer's keys cannot be had.
    """
    try:
        header, payload = jws.decoded(token, limit=_MAX_TOKEN)
        _verify(token, header, keys)
        _demand_claims(payload, issuer, audience)
        _demand_now(payload, now.timestamp())
        return _principal(payload, claim, prefix)
    except BadSignature as fault:
        raise TokenRefused(str(fault), reason=TokenReason.BAD_SIGNATURE) from None
    except (BadToken, InvalidArgument) as fault:
        raise TokenRefused(str(fault), reason=TokenReason.MALFORMED) from None


def _verify(token: str, header: dict[str, Any], keys: IssuerKeys) -> None:
    algorithm, kid, typ = header.get("alg"), header.get("kid"), header.get("typ", "")
    if algorithm not in ASYMMETRIC:
        raise TokenRefused("the token's alg is not an asymmetric one", reason=TokenReason.WRONG_ALGORITHM)
    if not isinstance(typ, str) or jws.plain_type(typ) not in _TYPES:
        raise TokenRefused("the token's typ is not one of JWT, at+jwt, or none", reason=TokenReason.WRONG_TYPE)
    if "crit" in header or "b64" in header or not isinstance(kid, str | None):
        raise BadToken("the token's header demands an extension, or its kid is not text")
    key = keys.find(pick_of(kid, algorithm), patience=PATIENCE_SECONDS)
    if key is None or not key.fits(algorithm):
        raise TokenRefused("the token's kid and alg are not of a key of its issuer", reason=TokenReason.UNKNOWN_KEY)
    jws.check_signature(token, key, algorithm)


def _demand_claims(payload: dict[str, Any], issuer: str, audience: str) -> None:
    if not issuer or payload.get("iss") != issuer:
        raise TokenRefused("the token's iss is not the issuer", reason=TokenReason.WRONG_ISSUER)
    given = payload.get("aud")
    if not audience or audience not in (given if isinstance(given, list) else [given]):
        raise TokenRefused(f"the token is not for {audience}", reason=TokenReason.WRONG_AUDIENCE)
    # A grant's token says what its subject may do, an event's (RFC 8417) what happened: neither that the caller is it.
    if is_of_grant(payload) or "events" in payload:
        raise TokenRefused("the token is a grant's or an event's; it proves no caller", reason=TokenReason.WRONG_TYPE)
    if not isinstance(payload.get("sub"), str) or not payload["sub"]:
        raise BadToken("the token's sub is missing or not text")


def _demand_now(payload: dict[str, Any], at: float) -> None:
    if at >= jws.instant(payload, "exp"):
        raise TokenRefused("the token is over", reason=TokenReason.EXPIRED)
    if any(claim in payload and jws.instant(payload, claim) > at + _SKEW_SECONDS for claim in ("iat", "nbf")):
        raise TokenRefused("the token is of the future", reason=TokenReason.NOT_YET_VALID)


def _principal(payload: dict[str, Any], claim: str, prefix: str) -> str:
    value = payload.get(claim)
    if not isinstance(value, str) or not value:
        raise BadToken(f"the token's {claim} is missing or not text")
    # OpenID Connect Core 1.0, 5.7: anybody may have written an address that nobody verified.
    if claim == "email" and payload.get("email_verified", True) is not True:
        raise BadToken("the token's email is not verified")
    return named(names.principal, prefix + value, claim)
