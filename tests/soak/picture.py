"""The picture of a run: how long checks and writes took, and the memory of each process, with the faults marked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import log10
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, TOP = 900, 220, 60, 150, 36
_COLOURS = ("#1a73e8", "#e8710a", "#188038", "#9334e6")
_KILL, _FAULT = "#d93025", "#bdc1c6"
Point = tuple[float, float]
Series = dict[str, list[list[Point]]]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One diagram: what it is called, its lines in pieces, the ticks of its axis, and where a value stands on it."""

    title: str
    series: Series
    ticks: Sequence[float]
    height_of: Callable[[float], float]


def svg(result: dict[str, Any]) -> str:
    """Returns the picture. The same result makes the same file."""
    seconds = max([result["seconds"], *(row["at"] for row in result["samples"])])
    panels = [_latency(result["samples"]), _memory(result["samples"])]
    parts = [_panel(panel, TOP + at * (HEIGHT + 50), seconds, result["faults"]) for at, panel in enumerate(panels)]
    height = TOP + len(panels) * (HEIGHT + 50)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
    return "\n".join([f'{head} font-size="11">', '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>\n"])


def _latency(rows: Iterable[dict[str, Any]]) -> Panel:
    series: Series = {}
    for row in rows:
        for name, kind, quantile in (
            ("check p50", "check by gRPC", "p50"),
            ("check p99", "check by gRPC", "p99"),
            ("check p99 by REST", "check by REST", "p99"),
            ("revoke p99", "GRANT_REVOKED", "p99"),
        ):
            if kind in row["took"]:
                series.setdefault(name, [[]])[0].append((row["at"], row["took"][kind][quantile]))
    ticks = (1, 10, 100, 1000, 10_000)
    title = "Milliseconds of calls that were answered (logarithmic)"
    return Panel(title=title, series=series, ticks=ticks, height_of=lambda ms: log10(max(ms, 1)) / 4)


def _memory(rows: Iterable[dict[str, Any]]) -> Panel:
    series: Series = {}
    for row in rows:
        for role, mib in row["memory"].items():
            pieces = series.setdefault(role, [[]])
            # A process that was killed and one that took its place are two lines.
            if pieces[-1] and row["at"] - pieces[-1][-1][0] > 3 * _interval(rows):
                pieces.append([])
            pieces[-1].append((row["at"], mib))
    most = max((mib for pieces in series.values() for piece in pieces for _, mib in piece), default=1.0)
    step = next(size for size in (10, 20, 50, 100, 200, 500, 1000, 10_000) if size * 6 > most)
    ticks = [step * number for number in range(int(most / step) + 2)]
    return Panel(title="Resident MiB", series=series, ticks=ticks, height_of=lambda mib: mib / ticks[-1])


def _interval(rows: Iterable[dict[str, Any]]) -> float:
    ordered = [row["at"] for row in rows]
    return float(ordered[1] - ordered[0]) if len(ordered) > 1 else 1.0


def _panel(panel: Panel, top: float, seconds: float, faults: Iterable[dict[str, Any]]) -> str:
    def x(at: float) -> float:
        return LEFT + at / seconds * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return top + HEIGHT * (1 - min(1.0, panel.height_of(value)))

    parts = [_text(LEFT, top - 8, panel.title)]
    parts += [_line((LEFT, y(tick)), (WIDTH - RIGHT, y(tick)), "#eee") for tick in panel.ticks]
    parts += [_text(LEFT - 6, y(tick) + 4, f"{tick:g}", anchor="end") for tick in panel.ticks]
    parts += [_mark(fault, x(fault["at"]), top) for fault in faults]
    for place, (name, pieces) in enumerate(panel.series.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        parts += [_path([(x(at), y(value)) for at, value in piece], colour) for piece in pieces]
        parts.append(_text(WIDTH - RIGHT + 8, top + 14 + 16 * place, name, colour=colour))
    parts += [_text(x(at), top + HEIGHT + 16, f"{at:g} s", anchor="middle") for at in _instants(seconds)]
    parts.append(_text(WIDTH - RIGHT + 8, top + HEIGHT - 16, "kill -9", colour=_KILL))
    parts.append(_text(WIDTH - RIGHT + 8, top + HEIGHT, "another fault", colour="#80868b"))
    return "\n".join(parts)


def _instants(seconds: float) -> list[float]:
    return [round(seconds * share / 5) for share in range(6)]


def _mark(fault: dict[str, Any], x: float, top: float) -> str:
    colour = _KILL if fault["name"].startswith("kill") else _FAULT
    line = _line((x, top), (x, top + HEIGHT), colour, opacity=0.5)
    return line.replace("/>", f"><title>{escape(fault['name'])} at {fault['at']:g} s</title></line>")


def _line(begin: Point, end: Point, colour: str, opacity: float = 1) -> str:
    ends = f'x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-opacity="{opacity:g}"/>'


def _path(points: Sequence[Point], colour: str) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="1.3"/>'


def _text(x: float, y: float, words: str, *, anchor: str = "start", colour: str = "#3c4043") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'
