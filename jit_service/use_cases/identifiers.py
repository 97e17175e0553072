"""Names that the service chooses."""

from __future__ import annotations

import base64
import secrets


def new_name(collection: str) -> str:
    """Returns `collection/ID`, which nobody can guess: 128 random bits in 26 characters of a-z and 2-7."""
    return f"{collection}/" + base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()
