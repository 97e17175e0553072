"""Authenticates callers by JWT bearer tokens (RFC 6750, RFC 7519, RFC 8725) of the configured issuers.

A token counts only with an allow-listed asymmetric algorithm, a key of the issuer it names, exact iss and audience, a
typ of no other purpose, exp, iat and sub, a lifetime under the cap, and canonical encoding (invariant I18). Nothing
else in the header is trusted. Which principal a token proves is read in claims.py (docs/adr/0037-identify-callers.md).
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from jit_service.background import BackgroundThread
from jit_service.domain.conditions import kept_claims
from jit_service.domain.errors import IssuerKeysUnavailable, JitError, TokenExpired, TokenInvalid, TokenMissing
from jit_service.domain.language import name
from jit_service.issuers import MAX_TOKEN_BYTES, Issuer, exact_principals
from jit_service.metrics.catalogue import REFUSED_SIGN_INS
from jit_service.rpc import claims
from jit_service.rpc.identity import Identity
from jitaccess.jose import jws
from jitaccess.jose.jws import BadToken
from jitaccess.jose.keys import FileKeys, IssuerKeys, Jwk, KeysAway, Pick, UrlKeys, pick_of
from jitaccess.jose.tokens import is_of_grant

_CLOCK_SKEW_SECONDS: Final = 60
_PATIENCE_SECONDS: Final = 3
_KEEP_INTERVAL: Final = timedelta(seconds=1)
_MAX_VERIFIED: Final = 10_000
_MAX_VERIFIED_BYTES: Final = 32 << 20
_MAX_WAITING: Final = 4


class _VerifiedToken(NamedTuple):
    """A verified token. It is valid over [valid_from, identity.expires_at), while its issuer still has that key."""

    identity: Identity
    valid_from: datetime
    keys: IssuerKeys
    pick: Pick
    key: Jwk
    size: int


@dataclass(frozen=True)
class _Trust:
    """The issuers that are trusted as they were given, and with their keys by their names; the exact prefixes."""

    given: tuple[Issuer, ...]
    issuers: Mapping[str, tuple[Issuer, IssuerKeys]]
    exact: tuple[str, ...]

    @classmethod
    def of(cls, issuers: Sequence[Issuer], before: _Trust | None = None) -> _Trust:
        """Keeps the keys of an issuer that had the same source of keys before, so that no caller waits for them."""
        kept = {_source(issuer): keys for issuer, keys in before.issuers.values()} if before is not None else {}
        return cls(
            tuple(issuers),
            {issuer.issuer: (issuer, kept.get(_source(issuer)) or keys_of(issuer)) for issuer in issuers},
            exact_principals(issuers),
        )


class Authenticator:
    """Verifies tokens by the issuers' keys. Time comes from `clock`; `max_lifetime` caps exp - iat.

    It keeps the latest 10,000 verified tokens, of 32 MiB at most, by their SHA-256: to verify a signature costs more
    than a check.
    """

    def __init__(
        self,
        issuers: Sequence[Issuer],
        *,
        clock: Callable[[], datetime],
        max_lifetime: timedelta,
        max_bytes: int = MAX_TOKEN_BYTES,
    ) -> None:
        self._trust = _Trust.of(issuers)
        self._clock = clock
        self._max_lifetime = max_lifetime
        self._max_bytes = max_bytes
        self._verified: OrderedDict[bytes, _VerifiedToken] = OrderedDict()
        self._verified_bytes = 0
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(_MAX_WAITING)

    def identify(self, authorization: Sequence[str]) -> Identity:
        """Returns the identity that the authorization header proves. It may wait a few seconds for new keys.

        Raises TokenMissing, TokenInvalid, TokenExpired, IssuerKeysUnavailable; no message holds any part of the token.
        """
        try:
            return self._identify(authorization, patience=_PATIENCE_SECONDS)
        except JitError as refusal:
            REFUSED_SIGN_INS.add(refusal.reason)
            raise

    def identify_at_once(self, authorization: Sequence[str]) -> Identity:
        """Does what `identify` does, but never waits. After IssuerKeysUnavailable, `identify` may still succeed."""
        return self._identify(authorization, patience=0)

    def tend_keys(self) -> None:
        """Starts to fetch the keys that are missing or will soon be old. It does not wait for them."""
        for _, keys in self._trust.issuers.values():
            keys.tend()

    def trust(self, issuers: Sequence[Issuer]) -> None:
        """Trusts these issuers from now on, and no others.

        If they are not those of before, every token is verified anew, and open streams end.
        """
        if tuple(issuers) == self._trust.given:
            return
        trusted = _Trust.of(issuers, self._trust)
        with self._lock:
            self._trust = trusted
            self._verified.clear()
            self._verified_bytes = 0

    def keys_known(self) -> list[tuple[str, int, float | None]]:
        """Returns of each issuer its URL, how many keys are known, and their age in seconds; None before there are."""
        return [(name, *keys.known()) for name, (_, keys) in self._trust.issuers.items()]

    @property
    def issuers(self) -> Sequence[Issuer]:
        """The issuers that are trusted now."""
        return self._trust.given

    @property
    def trusted(self) -> object:
        """What is trusted now; it is another object after a change of the issuers."""
        return self._trust

    def _identify(self, authorization: Sequence[str], *, patience: float) -> Identity:
        token = bearer(authorization)
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        if (known := self._recall(digest)) is not None:
            return known.identity
        trust = self._trust
        try:
            known = self._verify(token, trust, patience)
        except BadToken as fault:
            raise TokenInvalid(str(fault)) from None
        self._remember(digest, known, trust)
        return known.identity

    def _recall(self, digest: bytes) -> _VerifiedToken | None:
        with self._lock:
            known = self._verified.get(digest)
            if known is None:
                return None
            self._verified.move_to_end(digest)
        if not known.valid_from <= self._clock() < known.identity.expires_at:
            return None
        try:
            return known if known.keys.find(known.pick, patience=0) is known.key else None
        except KeysAway:
            return None

    def _remember(self, digest: bytes, known: _VerifiedToken, trust: _Trust) -> None:
        with self._lock:
            if trust is not self._trust:
                # The issuers were changed meanwhile, so the next call verifies it by what they are now.
                return
            if (before := self._verified.pop(digest, None)) is not None:
                self._verified_bytes -= before.size
            self._verified[digest] = known
            self._verified_bytes += known.size
            while len(self._verified) > _MAX_VERIFIED or self._verified_bytes > _MAX_VERIFIED_BYTES:
                self._verified_bytes -= self._verified.popitem(last=False)[1].size

    def _verify(self, token: str, trust: _Trust, patience: float) -> _VerifiedToken:
        if len(token) > self._max_bytes:
            raise TokenInvalid(f"the token is longer than {self._max_bytes} characters; JIT_MAX_TOKEN_BYTES bounds it")
        header, payload = jws.decoded(token, limit=self._max_bytes)
        issuer, keys = _issuer(payload, trust)
        _check_header(header, issuer)
        pick = pick_of(header.get("kid"), header["alg"])
        try:
            key = self._key(keys, pick, patience)
        except KeysAway:
            raise IssuerKeysUnavailable(
                "the keys of the token's issuer are not available now; try again", issuer=issuer.issuer
            ) from None
        if key is None or not key.fits(header["alg"]):
            raise TokenInvalid(_key_fault(header, key))
        jws.check_signature(token, key, header["alg"])
        self._check_claims(payload, issuer)
        return _VerifiedToken(
            _identity(payload, issuer, trust.exact), _valid_from(payload), keys, pick, key, len(token)
        )

    def _key(self, keys: IssuerKeys, pick: Pick, patience: float) -> Jwk | None:
        """Returns the key. Only a few calls at a time may wait for it, since the others need the threads."""
        if not self._waiting.acquire(blocking=False):
            return keys.find(pick, patience=0)
        try:
            return keys.find(pick, patience=patience)
        finally:
            self._waiting.release()

    def demand_unexpired(self, proved_until: datetime | None, *, trusted: object) -> None:
        """Raises TokenExpired if the token has expired since the call began, or others are `trusted` by now."""
        if proved_until is None or self._clock() >= proved_until:
            raise TokenExpired("the token or certificate has expired; get a new one, and resume from the last revision")
        if trusted is not self._trust:
            raise TokenExpired("the service's issuers were changed; resume from the last revision")

    def _check_claims(self, payload: dict[str, Any], issuer: Issuer) -> None:
        if is_of_grant(payload):
            raise TokenInvalid("the token is a grant's token; it does not prove a caller")
        if "events" in payload:
            raise TokenInvalid("the token describes an event (RFC 8417), such as a log-out; it does not prove a caller")
        claims.demand_audience(payload, issuer)
        claims.demand_required(payload, issuer)
        issued, expires = jws.instant(payload, "iat"), jws.instant(payload, "exp")
        now = self._clock().timestamp()
        cap = min(self._max_lifetime, issuer.max_token_lifetime or self._max_lifetime)
        if not 0 < expires - issued <= cap.total_seconds():
            raise TokenInvalid(
                f"the token's lifetime, exp - iat, is not above 0 and at most {cap}; JIT_MAX_TOKEN_LIFETIME bounds it, "
                "and `max_token_lifetime` of its issuer"
            )
        for claim in ("iat", "nbf"):
            if claim in payload and jws.instant(payload, claim) > now + _CLOCK_SKEW_SECONDS:
                raise TokenInvalid(
                    f"the token's {claim} is more than {_CLOCK_SKEW_SECONDS} s in the future; set the clocks right"
                )
        if now >= expires:
            raise TokenExpired("the token has expired; get a new one")


class IssuerKeyKeeper(BackgroundThread):
    """Takes the issuers as they are after a change, and fetches their keys before a call needs them."""

    def __init__(self, authenticator: Authenticator, issuers: Callable[[], Sequence[Issuer]]) -> None:
        """`issuers` returns the issuers as they are now."""
        super().__init__(name="issuer-key-keeper", interval=_KEEP_INTERVAL, undone="issuers' keys are not fetched")
        self._authenticator = authenticator
        self._issuers = issuers

    def start(self) -> None:
        """Starts with a first fetch at once, not after an interval."""
        self._authenticator.tend_keys()
        super().start()

    def work(self) -> None:
        """Does what is due."""
        self._authenticator.trust(self._issuers())
        self._authenticator.tend_keys()


def _issuer(payload: dict[str, Any], trust: _Trust) -> tuple[Issuer, IssuerKeys]:
    known = trust.issuers.get(payload["iss"]) if isinstance(payload.get("iss"), str) else None
    if known is None:
        raise TokenInvalid(
            "the token's iss is not an issuer of this service; JIT_ISSUERS names the issuers",
            issuers=", ".join(trust.issuers),
        )
    return known


def _source(issuer: Issuer) -> tuple[object, ...]:
    """Returns where the issuer's keys come from."""
    return issuer.issuer, issuer.jwks_file, issuer.jwks_url, issuer.ca_file, issuer.bearer_token_file


def keys_of(issuer: Issuer) -> IssuerKeys:
    """Returns where the issuer's keys come from, by its settings."""
    if issuer.jwks_file is not None:
        return FileKeys(issuer.jwks_file)
    return UrlKeys(
        issuer.jwks_url or "",
        issuer=issuer.issuer,
        ca_file=issuer.ca_file,
        bearer_token_file=issuer.bearer_token_file,
    )


def bearer(authorization: Sequence[str]) -> str:
    """Returns the token in the authorization header (RFC 6750). Raises TokenMissing, TokenInvalid."""
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
        raise TokenInvalid(
            f"the token's alg is not one of {', '.join(issuer.algorithms)}; `algorithms` of its issuer says which are"
        )
    if not isinstance(header.get("kid", ""), str):
        raise TokenInvalid("the token's kid is not text")
    if "crit" in header or "b64" in header:
        raise TokenInvalid("the token's header demands an extension")
    typ = header.get("typ", "")
    if not isinstance(typ, str) or jws.plain_type(typ) not in map(jws.plain_type, issuer.token_types):
        types = ", ".join(known or '"" (none)' for known in issuer.token_types)
        raise TokenInvalid(f"the token's typ is not one of {types}; `token_types` of its issuer says which are")


def _key_fault(header: dict[str, Any], key: Jwk | None) -> str:
    if key is not None:
        return "the token's alg does not go with its key"
    if "kid" in header:
        return "the token's kid is not a key of its issuer; `jwks_file` or `jwks_url` says where its keys are"
    return "the token has no kid, and its issuer has not exactly one key that fits its alg"


def _valid_from(payload: dict[str, Any]) -> datetime:
    """Returns the instant from which the token is valid."""
    valid_from = max(jws.instant(payload, claim) for claim in ("iat", "nbf") if claim in payload)
    return datetime.fromtimestamp(max(valid_from - _CLOCK_SKEW_SECONDS, 0), UTC)


def _identity(payload: dict[str, Any], issuer: Issuer, exact: tuple[str, ...]) -> Identity:
    subject, token_id = payload.get("sub"), payload.get("jti")
    if not isinstance(subject, str) or not subject:
        raise TokenInvalid("the token's sub is missing or not text")
    return Identity(
        principal=claims.principal(payload, issuer),
        groups=claims.groups(payload, issuer),
        roles=claims.roles(payload, issuer),
        expires_at=datetime.fromtimestamp(jws.instant(payload, "exp"), UTC),
        issuer=issuer.issuer,
        issuer_subject=name.foreign_id(subject),
        token_id=name.foreign_id(token_id) if isinstance(token_id, str) else "",
        exact=exact,
        claims=kept_claims.told(payload),
    )
