"""What is measured all along: memory of each process, and how long calls take."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.soak.memory import Sample
from tests.soak.site import Site, memory_of
from tests.soak.told import Span, Told


@dataclass(kw_only=True)
class Sampler:
    """Takes a sample every `interval` seconds in a thread of its own, and settles what is over."""

    site: Site
    told: Told
    began: float
    interval: float
    progress: Callable[[str], None]
    rows: list[dict[str, Any]] = field(default_factory=list)
    series: defaultdict[tuple[str, int], list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def start(self) -> threading.Thread:
        """Starts the thread, which ends when the run stops."""
        thread = threading.Thread(target=self._run, name="sampler")
        thread.start()
        return thread

    def _run(self) -> None:
        while not self.site.stopping.wait(self.interval):
            self.sample()
            self.told.settle(time.monotonic())
        self.sample()

    def sample(self) -> None:
        """Takes one sample."""
        at, calls = time.monotonic() - self.began, self.told.calls
        memory = {}
        for role, pid in sorted(self.site.roles().items()):
            if (mib := memory_of(pid)) is not None:
                memory[role] = round(mib, 1)
                self.series[role, pid].append(Sample(at, calls, mib))
        spans = {kind: _facts(span) for kind, span in sorted(self.told.spans().items())}
        self.rows.append({"at": round(at, 1), "calls": calls, "memory": memory, "took": spans})
        self.progress(", ".join(f"{role} {mib:.0f}" for role, mib in memory.items()))


def _facts(span: Span) -> dict[str, float]:
    return {"answers": span.answers, "p50": round(span.p50, 2), "p99": round(span.p99, 2)}


def latency(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns for each kind of call how long it took: medians over the samples, and the worst of them."""
    took: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
    for row in rows:
        for kind, span in row["took"].items():
            took[kind].append(span)
    return [
        {
            "call": kind,
            "answers": sum(int(span["answers"]) for span in spans),
            "p50": median(span["p50"] for span in spans),
            "p99": median(span["p99"] for span in spans),
            "worst_p99": max(span["p99"] for span in spans),
        }
        for kind, spans in sorted(took.items())
    ]
