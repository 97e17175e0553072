"""Finds the subjects whose grants reach a resource, without a look at all grants."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from jit_service.domain.checks.cached_grant import CachedGrant
from jitaccess.naming.pattern_table import PatternTable

_SEPARATOR: Final = "/"
_FEW: Final = 1_000


class Holders:
    """The subjects of grants, by each resource and pattern that these name. One thread at a time may use it."""

    def __init__(self) -> None:
        # Most resources are named by one grant: then it is that grant's subject, else each subject's number of grants.
        self._by_text: dict[str, str | dict[str, int]] = {}
        self._patterns: set[str] = set()
        self._table: PatternTable[str] = PatternTable(_SEPARATOR)
        # What is in the table, with patterns that no grant names any more.
        self._in_table: set[str] = set()

    def of(self, resource: str) -> Collection[str]:
        """Returns the subjects with a grant that names the resource, or a pattern that matches it, each once."""
        texts = {resource, *self._table.matching(resource)}
        found = [there for text in texts if (there := self._by_text.get(text)) is not None]
        each = [(there,) if isinstance(there, str) else there.keys() for there in found]
        return each[0] if len(each) == 1 else set().union(*each)

    def add(self, grant: CachedGrant) -> None:
        """Adds a grant."""
        subject = grant.subject
        for text in set(grant.resources):
            there = self._by_text.get(text)
            if there is None:
                self._by_text[text] = subject
                if "*" in text:
                    self._add_pattern(text)
                continue
            if isinstance(there, str):
                there = self._by_text[text] = {there: 1}
            there[subject] = there.get(subject, 0) + 1

    def remove(self, grant: CachedGrant) -> None:
        """Removes a grant that was added."""
        for text in set(grant.resources):
            there = self._by_text[text]
            if not isinstance(there, str):
                there[grant.subject] -= 1
                if not there[grant.subject]:
                    del there[grant.subject]
            if isinstance(there, str) or not there:
                del self._by_text[text]
                self._patterns.discard(text)

    def _add_pattern(self, text: str) -> None:
        self._patterns.add(text)
        new = {text} - self._in_table
        if len(self._in_table) > 2 * len(self._patterns) + _FEW:
            # Most of its patterns are gone. To make it anew costs less than it took to add those.
            self._table, self._in_table = PatternTable(_SEPARATOR), set()
            new = self._patterns
        for pattern in new:
            self._table.add(pattern, pattern)
        self._in_table.update(new)
