"""How many examples a property is tried with: few in the whole suite, and TIMES as many in `make properties`."""

from __future__ import annotations

import os
from typing import Final

_TIMES: Final = int(os.environ.get("TIMES", "1"))


def examples(few: int) -> int:
    """Returns so many, or TIMES as many where the environment says so."""
    return few * _TIMES
