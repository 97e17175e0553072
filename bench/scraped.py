"""What it costs to be seen: a check with and without a Prometheus that scrapes."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from bench.rounds import Pace, Server

SCRAPE_SECONDS: Final = 1.0
"""How often it is scraped, which is fifteen times as often as Prometheus does by default."""


@dataclass(kw_only=True)
class Scraped(Server):
    """A server whose metrics somebody reads during each turn."""

    def saturate(self, pace: Pace) -> dict[str, Any]:
        """Measures as Server does, and says how often the metrics were read."""
        with _scraping(self.running.metrics) as read:
            facts = super().saturate(pace)
        return facts | {"scrapes": len(read)} | ({} if read else {"void": "nobody could read the metrics"})


@contextmanager
def _scraping(url: str) -> Iterator[list[int]]:
    """Reads the metrics at every interval within, and yields the sizes of what was read."""
    read: list[int] = []
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(SCRAPE_SECONDS):
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 (the service's own address)
                read.append(len(answer.read()))

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield read
    finally:
        over.set()
        thread.join()
