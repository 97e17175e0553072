"""Who calls: JWT bearer tokens (RFC 6750, RFC 7519, RFC 8725) of the configured issuers.

A token counts only with an allow-listed asymmetric algorithm, a known kid of the issuer it names, exact iss and aud,
typ, exp, iat and sub, a lifetime under the cap, and canonical encoding (invariant I18). Nothing else in the header is
trusted.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from jwt import PyJWK

from jit_service.domain import name
from jit_service.domain.caller import Role
from jit_service.domain.errors import InvalidField, TokenExpired, TokenInvalid, TokenMissing
from jit_service.settings import Issuer
from jitaccess import jws
from jitaccess.jws import BadToken
from jitaccess.keys import FileKeys, KeySource, UrlKeys
from jitaccess.tokens import is_of_grant

_CLOCK_SKEW_SECONDS: Final = 60
_MAX_KNOWN: Final = 10_000
_FAMILIES: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a token proves, until it expires. Groups that it leaves out are not known (None).

    `issuer`, `issuer_subject` and `token_id` are its `iss`, `sub` and `jti`.
    """

    principal: str
    groups: frozenset[str] | None
    roles: frozenset[Role]
    expires_at: datetime
    issuer: str = ""
    issuer_subject: str = ""
    token_id: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


class _Known(NamedTuple):
    """A token that was judged good: it stays so over [begins, identity.expires_at), while its issuer has that key."""

    identity: Identity
    begins: datetime
    keys: KeySource
    kid: str
    key: PyJWK


class Authenticator:
    """Judges tokens by the issuers' keys. Time comes from `clock`; `max_lifetime` caps exp - iat.

    A good token is remembered, by its SHA-256 and among the latest 10,000, since a signature costs more than a check.
    """

    def __init__(self, issuers: Sequence[Issuer], *, clock: Callable[[], datetime], max_lifetime: timedelta) -> None:
        self._issuers = {issuer.issuer: (issuer, _key_source(issuer)) for issuer in issuers}
        self._clock = clock
        self._max_lifetime = max_lifetime
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def identify(self, authorization: Sequence[str]) -> Identity:
        """Returns whom the call's authorization header proves.

        Raises TokenMissing, TokenInvalid, TokenExpired; no message holds any part of the token.
        """
        token = bearer(authorization)
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        if (known := self._still_good(digest)) is not None:
            return known.identity
        try:
            known = self._judged(token)
        except BadToken as fault:
            raise TokenInvalid(str(fault)) from None
        self._remember(digest, known)
        return known.identity

    def _still_good(self, digest: bytes) -> _Known | None:
        with self._lock:
            known = self._known.get(digest)
            if known is None:
                return None
            self._known.move_to_end(digest)
        good = known.begins <= self._clock() < known.identity.expires_at and known.keys.key(known.kid) is known.key
        return known if good else None

    def _remember(self, digest: bytes, known: _Known) -> None:
        with self._lock:
            self._known[digest] = known
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)

    def _judged(self, token: str) -> _Known:
        header, payload = jws.decoded(token)
        issuer, keys = self._issuer(payload)
        _check_header(header, issuer)
        key = keys.key(header["kid"])
        if key is None:
            raise TokenInvalid("the token's kid is not a key of its issuer")
        if key.key_type != _FAMILIES[header["alg"][:2]]:
            raise TokenInvalid("the token's alg does not go with its key")
        jws.check_signature(token, key, header["alg"])
        self._check_claims(payload, issuer)
        return _Known(_identity(payload, issuer), _begin(payload), keys, header["kid"], key)

    def demand_unexpired(self, proved_until: datetime | None) -> None:
        """Raises TokenExpired where a token that was good when the call began is over."""
        if proved_until is None or self._clock() >= proved_until:
            raise TokenExpired("the token's exp is over; get a new token, and go on from the last revision")

    def _issuer(self, payload: dict[str, Any]) -> tuple[Issuer, KeySource]:
        known = self._issuers.get(payload["iss"]) if isinstance(payload.get("iss"), str) else None
        if known is None:
            raise TokenInvalid("the token's iss is not an issuer of this service")
        return known

    def _check_claims(self, payload: dict[str, Any], issuer: Issuer) -> None:
        if is_of_grant(payload):
            raise TokenInvalid("the token is of a grant: it says what may be done, and proves no caller")
        audience = payload.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if issuer.audience not in audiences:
            raise TokenInvalid("the token's aud is not this service")
        issued, expires = jws.instant(payload, "iat"), jws.instant(payload, "exp")
        now = self._clock().timestamp()
        cap = min(self._max_lifetime, issuer.max_token_lifetime or self._max_lifetime)
        if not 0 < expires - issued <= cap.total_seconds():
            raise TokenInvalid(f"the token's lifetime, exp - iat, is not above 0 and at most {cap}")
        if issued > now + _CLOCK_SKEW_SECONDS:
            raise TokenInvalid("the token's iat is in the future")
        if "nbf" in payload and jws.instant(payload, "nbf") > now:
            raise TokenInvalid("the token's nbf is in the future")
        if now >= expires:
            raise TokenExpired("the token's exp is over; get a new token")


def _key_source(issuer: Issuer) -> KeySource:
    if issuer.jwks_file is not None:
        return FileKeys(issuer.jwks_file)
    return UrlKeys(issuer.jwks_url or "")


def bearer(authorization: Sequence[str]) -> str:
    """Returns the token of the header (RFC 6750). Raises TokenMissing, TokenInvalid."""
    if not authorization:
        raise TokenMissing("no token; send `authorization: Bearer TOKEN`")
    if len(authorization) > 1:
        raise TokenInvalid("there is more than one authorization header")
    scheme, _, token = authorization[0].partition(" ")
    if scheme.lower() != "bearer":
        raise TokenMissing("the authorization header is not `Bearer TOKEN`")
    return token


def _check_header(header: dict[str, Any], issuer: Issuer) -> None:
    if header.get("alg") not in issuer.algorithms:
        raise TokenInvalid(f"the token's alg is not one of {', '.join(issuer.algorithms)}")
    if not isinstance(header.get("kid"), str):
        raise TokenInvalid("the token has no kid")
    if "crit" in header or "b64" in header:
        raise TokenInvalid("the token's header demands an extension")
    if jws.plain_type(header.get("typ")) not in map(jws.plain_type, issuer.token_types):
        raise TokenInvalid(f"the token's typ is not one of {', '.join(issuer.token_types)}")


def _begin(payload: dict[str, Any]) -> datetime:
    """Returns when the token begins to be good."""
    begins = jws.instant(payload, "iat") - _CLOCK_SKEW_SECONDS
    if "nbf" in payload:
        begins = max(begins, jws.instant(payload, "nbf"))
    return datetime.fromtimestamp(max(begins, 0), UTC)


def _identity(payload: dict[str, Any], issuer: Issuer) -> Identity:
    subject, claimed = payload.get("sub"), payload.get(issuer.principal_claim)
    if not isinstance(subject, str) or not subject or not isinstance(claimed, str):
        raise TokenInvalid(f"the token's sub or {issuer.principal_claim} is missing or not text")
    try:
        principal = name.principal(issuer.principal_prefix + claimed, issuer.principal_claim)
    except InvalidField as fault:
        raise TokenInvalid(f"the token's {issuer.principal_claim} {fault.fault}") from None
    values = _texts(payload, issuer.roles_claim)
    token_id = payload.get("jti")
    return Identity(
        principal=principal,
        groups=_groups(payload, issuer.groups_claim),
        roles=frozenset(role for role, giving in issuer.roles.items() if not values.isdisjoint(giving)),
        expires_at=datetime.fromtimestamp(jws.instant(payload, "exp"), UTC),
        issuer=issuer.issuer,
        issuer_subject=name.foreign_id(subject),
        token_id=name.foreign_id(token_id) if isinstance(token_id, str) else "",
        claims=payload,
    )


def _groups(payload: dict[str, Any], claim: str) -> frozenset[str] | None:
    """Returns the groups; None where the provider leaves out what are too many, with a pointer or a sign instead."""
    pointers = payload.get("_claim_names")
    if (isinstance(pointers, dict) and claim in pointers) or (claim not in payload and "hasgroups" in payload):
        return None
    return frozenset(filter(None, map(_group, _texts(payload, claim))))


def _texts(payload: dict[str, Any], claim: str) -> set[str]:
    value = payload.get(claim, [])
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise TokenInvalid(f"the token's {claim} is not a list of texts")
    return set(texts)


def _group(text: str) -> str:
    """A group whose name no policy could write matches nothing."""
    try:
        return name.group(text, "groups")
    except InvalidField:
        return ""
