"""Finds which of many patterns match a name, by a tree of their segments."""

from __future__ import annotations

from typing import Generic, TypeVar

Value = TypeVar("Value")


class PatternTable(Generic[Value]):
    """Values, each under a pattern (see `pattern`).

    A lookup takes as long as the name is deep, however many patterns there are, unless many of them match the name.
    """

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._root: _Node[Value] = _Node()

    def add(self, pattern: str, value: Value) -> None:
        """Puts the value under the pattern, or the name."""
        node = self._root
        for segment in pattern.split(self._separator):
            if segment == "**":
                node.rest.append(value)
                return
            below = node.begun if segment.endswith("*") else node.named
            node = below.setdefault(segment.removesuffix("*"), _Node())
        node.ends.append(value)

    def matching(self, name: str) -> list[Value]:
        """Returns the values under every pattern that matches the name, and under the name itself."""
        found: list[Value] = []
        nodes = [self._root]
        for segment in name.split(self._separator):
            found += [value for node in nodes for value in node.rest]
            nodes = [below for node in nodes for below in node.below(segment)]
        return found + [value for node in nodes for value in node.ends]


class _Node(Generic[Value]):
    """A place in the tree: what follows by whole segments, by how a segment begins, and what matches all the rest."""

    __slots__ = ("begun", "ends", "named", "rest")

    def __init__(self) -> None:
        self.named: dict[str, _Node[Value]] = {}
        self.begun: dict[str, _Node[Value]] = {}
        self.rest: list[Value] = []
        self.ends: list[Value] = []

    def below(self, segment: str) -> list[_Node[Value]]:
        """Returns the nodes that a segment of a name leads to."""
        found = [self.named[segment]] if segment in self.named else []
        if self.begun:
            beginnings = (segment[:length] for length in range(len(segment) + 1))
            found += [self.begun[beginning] for beginning in beginnings if beginning in self.begun]
        return found
