"""How strongly and how lately reviewers must have authenticated, by what their tokens say of that.

A client whose user is refused asks the provider for a step-up by the same claims (RFC 9470).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from jit_service.domain.authentication import Authentication, is_value
from jit_service.domain.errors import InvalidField
from jit_service.domain.language.faults import Faults

MAX_VALUES: Final = 20
"""How many values a rule may name."""
MAX_AGE: Final = timedelta(days=30)
_SECOND: Final = timedelta(seconds=1)


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
        if not is_value(value):
            fault = f"is {value!a}; 1 to 256 printable ASCII characters without space are allowed"
            faults.add(InvalidField(f"{field}[{index}]", fault))
    faults.demand_none()
    return tuple(dict.fromkeys(values))


def _seconds(span: timedelta) -> int:
    return span // _SECOND
