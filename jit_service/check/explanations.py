"""The ended grants that explain a no: those of the subjects that were asked about lately, and no more than a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from jit_service.domain.checks.ended_grant import EndedGrant

MAX_KEPT: Final = 20_000
"""How many ended grants are kept, at about 1 KiB each; a subject without any counts as one."""


class Explanations:
    """Which subjects have ended grants, and the ended grants of those asked about latest. One thread at a time."""

    __slots__ = ("_count", "_kept", "_subjects")

    def __init__(self) -> None:
        self._subjects: set[str] = set()
        self._kept: OrderedDict[str, tuple[EndedGrant, ...]] = OrderedDict()
        self._count = 0

    def of(self, subject: str) -> tuple[EndedGrant, ...] | None:
        """Returns the subject's ended grants; None if they must be read from the store."""
        if subject not in self._subjects:
            return ()
        known = self._kept.get(subject)
        if known is not None:
            self._kept.move_to_end(subject)
        return known

    def keep(self, subject: str, found: tuple[EndedGrant, ...]) -> None:
        """Keeps what was read, and drops what was asked for longest ago if there are too many."""
        self.drop(subject)
        self._kept[subject] = found
        self._count += _weight(found)
        while self._count > MAX_KEPT and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._count -= _weight(dropped)

    def add_subjects(self, subjects: Iterable[str]) -> None:
        """Takes note that these subjects have ended grants."""
        self._subjects.update(subjects)

    def drop(self, subject: str) -> None:
        """Drops the subject's grants, which have changed; they are read again when they are next needed."""
        dropped = self._kept.pop(subject, None)
        if dropped is not None:
            self._count -= _weight(dropped)

    def drop_all(self) -> None:
        """Drops the grants of all subjects."""
        self._kept.clear()
        self._count = 0

    def clear(self) -> None:
        """Forgets also who has any."""
        self.drop_all()
        self._subjects.clear()


def _weight(found: tuple[EndedGrant, ...]) -> int:
    return len(found) or 1
