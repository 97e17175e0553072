"""The pictures of the page: SVG, one bar or line each, made of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.long_runs import PART, LongRun, long_runs
from bench.results import Row, by_round, candidates, median

_COLOURS: Final = {"floor": "#9aa0a6", "ours": "#1a73e8", "other": "#e8710a"}

_PANELS: Final = (
    ("requests_per_second", 1, "requests/s"),
    ("p99_ms", 1, "p99, ms"),
    ("disk_bytes", 2**20, "disk, MiB"),
    ("memory_mib", 1, "memory, MiB"),
)


def draw(rows: Sequence[Row], directory: Path) -> None:
    """Writes DIRECTORY/*.svg for the parts that were measured."""
    import matplotlib

    matplotlib.use("svg")
    # The same numbers must give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "bench", "font.size": 9, "svg.fonttype": "none"})
    for part, title in (
        ("transport", "Requests/s on one core, 64 in flight"),
        ("peers", "Requests per CPU second, the same questions"),
        ("rest", "Requests/s on one core, Envoy included"),
    ):
        measure = "requests_per_core_second" if part == "peers" else "requests_per_second"
        bars = {name: list(by_round(rows, part, name, measure).values()) for name in candidates(rows, part)}
        _bars({name: values for name, values in bars.items() if values}, title, directory / f"{part}.svg")
    _over_time(list(long_runs(rows).values()), directory / f"{PART}.svg")
    _lines(rows, "growth", " grants", "live grants", directory / "growth.svg")
    _lines(rows, "batch", "batch of ", "items of a batch", directory / "batch.svg")


def _bars(bars: dict[str, list[float]], title: str, path: Path) -> None:
    if not bars:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.6 + 0.32 * len(bars)), layout="constrained")
    axes = figure.subplots()
    names = list(reversed(bars))
    middles = [median(bars[name]) or 0.0 for name in names]
    spread = [
        [middle - min(bars[name]) for name, middle in zip(names, middles, strict=True)],
        [max(bars[name]) - middle for name, middle in zip(names, middles, strict=True)],
    ]
    colours = [_COLOURS[_kind(name)] for name in names]
    axes.barh(names, middles, xerr=spread, color=colours, error_kw={"lw": 1, "capsize": 2})
    for at, middle in enumerate(middles):
        axes.text(middle, at, f"  {middle:,.0f}", va="center", fontsize=8)
    axes.margins(x=0.15)
    axes.set_title(f"{title}; median, least and most of the rounds", fontsize=9)
    _finish(figure, axes, path)


def _over_time(runs: Sequence[LongRun], path: Path) -> None:
    """Draws throughput, p99, disk and memory over the minutes, a line each candidate."""
    if not runs:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 9), layout="constrained")
    panels = figure.subplots(len(_PANELS), 1, sharex=True)
    for axes, (measure, scale, label) in zip(panels, _PANELS, strict=True):
        for number, run in enumerate(runs):
            points = [(row["at_second"] / 60, row[measure] / scale) for row in run.windows if measure in row]
            if points:
                style = "-" if run.name.startswith("ours") else ":"
                axes.plot(*zip(*points, strict=True), style, lw=1.2, color=f"C{number % 10}", label=run.name)
        axes.set_ylim(bottom=0)
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("minutes")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def _lines(rows: Sequence[Row], part: str, word: str, label: str, path: Path) -> None:
    points = []
    for name in candidates(rows, part):
        value, number = median(by_round(rows, part, name, "cpu_us").values()), name.replace(word, "")
        # Others are beside the line.
        if value is not None and number.isdecimal():
            points.append((int(number), value))
    if not points:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.8), layout="constrained")
    axes = figure.subplots()
    points.sort()
    axes.plot([x for x, _ in points], [y for _, y in points], marker="o", color=_COLOURS["ours"])
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(label)
    axes.set_title("CPU µs for each Check", fontsize=9)
    _finish(figure, axes, path)


def _finish(figure: Any, axes: Any, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def _kind(name: str) -> str:
    if name.startswith(("floor", "empty")):
        return "floor"
    return "ours" if name.startswith(("ours", "gRPC", "REST")) else "other"
