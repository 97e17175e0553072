"""What holds of every refusal of the domain that a test brings about, whichever rule it comes from."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from jit_service.domain import errors
from jit_service.domain.errors import InvalidField, JitError

# The path of a field in a message: `steps[1].approvers.groups`.
_FIELD = re.compile(r"[a-z][a-z_]*(\[[^]]*\])?(\.[\w<>*-]+(\[[^]]*\])?)*")

# What a program finds in the metadata of these, wherever they are raised.
CARRIED: dict[type[JitError], set[str]] = {
    errors.ConditionNotMet: {"policy"},
    errors.DeniedByPolicy: {"policy"},
    errors.ExtensionCap: {"grant"},
    errors.Locked: {"lock"},
    errors.PolicyNoLongerAllows: {"grant", "policy"},
    errors.ReviewOverdue: {"grant", "subject"},
    errors.StaleEtag: {"etag"},
    errors.TokenNotPossible: {"grant"},
    errors.TooManyChildren: {"grant"},
    errors.TooManyUnreviewed: {"grant", "subject"},
    errors.Unsatisfiable: {"policy"},
}


def _raised_by_the_domain() -> bool:
    """Whether the error is made in the service, and not by a test that needs one."""
    return str(sys._getframe(2).f_globals["__name__"]).startswith("jit_service.")


@pytest.fixture(scope="package", autouse=True)
def every_refusal_is_in_words() -> Iterator[None]:
    """A message is a part of a sentence, as it stands behind a reason; metadata is text; a field has its path."""
    refusal, refusal_of_field = JitError.__init__, InvalidField.__init__

    def in_words(self: JitError, message: str, **metadata: str) -> None:
        if _raised_by_the_domain():
            assert re.fullmatch(r"[^A-Z\s].*[^\s.]", message, re.DOTALL), message
            assert all(isinstance(value, str) and value for value in metadata.values()), metadata
            assert metadata.keys() >= CARRIED.get(type(self), set()), metadata
        refusal(self, message, **metadata)

    def of_a_field(self: InvalidField, field: str, fault: str, **rest: Any) -> None:
        if _raised_by_the_domain():
            assert re.fullmatch(r"[^A-Z\s].*", fault, re.DOTALL), fault
            assert _FIELD.fullmatch(field), field
        refusal_of_field(self, field, fault, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JitError, "__init__", in_words)
        patch.setattr(InvalidField, "__init__", of_a_field)
        yield
