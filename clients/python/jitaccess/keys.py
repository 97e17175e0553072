"""The public keys of issuers: JWK sets from files and URLs."""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from jwt import PyJWK, PyJWTError

_log = logging.getLogger(__name__)
_MAX_BYTES: Final = 256 * 1024
_TIMEOUT_SECONDS: Final = 3
_FRESH_SECONDS: Final = 300
_RETRY_SECONDS: Final = 10
_STALE_SECONDS: Final = 3600
LOOK_SECONDS: Final = 0.5
"""How often a file of keys is looked at for a change."""
_MIN_RSA_BITS: Final = 2048
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

Keys = dict[str, PyJWK]


class KeySource(Protocol):
    """Where an issuer's keys come from."""

    def key(self, kid: str) -> PyJWK | None:
        """Returns the key of that id, or None where the issuer has none such, or cannot be asked."""


class FileKeys:
    """The keys of a file, read again within half a second of its change. A broken file has no keys: fail closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._version: tuple[int, int, int] | None = None
        self._keys: Keys = {}
        self._looked_at = -float("inf")

    def key(self, kid: str) -> PyJWK | None:
        """See KeySource."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked_at >= LOOK_SECONDS or kid not in self._keys:
                self._looked_at = now
                self._refresh()
            return self._keys.get(kid)

    def _refresh(self) -> None:
        try:
            facts = self._path.stat()
            version = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
            if version == self._version:
                return
            self._version, self._keys = version, usable_keys(self._path.read_bytes())
        except (OSError, ValueError) as fault:
            self._keys, self._version = {}, None
            _log.warning("no keys from %s: %s", self._path, fault)


class GivenKeys:
    """The keys of a JWK set that is at hand. Raises ValueError where it is none."""

    def __init__(self, document: object) -> None:
        self._keys = keys_of(document)

    def key(self, kid: str) -> PyJWK | None:
        """See KeySource."""
        return self._keys.get(kid)


class UrlKeys:
    """The keys behind a URL, fetched without redirects and kept for five minutes.

    An unknown kid makes it fetch again, at most every ten seconds. While the issuer cannot be reached, known keys serve
    for up to an hour; then there are none.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._keys: Keys = {}
        self._fetched_at = -float("inf")
        self._tried_at = -float("inf")
        self._opener = urllib.request.build_opener(_NoRedirects)

    def key(self, kid: str) -> PyJWK | None:
        """See KeySource."""
        with self._lock:
            now = time.monotonic()
            wanted = kid not in self._keys or now - self._fetched_at > _FRESH_SECONDS
            if wanted and now - self._tried_at > _RETRY_SECONDS:
                self._fetch(now)
            return self._keys.get(kid) if now - self._fetched_at <= _STALE_SECONDS else None

    def _fetch(self, now: float) -> None:
        self._tried_at = now
        try:
            with self._opener.open(self._url, timeout=_TIMEOUT_SECONDS) as answer:
                content = answer.read(_MAX_BYTES + 1)
            if len(content) > _MAX_BYTES:
                raise ValueError(f"more than {_MAX_BYTES} bytes")
            self._keys, self._fetched_at = usable_keys(content), now
        except (OSError, ValueError) as fault:
            _log.warning("no keys from %s: %s", self._url, fault)


def is_safe_url(url: str) -> bool:
    """Says whether nobody on the way can change what is fetched: https, or http to this very machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    if parts.username is not None or not host:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Another host's keys are not this issuer's."""


def usable_keys(content: bytes) -> Keys:
    """Returns the signature keys of a JWK set by kid. Raises ValueError where it is not one.

    Left out: symmetric keys, keys for another use, RSA keys under 2,048 bits, keys without a kid or with one that
    stands twice.
    """
    return keys_of(json.loads(content))


def keys_of(document: object) -> Keys:
    """As `usable_keys`, of the set that was parsed."""
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("not a JWK set")
    keys: Keys = {}
    twice = set()
    for entry in document["keys"]:
        key = _usable(entry)
        if key is None or key.key_id is None:
            continue
        if key.key_id in keys:
            twice.add(key.key_id)
        keys[key.key_id] = key
    return {kid: key for kid, key in keys.items() if kid not in twice}


def _usable(entry: Any) -> PyJWK | None:
    if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    if entry.get("use", "sig") != "sig" or not isinstance(entry.get("kid"), str):
        return None
    try:
        key = PyJWK({name: value for name, value in entry.items() if name not in ("d", "p", "q", "dp", "dq", "qi")})
    except (PyJWTError, ValueError, TypeError):
        return None
    return None if getattr(key.key, "key_size", _MIN_RSA_BITS) < _MIN_RSA_BITS and entry["kty"] == "RSA" else key
