"""Names that the service chooses."""

from __future__ import annotations

import base64
import secrets
from typing import Final

_IN_ORDER: Final = str.maketrans("0123456789abcdefghijklmnopqrstuv", "234567abcdefghijklmnopqrstuvwxyz")


def new_name(collection: str) -> str:
    """Returns `collection/ID`, which nobody can guess: 128 random bits in 26 characters of a-z and 2-7."""
    return f"{collection}/" + base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()


def name_in_order(collection: str, revision: int) -> str:
    """Returns a name as `new_name` does, with 80 random bits, that sorts after those of earlier revisions.

    So what was made at one instant, as while a clock that was set back catches up, is still listed in its order.
    """
    bits = revision.to_bytes(6, "big") + secrets.token_bytes(10)
    return f"{collection}/" + base64.b32hexencode(bits).decode().rstrip("=").lower().translate(_IN_ORDER)
