"""The systemd units are well formed, and leave their services little that they could reach."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze: install Debian's package systemd"
)
each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)


def settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@needs_systemd
@each_unit
def test_systemd_finds_no_fault_in_a_unit(unit: Path, tmp_path: Path) -> None:
    # The commands are where the documents install them, which is not on the machine of a test.
    text = re.sub(r"/opt/jit/bin/[\w-]+", "/bin/true", unit.read_text(encoding="utf-8"))
    (tmp_path / unit.name).write_text(text)

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / unit.name], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
@each_unit
def test_what_a_unit_leaves_open_is_scored_below_two(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout


@each_unit
def test_a_unit_runs_as_a_user_that_sysusers_makes(unit: Path) -> None:
    users = re.findall(r"^u (\S+)", (unit.parent / "jit.conf").read_text(encoding="utf-8"), re.MULTILINE)

    assert settings(unit)["User"][0] in users


def test_the_service_starts_only_on_a_schema_and_settings_that_were_tried() -> None:
    found = settings(ROOT / "deploy" / "systemd" / "jit-service.service")

    assert [line.split()[-1] for line in (*found["ExecStartPre"], *found["ExecStart"])] == ["migrate", "check", "serve"]
