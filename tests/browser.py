"""Debian's chromium, which `make browser` installs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

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
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@contextmanager
def running_browser() -> Iterator[Chrome]:
    """Runs a browser without a screen, which reaches this host alone; skips the test where there is none."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("there is no chromium with its chromedriver; as root on Debian, `make browser` installs them")
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    # Everything that is asked of any other host than this one is not found.
    resolver = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", resolver, *SPARING):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()
