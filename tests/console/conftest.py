"""One service and one browser for all tests of the console."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tests.conftest import Clock
from tests.console.desk import Desk, running_browser
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


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    directory = tmp_path_factory.mktemp("console")
    # The browser has the machine's time, so the service begins with it; then it stands still until a test moves it.
    with running_browser() as browser, running_dev_login(directory, Clock(datetime.now(UTC))) as service:
        desk = Desk(service, directory, browser)
        examples = yaml.safe_load((ROOT / "examples" / "policies.yaml").read_text())["policies"]
        desk.call("admin", "POST", "policies:apply", {"policies": [*examples, BOTH, EXTENDABLE]})
        yield desk
