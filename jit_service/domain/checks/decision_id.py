"""The ids of decisions: UUIDs of version 7, which begin with the instant, so that a record is found by its id alone.

https://www.rfc-editor.org/rfc/rfc9562#section-5.7
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_FORM: Final = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
# Maps a random hexadecimal digit to a valid variant digit, which is one of 8, 9, a and b.
_VARIANT: Final = dict(zip("0123456789abcdef", 4 * "89ab", strict=True))
_RANDOM_DIGITS: Final = 20


def decision_ids(count: int, *, at: datetime) -> list[str]:
    """Returns ids of decisions at the instant, each with 74 random bits.

    Made by hand, since any library takes longer than the decision.
    """
    digits = os.urandom(_RANDOM_DIGITS // 2 * count).hex()
    since = f"{(at - _EPOCH) // _MILLISECOND:012x}"
    begin = f"{since[:8]}-{since[8:]}-7"
    return [begin + _rest(digits[place : place + _RANDOM_DIGITS]) for place in range(0, len(digits), _RANDOM_DIGITS)]


def decided_at(decision_id: str) -> datetime | None:
    """Returns the instant of the decision, cut to a millisecond; None for an id that does not tell it."""
    found = _FORM.fullmatch(decision_id)
    return None if found is None else _EPOCH + int(found[1] + found[2], 16) * _MILLISECOND


def _rest(digits: str) -> str:
    return f"{digits[:3]}-{_VARIANT[digits[3]]}{digits[4:7]}-{digits[7:19]}"
