"""Debian's chromium-headless-shell, which `make browser` installs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

SPARING = (
    "--disable-gpu",
    "--in-process-gpu",
    "--process-per-site",
    "--renderer-process-limit=1",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
)
"""What the browser does with fewer processes, or not at all: it took a fifth less of the processor."""
# The command in /usr/bin is a script, whose browser would outlive it when the driver ends it.
SHELL, DRIVER = shutil.which("chromium-headless-shell", path="/usr/lib/chromium"), shutil.which("chromedriver")


@contextmanager
def running_browser(downloads: Path) -> Iterator[Chrome]:
    """Runs a browser without a screen, which reaches this host alone and keeps what it downloads in the directory.

    Where there is none, it skips the test.
    """
    if SHELL is None or DRIVER is None:
        pytest.skip(
            "there is no chromium-headless-shell with chromedriver; as root on Debian, `make browser` installs both"
        )
    options = ChromeOptions()
    options.binary_location = SHELL
    # Everything that is asked of any other host than this one is not found.
    resolver = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
    for argument in ("--no-sandbox", "--disable-dev-shm-usage", resolver, *SPARING):
        options.add_argument(argument)
    # The driver sets this directory at each switch of windows, so one that a test sets by itself would not last.
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()
