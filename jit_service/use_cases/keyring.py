"""The private keys that sign tokens: made here, and sealed with AES-256-GCM before they are stored.

The sealing key is 32 random bytes in a key file, which is not in the database; the hosts of one service share the file.
A row of the database counts as a signing key only if the sealing key opens it that is in effect. So whoever can write
to the database, but cannot read the file, can neither sign a token nor publish a key.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import secrets
import shlex
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from jit_service.configuration import durable_file
from jit_service.configuration.fresh_file import FreshFile
from jit_service.configuration.secret_file import demand_private, shown_path
from jit_service.domain.errors import KeysUnavailable
from jit_service.domain.frozen import replace
from jit_service.domain.tokens.signing_key import SigningKey
from jit_service.storage.sealing_keys import SealingKeys, Source

_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_SECONDS: Final = 30
_RUN_AGAIN_SECONDS: Final = 10.0
_MOST: Final = 16
_PURPOSE: Final = b"jitaccess token signing key "
_log = logging.getLogger(__name__)


class KeyFileError(ValueError):
    """The key file cannot be used. The message is one line, and shows no part of the file's content."""


class KeyRing:
    """Makes, seals and opens keys that sign tokens, with the sealing keys that this host has."""

    def __init__(self, keys: SealingKeys) -> None:
        self._keys = keys
        self._open: dict[str, tuple[bytes, str, ec.EllipticCurvePrivateKey]] = {}

    def new(self, *, now: datetime, signs_at: datetime, under: str) -> SigningKey:
        """Returns a new P-256 key, sealed with the sealing key of the id `under`. Raises KeysUnavailable."""
        private = ec.generate_private_key(ec.SECP256R1())
        kid = _thumbprint(private)
        sealed = self._sealed(private, kid, under)
        return SigningKey(kid=kid, created_at=now, signs_at=signs_at, sealed=sealed, sealing_key=under)

    def sealed_anew(self, key: SigningKey, *, under: str) -> SigningKey:
        """Returns the key, sealed with the sealing key of the id `under`. Raises KeysUnavailable."""
        return replace(key, sealed=self._sealed(self._opened(key), key.kid, under), sealing_key=under)

    def public(self, key: SigningKey) -> dict[str, Any]:
        """Returns the public key as a JWK. Raises KeysUnavailable if this ring cannot open the key."""
        return _jwk(self._opened(key)) | {"kid": key.kid, "use": "sig", "alg": "ES256"}

    def sign(self, key: SigningKey, claims: dict[str, Any], *, typ: str = "at+jwt") -> str:
        """Returns a signed token with the claims, by default an access token (RFC 9068). Raises KeysUnavailable."""
        return jwt.encode(claims, self._opened(key), algorithm="ES256", headers={"kid": key.kid, "typ": typ})

    def _opened(self, key: SigningKey) -> ec.EllipticCurvePrivateKey:
        known = self._open.get(key.kid)
        if known is not None and known[:2] == (key.sealed, key.sealing_key):
            return known[2]
        opened = self._unsealed(key)
        self._open[key.kid] = (key.sealed, key.sealing_key, opened)
        return opened

    def _sealed(self, private: ec.EllipticCurvePrivateKey, kid: str, under: str) -> bytes:
        plain = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher(under, kid).encrypt(nonce, plain, _PURPOSE + kid.encode())

    def _cipher(self, sealing_key: str, kid: str) -> AESGCM:
        secret = self._keys.secret(sealing_key)
        if secret is None:
            raise KeysUnavailable(f"signing key {kid} is sealed with key {sealing_key}, which this host has not got")
        return AESGCM(secret)

    def _unsealed(self, key: SigningKey) -> ec.EllipticCurvePrivateKey:
        nonce, rest = key.sealed[:_NONCE_BYTES], key.sealed[_NONCE_BYTES:]
        try:
            plain = self._cipher(key.sealing_key, key.kid).decrypt(nonce, rest, _PURPOSE + key.kid.encode())
        except (InvalidTag, ValueError):
            raise KeysUnavailable(f"the key file does not open signing key {key.kid}") from None
        private = load_der_private_key(plain, password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey) or _thumbprint(private) != key.kid:
            raise KeysUnavailable(f"signing key {key.kid} is not what its name says")
        return private


def secrets_of(path: Path) -> tuple[bytes, ...]:
    """Returns the keys of the file, each of 32 bytes, the newest first. Raises KeyFileError.

    A line is a key in base64; empty lines, and those that begin with `#`, say nothing.
    """
    try:
        text = path.read_text(encoding="ascii")
        demand_private(path)
    except (OSError, UnicodeDecodeError) as fault:
        raise KeyFileError(f"the key file cannot be read: {shown_path(path)} ({type(fault).__name__})") from fault
    except ValueError as fault:
        raise KeyFileError(f"the key file {fault}") from None
    try:
        return _keys_in(text)
    except ValueError as fault:
        raise KeyFileError(f"the key file {path} {fault}; `openssl rand -base64 32` makes one") from None


def secrets_by(command: str) -> tuple[bytes, ...]:
    """Returns the keys that the command prints as a key file holds them. Raises KeyFileError.

    No shell runs it. What it prints, on stderr too, is nowhere shown: it may be a part of the key, or of a PIN.
    """
    try:
        words = shlex.split(command)
    except ValueError as fault:
        raise KeyFileError(f"JIT_KEY_COMMAND is not quoted as for a shell: {fault}") from None
    try:
        # The operator's own command, from the settings.
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise KeyFileError(f"JIT_KEY_COMMAND: {words[0]} gave no key in {_SECONDS} s") from None
    except (OSError, IndexError) as fault:
        reason = getattr(fault, "strerror", None) or "it is empty"
        raise KeyFileError(f"JIT_KEY_COMMAND cannot be run: {reason}") from None
    if done.returncode != 0:
        ended = f"status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise KeyFileError(f"JIT_KEY_COMMAND: {words[0]} ended with {ended}; run it by hand to see what it says")
    try:
        return _keys_in(done.stdout.decode("ascii", errors="replace"))
    except ValueError as fault:
        raise KeyFileError(
            f"JIT_KEY_COMMAND: {words[0]} printed {len(done.stdout)} bytes; what it printed {fault}"
        ) from None


def fresh_secrets_by(command: str) -> Source:
    """Returns what gives the keys of the command: those of its last run, or after a while of another one.

    A run that fails is logged, and the keys stay what they were; only the first raises KeyFileError.
    """
    secrets, ran_at = secrets_by(command), time.monotonic()

    def again() -> Sequence[bytes]:
        nonlocal secrets, ran_at
        if time.monotonic() - ran_at >= _RUN_AGAIN_SECONDS:
            try:
                secrets = secrets_by(command)
            except KeyFileError as fault:
                _log.warning("%s; the keys of before hold", fault)
            ran_at = time.monotonic()
        return secrets

    return again


def fresh_secrets_of(path: Path) -> Source:
    """Returns what gives the keys of the file as it is now; a broken one is logged, and what it held before holds.

    Raises KeyFileError.
    """
    return FreshFile(path, secrets_of).content


def _keys_in(text: str) -> tuple[bytes, ...]:
    """Returns the keys of the lines. Raises ValueError, whose message quotes none of it."""
    lines = [line.strip() for line in text.splitlines()]
    keys = [_decoded(line) for line in lines if line and not line.startswith("#")]
    if not keys or any(len(key) != _BYTES for key in keys):
        raise ValueError(f"does not hold {_BYTES} bytes in base64, or a line of so many for each key")
    if len(set(keys)) < len(keys):
        raise ValueError("has the same key twice")
    if len(keys) > _MOST:
        raise ValueError(f"has {len(keys)} keys; {_MOST} are allowed")
    return tuple(keys)


def _decoded(text: str) -> bytes:
    """Returns what the base64 text says, nothing if it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def new_key() -> str:
    """Returns a new key as a line of a key file."""
    return base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def make_key_file(path: Path) -> None:
    """Makes the file with mode 0600, unless it exists."""
    if path.exists():
        return
    # If two processes do this at the same time, the first one's file stays.
    with suppress(FileExistsError):
        durable_file.write_new(path, f"{new_key()}\n".encode())


def _jwk(private: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    return dict(jwt.algorithms.ECAlgorithm.to_jwk(private.public_key(), as_dict=True))


def _thumbprint(private: ec.EllipticCurvePrivateKey) -> str:
    """Returns the thumbprint of the public key (RFC 7638)."""
    members = {name: value for name, value in _jwk(private).items() if name in ("crv", "kty", "x", "y")}
    digest = sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
