"""How whoever a token proves had logged in, as far as the token says so.

Read are three claims, `acr`, `amr` and `auth_time` (OpenID Connect Core, 2; access tokens have them by RFC 9068,
2.2.1), under these names and at the top of the token only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

MAX_METHODS: Final = 20
"""How many values of `amr` are read of a token."""
SKEW: Final = timedelta(seconds=60)
"""By how much the clock of the provider may be ahead, as for the other instants of its tokens."""
# A policy's values are sent to the provider in one parameter, separated by spaces.
_VALUE: Final = re.compile(r"[\x21-\x7e]{1,256}")
_LAST_SECOND: Final = 253_402_300_799


@dataclass(frozen=True, kw_only=True)
class Authentication:
    """What a token says of how its holder authenticated. Empty and None: it does not say, or not so that it counts.

    `age` is how long before the decision that was, at `at`; a provider whose clock is a little ahead makes it zero.
    """

    acr: str = ""
    amr: tuple[str, ...] = ()
    age: timedelta | None = None
    at: datetime | None = None


def authentication(claims: Mapping[str, Any], *, now: datetime) -> Authentication:
    """Returns what the claims of a token say of how its holder authenticated.

    A claim of another form counts as absent: an `acr` or a value of `amr` that is not 1 to 256 printable ASCII
    characters without space, more than 20 values of `amr`, an `auth_time` that is no number of seconds or lies more
    than 60 s ahead.
    """
    acr, amr = claims.get("acr"), claims.get("amr")
    is_list = isinstance(amr, list | tuple) and len(amr) <= MAX_METHODS and all(map(is_value, amr))
    at = _instant(claims.get("auth_time"), now)
    return Authentication(
        acr=acr if isinstance(acr, str) and is_value(acr) else "",
        amr=tuple(amr or ()) if is_list else (),
        age=None if at is None else max(now - at, timedelta()),
        at=at,
    )


def is_value(value: object) -> bool:
    """Returns whether it may be an `acr` or one of `amr`: 1 to 256 printable ASCII characters without space."""
    return isinstance(value, str) and _VALUE.fullmatch(value) is not None


def _instant(auth_time: object, now: datetime) -> datetime | None:
    if isinstance(auth_time, bool) or not isinstance(auth_time, int | float):
        return None
    if not (math.isfinite(auth_time) and 0 <= auth_time <= _LAST_SECOND):
        return None
    at = datetime.fromtimestamp(auth_time, UTC)
    return at if at <= now + SKEW else None
