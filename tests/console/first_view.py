"""How long the console takes from its address to what its user came for: `python -m tests.console.first_view`.

Each run is a new browser with an empty cache, at a real service behind a real Envoy. Two views are timed from the start
of the navigation: the log-in page, and the inbox with a request, which takes the silent log-in at the provider on the
way.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.browser import running_browser
from tests.console.conftest import served
from tests.console.desk import Desk, Window

RUNS = 7
PAINTED = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
# The page is left for the provider and comes back, so the clock is that of the time of day.
BEGIN = "sessionStorage.removeItem('shown'); sessionStorage.setItem('began', Date.now()); location.assign(arguments[0])"
WATCH = """
const look = () => document.querySelector('.detail .outcome')
  ? sessionStorage.setItem('shown', Date.now()) : requestAnimationFrame(look);
look();
"""
TOOK = "return Number(sessionStorage.getItem('shown')) - Number(sessionStorage.getItem('began'))"


def main() -> None:
    """Prints the medians and the worst, in milliseconds."""
    with tempfile.TemporaryDirectory() as directory, _desks(Path(directory)) as desks:
        found = [_measure(desk) for desk in desks]
    for name, times in zip(("log-in page painted", "inbox shown"), zip(*found, strict=True), strict=True):
        print(f"{name}: median {statistics.median(times):.0f} ms, worst {max(times):.0f} ms of {RUNS}")


@contextmanager
def _desks(directory: Path) -> Iterator[Iterator[Desk]]:
    with running_browser(directory) as browser, served(directory, browser) as desk:
        desk.asks("alice", "wiki-write", "wiki/first")

        def each() -> Iterator[Desk]:
            for _ in range(RUNS):
                with running_browser(directory) as fresh:
                    yield Desk(desk.service, directory, fresh)

        yield each()


def _measure(desk: Desk) -> tuple[float, float]:
    window = Window(desk, desk.home)
    window.open("")
    painted = window.wait_for(lambda: window.script(PAINTED))
    window.be("bob")
    window.wait_for(lambda: window.find(".detail .outcome"))
    window.browser.execute_cdp_cmd("Network.clearBrowserCache", {})
    window.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
    window.script(BEGIN, f"{desk.url}/console")
    return float(painted), float(window.wait_for(lambda: max(0, window.script(TOOK))))


if __name__ == "__main__":
    main()
