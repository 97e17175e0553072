"""How strongly and how lately reviewers must have authenticated, and what their tokens say of that.

Read are three claims, `acr`, `amr` and `auth_time` (OpenID Connect Core, 2; access tokens have them by RFC 9068,
2.2.1), under these names and at the top of the token only. A client whose user is refused asks the provider for a
step-up by them (RFC 9470).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from jit_service.domain.errors import InvalidField
from jit_service.domain.language.faults import Faults

MAX_VALUES: Final = 20
"""How many values a rule may name, and how many of `amr` are read of a token."""
MAX_AGE: Final = timedelta(days=30)
SKEW: Final = timedelta(seconds=60)
"""By how much the clock of the provider may be ahead, as for the other instants of its tokens."""
_SECOND: Final = timedelta(seconds=1)
# Values are sent to the provider in one parameter, separated by spaces.
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


@dataclass(frozen=True, kw_only=True)
class ReviewAssurance:
    """What the token of whoever approves must say. What is empty asks for nothing.

    Its `acr` must be one of these, its `amr` must have all of these, and its `auth_time` must be less than `max_age`
    ago. `acr` is in order of preference.
    """

    acr: tuple[str, ...] = ()
    amr: tuple[str, ...] = ()
    max_age: timedelta = timedelta()

    def is_met(self, shown: Authentication | None) -> bool:
        """Returns whether the authentication suffices. What is not known does not."""
        return not self.lacking(shown or Authentication())

    def lacking(self, shown: Authentication) -> list[str]:
        """Returns what the authentication lacks, in words for its holder. It quotes nothing of the token."""
        lacks = []
        if self.acr and shown.acr not in self.acr:
            found = "another acr" if shown.acr else "no acr"
            lacks.append(f"its acr must be {' or '.join(self.acr)}, and it has {found}")
        if missing := [value for value in self.amr if value not in shown.amr]:
            lacks.append(f"its amr must have {', '.join(self.amr)}, and lacks {', '.join(missing)}")
        if self.max_age and (shown.age is None or shown.age >= self.max_age):
            told = f"it is {_seconds(shown.age)} s ago" if shown.age is not None else "there is none that counts"
            lacks.append(f"its auth_time must be less than {_seconds(self.max_age)} s ago, and {told}")
        return lacks

    @property
    def challenge(self) -> dict[str, str]:
        """What a client asks the provider for: `acr_values` and `max_age` of RFC 9470, and `amr_values` beside them."""
        asked = {
            "acr_values": " ".join(self.acr),
            "amr_values": " ".join(self.amr),
            "max_age": str(_seconds(self.max_age)) if self.max_age else "",
        }
        return {name: value for name, value in asked.items() if value}


def authentication(claims: Mapping[str, Any], *, now: datetime) -> Authentication:
    """Returns what the claims of a token say of how its holder authenticated.

    A claim of another form counts as absent: an `acr` or a value of `amr` that is not 1 to 256 printable ASCII
    characters without space, more than 20 values of `amr`, an `auth_time` that is no number of seconds or lies more
    than 60 s ahead.
    """
    acr, amr = claims.get("acr"), claims.get("amr")
    is_list = isinstance(amr, list | tuple) and len(amr) <= MAX_VALUES and all(map(_is_value, amr))
    at = _instant(claims.get("auth_time"), now)
    return Authentication(
        acr=acr if isinstance(acr, str) and _is_value(acr) else "",
        amr=tuple(amr or ()) if is_list else (),
        age=None if at is None else max(now - at, timedelta()),
        at=at,
    )


def normalize_assurance(rule: ReviewAssurance | None) -> ReviewAssurance | None:
    """Returns the rule with each value once. Raises InvalidField with every fault."""
    if rule is None:
        return None
    faults = Faults()
    if rule == ReviewAssurance():
        faults.add(InvalidField("review_assurance", "asks for nothing; give acr, amr or max_age"))
    acr = faults.keep((), _normalize_values, rule.acr, "review_assurance.acr")
    amr = faults.keep((), _normalize_values, rule.amr, "review_assurance.amr")
    if rule.max_age and (not _SECOND <= rule.max_age <= MAX_AGE or rule.max_age % _SECOND):
        fault = f"is {rule.max_age.total_seconds():g}s; whole seconds from 1s to {_seconds(MAX_AGE)}s are allowed"
        faults.add(InvalidField("review_assurance.max_age", fault))
    faults.demand_none()
    return replace(rule, acr=acr, amr=amr)


def _normalize_values(values: Sequence[str], field: str) -> tuple[str, ...]:
    if len(values) > MAX_VALUES:
        raise InvalidField(field, f"has {len(values)} entries; at most {MAX_VALUES} are allowed")
    faults = Faults()
    for index, value in enumerate(values):
        if not _is_value(value):
            fault = f"is {value!a}; 1 to 256 printable ASCII characters without space are allowed"
            faults.add(InvalidField(f"{field}[{index}]", fault))
    faults.demand_none()
    return tuple(dict.fromkeys(values))


def _is_value(value: object) -> bool:
    return isinstance(value, str) and _VALUE.fullmatch(value) is not None


def _instant(auth_time: object, now: datetime) -> datetime | None:
    if isinstance(auth_time, bool) or not isinstance(auth_time, int | float):
        return None
    if not (math.isfinite(auth_time) and 0 <= auth_time <= _LAST_SECOND):
        return None
    at = datetime.fromtimestamp(auth_time, UTC)
    return at if at <= now + SKEW else None


def _seconds(span: timedelta) -> int:
    return span // _SECOND
