"""One service and one browser for all tests of the console."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from selenium.webdriver import Chrome

from jit_service.domain.caller import Role
from jit_service.runtime.dev_issuer import DevIssuer
from tests.browser import running_browser
from tests.conftest import Clock
from tests.console.desk import Desk, Window
from tests.rest.dev_login import running_dev_login

ROOT = Path(__file__).parents[2]
BOTH = {
    "name": "policies/two-approvals",
    "displayName": "Read the vault",
    "eligible": {"groups": ["engineering"]},
    "resources": ["vault/**"],
    "actions": ["read"],
    "maxDuration": "3600s",
    "extension": {"maxExtensions": 2, "maxTotalDuration": "14400s"},
    "steps": [
        {
            "displayName": "Owners and security",
            "approvers": {"groups": ["database-owners", "security"]},
            "approvalsNeeded": 2,
        }
    ],
}
EXTENDABLE = {
    "name": "policies/wiki-write",
    "displayName": "Write the wiki",
    "eligible": {"groups": ["engineering"]},
    "resources": ["wiki/**"],
    "actions": ["read", "write"],
    "maxDuration": "7200s",
    "defaultDuration": "1800s",
    "justification": {"required": True},
    "extension": {"maxExtensions": 2, "maxTotalDuration": "14400s"},
    "steps": [{"displayName": "Owners", "approvers": {"groups": ["database-owners"]}}],
}
STRONGER = {
    "name": "policies/stronger",
    "eligible": {"groups": ["engineering"]},
    "resources": ["safe/**"],
    "actions": ["read"],
    "maxDuration": "3600s",
    "reviewAssurance": {"acr": ["urn:jitaccess:dev:confirmed"], "maxAge": "300s"},
    "steps": [{"displayName": "Owners", "approvers": {"groups": ["database-owners"]}}],
}
NO_MORE = {
    "name": "policies/no-more",
    "eligible": {"groups": ["engineering"]},
    "resources": ["fixed/**"],
    "actions": ["read"],
    "maxDuration": "3600s",
    "steps": [{"displayName": "Owners", "approvers": {"groups": ["database-owners"]}}],
}


@pytest.fixture(scope="package")
def shared_downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture
def downloads(shared_downloads: Path) -> Path:
    """Where the browser keeps what the test downloads, and nothing of earlier tests."""
    for file in shared_downloads.iterdir():
        file.unlink()
    return shared_downloads


@pytest.fixture(scope="package")
def desk(tmp_path_factory: pytest.TempPathFactory, shared_downloads: Path) -> Iterator[Desk]:
    """Under dual control, which only those notice who change policies."""
    directory = tmp_path_factory.mktemp("console")
    with running_browser(shared_downloads) as browser, served(directory, browser, policies_dual_control=True) as desk:
        yield desk


@pytest.fixture
def desk_of_its_own(desk: Desk, tmp_path: Path) -> Iterator[Desk]:
    """A service for a test that moves its clock: no service's time goes back, so the others would be in the future."""
    with served(tmp_path, desk.browser) as own:
        yield own


@pytest.fixture
def window(desk: Desk) -> Iterator[Window]:
    window = desk.window()
    yield window
    window.close()


# The same again, for somebody else.
other = window


@contextmanager
def served(directory: Path, browser: Chrome, **settings: Any) -> Iterator[Desk]:
    """Runs the service with the policies that the tests ask under. It has a second admin, by REST alone: `second`."""
    # The browser has the machine's time, so the service begins with it; then it stands still until a test moves it.
    clock = Clock(datetime.now(UTC))
    with running_dev_login(directory, clock, **settings) as service:
        token = DevIssuer.of(directory).token("user:second@example.com", roles=[Role.ADMIN], now=clock())
        (directory / "dev" / "tokens" / "second.jwt").write_text(token)
        desk = Desk(service, directory, browser)
        examples = yaml.safe_load((ROOT / "examples" / "policies.yaml").read_text())["policies"]
        desk.applies("second", *examples, BOTH, EXTENDABLE, STRONGER, NO_MORE)
        yield desk
