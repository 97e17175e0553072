"""The examples of the guides and of docs/operating.md do what the pages say, as they stand."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from jit_service.notifications.routes import routes_of, subscriptions_of
from jit_service.notifications.template import PLACEHOLDERS, read_template
from jit_service.settings import Settings
from jitaccess import Unauthenticated
from jitaccess.guards import Incoming
from tests import prepared
from tests.conftest import Clock
from tests.world import running_world

ROOT = Path(__file__).parents[1]
SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()


def yaml_blocks(page: str, heading: str = "") -> list[str]:
    """Returns the YAML examples of a page of docs/, or of one of its sections."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = re.split(r"\n## ", text.partition(f"\n## {heading}\n")[2])[0] if heading else text
    return re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)


def test_the_policies_of_the_guide_can_be_applied(tmp_path: Path) -> None:
    blocks = yaml_blocks("guides/policies.md")
    file = tmp_path / "policies.yaml"
    file.write_text("policies:\n" + textwrap.indent("".join(blocks), "  "))

    clock = Clock(datetime(2026, 3, 2, 12, tzinfo=UTC))
    with running_world(tmp_path, clock, f"sqlite:///{tmp_path / 'jit.db'}") as world:
        world.service.apply_policies(file)

    assert len(blocks) == len(yaml.safe_load(file.read_text())["policies"]) == 7


def test_the_subject_of_the_guide_reads_what_a_proxy_proved() -> None:
    text = (ROOT / "docs" / "guides" / "guards.md").read_text(encoding="utf-8")
    [block] = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def who" in code]
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102 (the text of the guide)
    headers = [(b"x-verified-email", b"alice@example.com")]

    assert names["who"](Incoming.with_headers(headers, None)) == "user:alice@example.com"
    with pytest.raises(Unauthenticated):
        names["who"](Incoming())
    assert names["who"](Incoming.with_headers(headers * 2, None)) == "user:alice@example.com, alice@example.com"


def test_the_job_of_the_guide_judges_a_pull_request(tmp_path: Path) -> None:
    job = ROOT / "examples" / "check-policies.sh"
    assert f"```sh\n{job.read_text()}```" in (ROOT / "docs" / "guides" / "policies.md").read_text()
    for file in ("policies.yaml", "policies.test.yaml"):
        (tmp_path / file).write_text((ROOT / "examples" / file).read_text())
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "policies"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    policies = tmp_path / "policies.yaml"
    path = f"{prepared.command('jit').parent}:{os.environ['PATH']}"

    def judged(text: str) -> subprocess.CompletedProcess[str]:
        policies.write_text(text)
        return subprocess.run(
            [job, "policies.yaml", "main"],
            cwd=tmp_path,
            env={"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    good = judged(policies.read_text().replace("maxActivePerSubject: 3", "maxActivePerSubject: 4"))
    bad = judged(policies.read_text().replace("deny: true", "deny: true\n    disabled: true"))

    assert (good.returncode, "nothing is wrong" in good.stdout) == (0, True), good.stderr
    assert "14 passed, 0 failed\n~ policies/deploy would be updated\n" in good.stdout
    assert (bad.returncode, "expected the reason DENIED_BY_POLICY, and it is not refused" in bad.stdout) == (1, True)


def test_the_filter_of_the_guide_is_that_of_the_whole_configuration() -> None:
    (lines,) = yaml_blocks("guides/protect.md")
    example = yaml.safe_load((ROOT / "envoy" / "examples" / "protect" / "envoy.yaml").read_text())
    (chain,) = example["static_resources"]["listeners"][0]["filter_chains"]

    assert yaml.safe_load(lines)[0] in chain["filters"][0]["typed_config"]["http_filters"]


def test_the_issuers_of_the_page_on_operating_load(tmp_path: Path) -> None:
    (lines,) = yaml_blocks("operating.md", "Identity")
    file = tmp_path / "issuers.yaml"
    file.write_text(lines)

    (issuer,) = Settings.load(issuers_file=file).issuers

    assert issuer.issuer == "https://login.example.com"
    assert set(issuer.roles) == {"admin", "auditor", "checker", "responder"}


def test_the_receivers_of_the_page_on_operating_load(tmp_path: Path) -> None:
    (lines,) = yaml_blocks("operating.md", "Notifications")
    for name in ("oncall", "chat"):
        (tmp_path / name).write_text(SECRET)
        (tmp_path / name).chmod(0o600)
    file = tmp_path / "receivers.yaml"
    file.write_text(lines.replace("/run/secrets", str(tmp_path)))

    oncall, chat = Settings.load(notifications_file=file).notifications

    assert oncall.events == ("BREAK_GLASS_USED", "REVIEW_OVERDUE")
    assert chat.allow_private


def test_the_receivers_of_the_guide_load(tmp_path: Path) -> None:
    lines, _ = yaml_blocks("guides/notifications.md")
    secrets = {"smtp": "hunter2", "slack": "xoxb-1", "teams": "https://prod.logic.example.com/x?sig=1", "siem": SECRET}
    for name, secret in (secrets | {"pagerduty": "0123456789abcdef0123456789abcdef"}).items():
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(0o600)
    file = tmp_path / "receivers.yaml"
    file.write_text(lines.replace("/run/secrets", str(tmp_path)))

    receivers = Settings.load(notifications_file=file).notifications

    assert [receiver.kind for receiver in receivers] == ["email", "slack", "teams", "webhook", "webhook"]
    assert receivers[0].addressees == ("database-owners@example.com", "carol@example.com")


def test_the_routes_of_the_guide_load(tmp_path: Path) -> None:
    _, lines = yaml_blocks("guides/notifications.md")
    for name, secret in {"slack": "xoxb-1", "pagerduty": "0123456789abcdef0123456789abcdef"}.items():
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(0o600)
    file = tmp_path / "receivers.yaml"
    file.write_text(lines.replace("/run/secrets", str(tmp_path)))

    settings = Settings.load(notifications_file=file)

    assert [route.receiver for route in routes_of(settings.routes, settings.notifications)] == [
        *("mail", "chat", "chat", "mail", "pager"),
    ]
    assert subscriptions_of(settings.routes, settings.notifications) == []


def test_the_template_of_the_guide_is_one_and_its_placeholders_are_all(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "guides" / "notifications.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    file = tmp_path / "mattermost.json"
    file.write_text(lines)

    assert read_template(file).is_json
    assert set(re.findall(r"`\$\{([a-z]+)\}`", text)) == set(PLACEHOLDERS)
