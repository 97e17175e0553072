"""docs/runbooks.md, played: each command that needs neither root nor a cluster does its work on a real service."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests import prepared

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import sessions  # noqa: E402  # type: ignore[import-not-found]

PAGE = (ROOT / "docs" / "runbooks.md").read_text()
SECTIONS = {
    "Install",
    "Upgrade",
    "Failover of PostgreSQL",
    "Restore",
    "Rotate keys",
    "Stolen token of an admin, or access must end now",
    "Somebody left",
    "Who had access then",
    "Verify says NOT VALID",
    "Full disk",
    "Store forked",
    "Provider down",
    "Clock off",
}
# The first word of what is not played, and why.
NOT_PLAYED = {
    "runuser": "needs root and the user jit",
    "export": "sets the variables, as `played` does",
    "chgrp": "needs root and the group jit",
    "systemctl": "needs systemd; tests/deploy verifies the units",
    "timedatectl": "needs systemd",
    "sha256sum": "needs a release's files",
    "/opt/jit/bin/pip": "needs a release's files and an index",
    "psql": "needs PostgreSQL",
    "patronictl": "needs a cluster; `make cluster` does switchovers and worse",
    "grep": "reads the team's own files",
}
# A grant that the set-up has for `jit revoke ID`.
GRANT = "abcdefghijklmnopqrstuvwxyz"
# What stands for a host's paths, and for what the reader fills in.
HERE = {
    "/backups/2026-11-29": "backups/before-upgrade",
    "/backups/": "backups/",
    "/etc/jit/": "etc/",
    "/var/lib/jit-checkpoints": "checkpoints",
    "/var/lib/jit": ".",
    "$THEN": "$(date -u +%FT%TZ)",
    " ID ": f" {GRANT} ",
}
# Where a section works on another data directory than the running service, and with which key file.
ELSEWHERE = {"Install": ("fresh", "etc/sealing.key"), "Restore": ("restored", "token.key")}
ISSUER = {
    "issuer": "https://dev.jitaccess.invalid",
    "audience": "jitaccess",
    "jwks_file": "dev/jwks.json",
    "shares_principals": True,
    "roles": {"admin": ["admin"]},
}
SET_UP = f"""
second$ mkdir -p -m 700 backups etc checkpoints fresh restored
alice$ jit request database/orders/eu --action rows.create --for 30m --justification backfill -o json | grep '"name"'
  "name": "grants/{GRANT}",
bob$ jit approve {GRANT} --comment "as discussed"
second$ jit audit checkpoint -o json > checkpoints/checkpoint-1.json
"""


def runbooks() -> dict[str, list[str]]:
    """Returns the commands of each section: the lines of its blocks, and then what stands in its tables."""
    found = {}
    for section in PAGE.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        table = re.findall(r"^\|[^|\n]*\| `([^`]+)`", text, re.MULTILINE)
        found[title] = [line for block in blocks for line in block.splitlines()] + table
    return found


def played(title: str, command: str) -> str | None:
    """Returns the command as it is played, or None."""
    if command.split(maxsplit=1)[0] in NOT_PLAYED:
        return None
    data_dir, key_file = ELSEWHERE.get(title, (".", "token.key"))
    for there, here in ({"/etc/jit/sealing.key": key_file} | HERE).items():
        command = command.replace(there, here)
    if "jit-service" not in command.split(maxsplit=1)[0]:
        return command
    settings = {
        "JIT_DATA_DIR": data_dir,
        "JIT_KEY_FILE": key_file,
        "JIT_ISSUERS": f"'{json.dumps([ISSUER])}'",
        "JIT_TOKEN_ISSUER": "https://jit.example.com",
        "JIT_AUDIT_RETENTION": "4320h",
        "JIT_GRPC": "127.0.0.1:0",
    }
    return "".join(f"{name}={value} " for name, value in settings.items()) + command


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("commands")
    for program in ("jit", "jit-service"):
        os.symlink(prepared.command(program), directory / program)
    return directory


def test_there_is_a_runbook_for_each_event() -> None:
    found = runbooks()

    assert set(found) == SECTIONS
    assert all(found.values())
    assert set(NOT_PLAYED) - {"runuser", "export"} <= {line.split()[0] for lines in found.values() for line in lines}


def test_the_commands_of_the_runbooks_do_their_work(commands: Path) -> None:
    all_played = (played(title, line) for title, section in runbooks().items() for line in section)
    # A command that is in several sections is played once.
    lines = dict.fromkeys(f"second$ {command}" for command in all_played if command is not None)
    page = f"```console\n# token_issuer=https://jit.example.com\n{SET_UP.strip()}\n" + "\n".join(lines) + "\n```"

    steps = sessions.play(page, commands)

    assert len(steps) > 35
    assert [f"{step.command}\n{step.played}" for step in steps if "(exit " in step.played] == []


def test_the_commands_within_sentences_are_there() -> None:
    tables = {line for section in runbooks().values() for line in section}
    texts = {text for text in re.findall(r"`((?:jit|jit-service) [a-z][^`]*)`", PAGE) if text not in tables}

    assert texts
    for text in texts:
        program, *words = text.split()
        names = itertools.takewhile(re.compile(r"[a-z][a-z-]*").fullmatch, words)
        helped = prepared.run(program, *names, "--help", env=dict(os.environ), timeout=60)
        assert helped.returncode == 0, (text, helped.stderr)
        assert all(option in helped.stdout for option in re.findall(r" (--[a-z-]+)", text)), text
