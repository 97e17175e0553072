"""The table of docs/paths.md: what a path of a protected API names, at the access service and through Envoy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jit_service.domain.checks.http_request import Route

TABLE = Path(__file__).parent.parent / "docs" / "paths.md"
HOST = "payments.internal"
_CELLS = re.compile(r"(?<!\\)\|")
_ROUTES = {
    "/refunds": Route(resource="payments/refunds", action="refunds.{method}"),
    "/api/v4/projects": Route(keeps_encoded_slash=True),
}


@dataclass(frozen=True)
class Line:
    """A line of the table; None stands for a refusal."""

    path: str
    names: str | None
    through_envoy: str | None

    @property
    def route(self) -> Route:
        """The route of the example's configuration that its path is on, as Envoy matches it."""
        path = self.path.partition("?")[0]
        on = (route for prefix, route in _ROUTES.items() if path == prefix or path.startswith(f"{prefix}/"))
        return next(on, Route())


@cache
def lines() -> tuple[Line, ...]:
    """Returns the lines in their order. Fails on one that is not as the others."""
    return tuple(_line(text) for text in TABLE.read_text().splitlines() if text.startswith("| `"))


def _line(text: str) -> Line:
    _, path, names, through, _, _ = (cell.strip() for cell in _CELLS.split(text))
    named = _name(names)
    return Line(path=_literal(path), names=named, through_envoy=named if through == "the same" else _name(through))


def _name(cell: str) -> str | None:
    return None if cell == "-" else _literal(cell)


def _literal(cell: str) -> str:
    assert cell.startswith("`"), cell
    assert cell.endswith("`"), cell
    return cell[1:-1].replace("\\|", "|")
