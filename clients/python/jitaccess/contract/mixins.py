"""What the generated values of `model` can do besides holding the fields of their messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jitaccess.contract.model import PolicyTestResult, StepStatus
    from jitaccess.errors import JitError

# The fields are annotated for type checkers only: each value declares its own.


class Named:
    """Has a name, `collection/ID`."""

    if TYPE_CHECKING:
        name: str

    @property
    def id(self) -> str:
        """The last segment of the name."""
        return self.name.rpartition("/")[2]


class NamedWithSteps(Named):
    """Is named, and under review in steps."""

    if TYPE_CHECKING:
        steps: tuple[StepStatus, ...]

    @property
    def approvals_remaining(self) -> int:
        """How many approvals are missing, over all steps."""
        return sum(step.approvals_remaining for step in self.steps)


class TrueIfAllowed:
    """Is true where it is a yes."""

    if TYPE_CHECKING:
        allowed: bool
        error: JitError | None

    def __bool__(self) -> bool:
        return self.allowed and self.error is None


class TrueIfPassed:
    """Is true where all is as expected."""

    if TYPE_CHECKING:
        passed: bool

    def __bool__(self) -> bool:
        return self.passed


class TrueIfAllPassed:
    """Is true where each result is."""

    if TYPE_CHECKING:
        failed_count: int
        results: tuple[PolicyTestResult, ...]

    def __bool__(self) -> bool:
        return not self.failed_count and all(self.results)


class TrueIfValid:
    """Is true where nothing is wrong."""

    if TYPE_CHECKING:
        valid: bool

    def __bool__(self) -> bool:
        return self.valid
