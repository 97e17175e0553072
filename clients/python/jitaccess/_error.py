"""The errors that every package of the client raises, and the field that an error is about.

They stand apart from `jitaccess.errors`, which has the whole tree, so that `jose` can raise them and the tree can hold
what `jose` defines. Tracebacks name them as programs import them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from jitaccess.naming.names import BadName

if TYPE_CHECKING:
    from google.protobuf.message import Message


class FieldViolation(NamedTuple):
    """One field that was refused: its path in the message, and what is wrong with it."""

    field: str
    description: str


class JitError(Exception):
    """A call that gave no answer.

    `code` is the gRPC status by name, `reason` the machine-readable cause (the code where the service gave none),
    `metadata` what a program may want to know of it, `status` the google.rpc.Status as received, if any.
    """

    default_code: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: str = "",
        metadata: Mapping[str, str] | None = None,
        field_violations: tuple[FieldViolation, ...] = (),
        status: Message | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.reason = reason or self.code
        self.metadata = dict(metadata or {})
        self.field_violations = field_violations
        self.status = status

    def __str__(self) -> str:
        return f"{self.message} ({self.reason})"


class Misconfigured(JitError):
    """The client cannot be set up from what it was given. Nothing was sent."""

    default_code = "INVALID_ARGUMENT"


class InvalidArgument(JitError):
    """The call itself is wrong: malformed, out of range, or impossible."""

    default_code = "INVALID_ARGUMENT"


def invalid_field(field: str, fault: str) -> InvalidArgument:
    """Returns the error for one field, as the service words it."""
    return InvalidArgument(
        f"{field}: {fault}", reason="INVALID_FIELD", field_violations=(FieldViolation(field, fault),)
    )


def named(check: Callable[[str], str], text: str, field: str) -> str:
    """Returns the name in its canonical form, by a check of `jitaccess.naming.names`. Raises InvalidArgument."""
    try:
        return check(text)
    except BadName as fault:
        raise invalid_field(field, str(fault)) from None


for _kind in (FieldViolation, JitError, Misconfigured, InvalidArgument):
    _kind.__module__ = "jitaccess.errors"
