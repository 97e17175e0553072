"""The private keys that sign tokens: made here, and sealed with AES-256-GCM before they are stored.

The sealing key is 32 random bytes in a key file, which is not in the database; the hosts of one service share the file.
A row of the database counts as a signing key only if the sealing key opens it. So whoever can write to the database,
but cannot read the file, can neither sign a token nor publish a key.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import shlex
import subprocess
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
from jit_service.configuration.secret_file import demand_private, shown_path
from jit_service.domain.errors import KeysUnavailable
from jit_service.domain.tokens.signing_key import SigningKey

_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_SECONDS: Final = 30
_PURPOSE: Final = b"jitaccess token signing key "


class KeyFileError(ValueError):
    """The key file cannot be used. The message is one line, and shows no part of the file's content."""


class KeyRing:
    """Makes, seals and opens keys. `secret` is 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(secret)
        self._open: dict[str, tuple[bytes, ec.EllipticCurvePrivateKey]] = {}

    def new(self, *, now: datetime, signs_at: datetime) -> SigningKey:
        """Returns a new P-256 key, sealed."""
        private = ec.generate_private_key(ec.SECP256R1())
        kid = _thumbprint(private)
        plain = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, plain, _PURPOSE + kid.encode())
        return SigningKey(kid=kid, created_at=now, signs_at=signs_at, sealed=sealed)

    def public(self, key: SigningKey) -> dict[str, Any]:
        """Returns the public key as a JWK. Raises KeysUnavailable if this ring cannot open the key."""
        return _jwk(self._opened(key)) | {"kid": key.kid, "use": "sig", "alg": "ES256"}

    def sign(self, key: SigningKey, claims: dict[str, Any], *, typ: str = "at+jwt") -> str:
        """Returns a signed token with the claims, by default an access token (RFC 9068). Raises KeysUnavailable."""
        return jwt.encode(claims, self._opened(key), algorithm="ES256", headers={"kid": key.kid, "typ": typ})

    def _opened(self, key: SigningKey) -> ec.EllipticCurvePrivateKey:
        known = self._open.get(key.kid)
        if known is not None and known[0] == key.sealed:
            return known[1]
        opened = self._unsealed(key)
        self._open[key.kid] = (key.sealed, opened)
        return opened

    def _unsealed(self, key: SigningKey) -> ec.EllipticCurvePrivateKey:
        nonce, rest = key.sealed[:_NONCE_BYTES], key.sealed[_NONCE_BYTES:]
        try:
            plain = self._cipher.decrypt(nonce, rest, _PURPOSE + key.kid.encode())
        except (InvalidTag, ValueError):
            raise KeysUnavailable(f"the key file does not open signing key {key.kid}") from None
        private = load_der_private_key(plain, password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey) or _thumbprint(private) != key.kid:
            raise KeysUnavailable(f"signing key {key.kid} is not what its name says")
        return private


def secret_of(path: Path) -> bytes:
    """Returns the 32 bytes of the file. Raises KeyFileError."""
    try:
        text = path.read_text(encoding="ascii")
        demand_private(path)
    except (OSError, UnicodeDecodeError) as fault:
        raise KeyFileError(f"the key file cannot be read: {shown_path(path)} ({type(fault).__name__})") from fault
    except ValueError as fault:
        raise KeyFileError(f"the key file {fault}") from None
    secret = _decoded(text)
    if len(secret) != _BYTES:
        raise KeyFileError(
            f"the key file {path} does not hold {_BYTES} bytes in base64; `openssl rand -base64 32` does"
        )
    return secret


def secret_by(command: str) -> bytes:
    """Returns the 32 bytes that the command prints in base64, as a key file holds them. Raises KeyFileError.

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
    secret = _decoded(done.stdout.decode("ascii", errors="replace"))
    if len(secret) != _BYTES:
        raise KeyFileError(f"JIT_KEY_COMMAND: {words[0]} printed {len(done.stdout)} bytes, not {_BYTES} in base64")
    return secret


def _decoded(text: str) -> bytes:
    """Returns what the base64 text says, nothing if it is none."""
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def ring_of(path: Path) -> KeyRing:
    """Returns the key ring whose sealing key the file holds. Raises KeyFileError."""
    return KeyRing(secret_of(path))


def make_key_file(path: Path) -> None:
    """Makes the file with mode 0600, unless it exists."""
    if path.exists():
        return
    # If two processes do this at the same time, the first one's file stays.
    with suppress(FileExistsError):
        durable_file.write_new(path, base64.b64encode(secrets.token_bytes(_BYTES)) + b"\n")


def _jwk(private: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    return dict(jwt.algorithms.ECAlgorithm.to_jwk(private.public_key(), as_dict=True))


def _thumbprint(private: ec.EllipticCurvePrivateKey) -> str:
    """Returns the thumbprint of the public key (RFC 7638)."""
    members = {name: value for name, value in _jwk(private).items() if name in ("crv", "kty", "x", "y")}
    digest = sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
