"""The public keys of issuers: JWK sets from files and URLs."""

from __future__ import annotations

import http.client
import json
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from jitaccess.extras import needed_for
from jitaccess.jose.fetching import Documents, discovered, is_safe_url

with needed_for("verifying a token", "jitaccess[tokens]"):
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from jwt import PyJWK, PyJWTError

_log = logging.getLogger(__name__)
_FETCH_SECONDS: Final = 5
_FRESH_SECONDS: Final = 300
_STALE_SECONDS: Final = 3600
_RETRY_SECONDS: Final = 10
# Without any keys nobody of the issuer can call, so it is asked again sooner.
_HEAL_SECONDS: Final = 2
# How many calls may wait at once for keys that may not be there: made-up kids must not take the threads of others.
_WAITING: Final = 2
LOOK_SECONDS: Final = 0.5
"""How often a file of keys is looked at for a change."""
_NEVER: Final = -float("inf")
_MIN_RSA_BITS: Final = 2048
ASYMMETRIC: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""The algorithms that may sign tokens of callers: asymmetric ones only."""
_FAMILIES: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_CURVES: Final = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}


class KeysAway(Exception):
    """The issuer's keys cannot be had now, so nobody can tell whether it has such a key. Later calls may know."""


class Jwk(PyJWK):
    """A key, with the one algorithm that its set says it is for, if it says one."""

    def __init__(self, entry: dict[str, Any]) -> None:
        super().__init__(entry)
        self.declared_algorithm = entry.get("alg")

    def fits(self, algorithm: str) -> bool:
        """Returns whether signatures by this algorithm can be this key's (RFC 8725, 3.1)."""
        if self.declared_algorithm not in (None, algorithm) or self.key_type != _FAMILIES[algorithm[:2]]:
            return False
        return not isinstance(self.key, EllipticCurvePublicKey) or self.key.curve.name == _CURVES[algorithm]


class KeySet:
    """The keys of an issuer at one time."""

    def __init__(self, keys: Iterable[Jwk] = ()) -> None:
        self._keys = tuple(keys)
        named = Counter(key.key_id for key in self._keys)
        # Of two keys of one name neither is known by it.
        self.by_kid = {key.key_id: key for key in self._keys if key.key_id is not None and named[key.key_id] == 1}

    def __len__(self) -> int:
        return len(self._keys)

    def only(self, algorithm: str) -> Jwk | None:
        """Returns the one key that fits the algorithm; None where there is none, or more than one."""
        fitting = [key for key in self._keys if key.fits(algorithm)]
        return fitting[0] if len(fitting) == 1 else None


Pick = Callable[[KeySet], Jwk | None]
"""Which key of a set is meant."""


def pick_of(kid: str | None, algorithm: str) -> Pick:
    """Returns what picks a token's key: the one that its kid names, else the only one that fits its alg."""
    return (lambda keys: keys.only(algorithm)) if kid is None else (lambda keys: keys.by_kid.get(kid))


class KeySource(Protocol):
    """Where an issuer's keys come from."""

    def key(self, kid: str) -> PyJWK | None:
        """Returns the key of that id, or None where the issuer has none such, or cannot be asked."""


class IssuerKeys(ABC):
    """Where an issuer's keys come from, for those who must tell a wrong key from one that cannot be looked up."""

    _fault = ""

    @abstractmethod
    def find(self, pick: Pick, *, patience: float) -> Jwk | None:
        """Returns the key that is meant, or None where the issuer has none such.

        `patience` is for how many seconds it may wait for what it has not at hand. Raises KeysAway.
        """

    @abstractmethod
    def look(self) -> KeySet:
        """Returns the usable keys that are at the source now. Raises OSError, ValueError, HTTPException."""

    @abstractmethod
    def known(self) -> tuple[int, float | None]:
        """Returns how many keys serve now, and how many seconds ago they were had; None where they never were."""

    def tend(self) -> None:  # noqa: B027 (only what is fetched needs it)
        """Fetches the keys ahead of their use where it is time to. It does not wait."""

    def _tell(self, where: object, fault: str) -> None:
        """Logs a fault once, and once that it is over."""
        if fault != self._fault:
            _log.warning("no keys from %s: %s", where, fault) if fault else _log.warning("keys from %s again", where)
        self._fault = fault

    def key(self, kid: str) -> Jwk | None:
        """See KeySource."""
        try:
            return self.find(lambda keys: keys.by_kid.get(kid), patience=_FETCH_SECONDS)
        except KeysAway:
            return None


class FileKeys(IssuerKeys):
    """The keys of a file, read again within half a second of its change. A broken file has no keys: fail closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._version: tuple[int, int, int] | None = None
        self._keys = KeySet()
        self._looked_at = _NEVER

    def find(self, pick: Pick, *, patience: float) -> Jwk | None:  # noqa: ARG002 (nothing is waited for)
        """See IssuerKeys."""
        with self._lock:
            now = time.monotonic()
            found = pick(self._keys)
            if now - self._looked_at >= LOOK_SECONDS or found is None:
                self._looked_at = now
                self._refresh()
                found = pick(self._keys)
            if self._version is None:
                raise KeysAway
            return found

    def look(self) -> KeySet:
        """See IssuerKeys."""
        return usable_keys(self._path.read_bytes())

    def known(self) -> tuple[int, float | None]:
        """See IssuerKeys. It looks at the file, as a token would make it do."""
        with suppress(KeysAway):
            self.find(lambda _: None, patience=0)
        return len(self._keys), None if self._version is None else 0.0

    def _refresh(self) -> None:
        try:
            facts = self._path.stat()
            version = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
            if version == self._version:
                return
            self._version, self._keys = version, self.look()
            self._tell(self._path, "")
        except (OSError, ValueError, RecursionError) as fault:
            self._keys, self._version = KeySet(), None
            self._tell(self._path, str(fault))


class GivenKeys(IssuerKeys):
    """The keys of a JWK set that is at hand. Raises ValueError where it is none."""

    def __init__(self, document: object) -> None:
        self._keys = keys_of(document)

    def find(self, pick: Pick, *, patience: float) -> Jwk | None:  # noqa: ARG002 (nothing is waited for)
        """See IssuerKeys."""
        return pick(self._keys)

    def known(self) -> tuple[int, float | None]:
        """See IssuerKeys."""
        return len(self._keys), 0.0

    def look(self) -> KeySet:
        """See IssuerKeys."""
        return self._keys


class _State(NamedTuple):
    """What is known of keys behind a URL. Instants are the clock's; `sure` means that the latest fetch succeeded."""

    keys: KeySet = KeySet()
    fetched_at: float = _NEVER
    tried_at: float = _NEVER
    sure: bool = False


class UrlKeys(IssuerKeys):
    """The keys behind a URL, or behind the one that an issuer's discovery document names, kept for five minutes.

    They are fetched by one thread in the background, and known keys never wait for it. An unknown kid makes it fetch
    again, at most every ten seconds, and a few calls at a time wait to hear of it. While the issuer cannot be reached,
    known keys serve for up to an hour; then there are none.
    """

    def __init__(
        self,
        url: str = "",
        *,
        issuer: str = "",
        ca_file: Path | None = None,
        bearer_token_file: Path | None = None,
        seconds: float = _FETCH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seconds` is the deadline of one fetch, with discovery. Raises ValueError without url and issuer."""
        if not is_safe_url(url or issuer):
            raise ValueError("needs the URL of keys or of an issuer, https or on loopback")
        self._url = url
        self._issuer = issuer
        self._documents = Documents(
            url or issuer, seconds=seconds, ca_file=ca_file, bearer_token_file=bearer_token_file
        )
        self._clock = clock
        self._lock = threading.Lock()
        self._state = _State()
        self._fetch: _Fetch | None = None
        self._places = threading.BoundedSemaphore(_WAITING)

    def find(self, pick: Pick, *, patience: float) -> Jwk | None:
        """See IssuerKeys."""
        state, now = self._state, self._clock()
        found = _found(state, pick, now)
        if found is not None and now - state.fetched_at <= _FRESH_SECONDS:
            return found
        fetch = self._fetching(now, unknown=found is None)
        # Where nobody has looked for long, keys may have been withdrawn long ago.
        forgotten = now - state.tried_at > 2 * _FRESH_SECONDS
        if fetch is not None and (found is None or forgotten) and patience > 0:
            self._wait(fetch, patience, first=state.fetched_at == _NEVER)
        found = _found(self._state, pick, self._clock())
        if found is None and not self._is_sure():
            raise KeysAway
        return found

    def look(self) -> KeySet:
        """See IssuerKeys. It fetches them, within the deadline of one fetch."""
        with self._documents.reading() as read:
            return keys_of(read(self._url or discovered(self._issuer, read)))

    def tend(self) -> None:
        """See IssuerKeys."""
        self._fetching(self._clock(), unknown=False)

    def known(self) -> tuple[int, float | None]:
        """See IssuerKeys. Keys that are too old to serve count no more."""
        state, now = self._state, self._clock()
        if state.fetched_at == _NEVER:
            return 0, None
        age = now - state.fetched_at
        return len(state.keys) if age <= _STALE_SECONDS else 0, age

    def _is_sure(self) -> bool:
        """Returns whether a key that is not among the known ones is not the issuer's."""
        with self._lock:
            under_way = self._fetch is not None and self._fetch.is_alive()
            state = self._state
            return state.sure and not under_way and self._clock() - state.fetched_at <= _STALE_SECONDS

    def _wait(self, fetch: _Fetch, patience: float, *, first: bool) -> None:
        if first:
            # Before there are keys, there is nobody whom those who wait could hold up.
            fetch.join(patience)
            return
        if not self._places.acquire(blocking=False):
            return
        try:
            fetch.join(patience)
        finally:
            self._places.release()

    def _fetching(self, now: float, *, unknown: bool) -> _Fetch | None:
        """Returns the fetch that is under way, after it has begun one if it is time for that."""
        with self._lock:
            # Not by a flag: a thread does not live on in a forked process.
            if self._fetch is not None and self._fetch.is_alive():
                return self._fetch
            age, tried = now - self._state.fetched_at, now - self._state.tried_at
            pause = _RETRY_SECONDS if age <= _STALE_SECONDS else _HEAL_SECONDS
            if not (unknown or age > _FRESH_SECONDS) or tried <= pause:
                return None
            self._state = self._state._replace(tried_at=now)
            self._fetch = _Fetch(self._fetched, now)
            self._fetch.start()
            return self._fetch

    def _fetched(self, now: float) -> None:
        try:
            keys = self.look()
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as fault:
            self._state = self._state._replace(sure=False)
            self._tell(self._url or self._issuer, f"{type(fault).__name__}: {fault}")
        else:
            self._state = self._state._replace(keys=keys, fetched_at=now, sure=True)
            self._tell(self._url or self._issuer, "")


class _Fetch(threading.Thread):
    def __init__(self, work: Callable[[float], None], now: float) -> None:
        super().__init__(target=work, args=(now,), name="issuer-keys", daemon=True)


def _found(state: _State, pick: Pick, now: float) -> Jwk | None:
    return pick(state.keys) if now - state.fetched_at <= _STALE_SECONDS else None


def usable_keys(content: bytes) -> KeySet:
    """Returns the signature keys of a JWK set. Raises ValueError where it is not one.

    Left out: symmetric keys, keys for another use, RSA keys under 2,048 bits.
    """
    return keys_of(json.loads(content))


def keys_of(document: object) -> KeySet:
    """As `usable_keys`, of the set that was parsed."""
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("not a JWK set")
    return KeySet(key for key in map(_usable, document["keys"]) if key is not None)


def _usable(entry: Any) -> Jwk | None:
    if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    if entry.get("use", "sig") != "sig" or not isinstance(entry.get("kid"), str | None):
        return None
    try:
        key = Jwk({name: value for name, value in entry.items() if name not in ("d", "p", "q", "dp", "dq", "qi")})
    except (PyJWTError, ValueError, TypeError):
        return None
    return None if getattr(key.key, "key_size", _MIN_RSA_BITS) < _MIN_RSA_BITS and entry["kty"] == "RSA" else key


__all__ = [
    "ASYMMETRIC",
    "FileKeys",
    "GivenKeys",
    "IssuerKeys",
    "Jwk",
    "KeySet",
    "KeySource",
    "KeysAway",
    "Pick",
    "UrlKeys",
    "is_safe_url",
    "keys_of",
    "pick_of",
    "usable_keys",
]
