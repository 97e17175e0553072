"""The client's README names each method, each exit code and each extra, so that nobody has to look for them in code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from jitaccess import AsyncJitClient, JitClient
from jitaccess.cli import exits

ROOT = Path(__file__).parents[2]
README = (ROOT / "clients/python/README.md").read_text(encoding="utf-8")


def rows(headed: str) -> list[list[str]]:
    """Returns the rows of the table with that first cell of its head."""
    table = README.partition(f"\n| {headed} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def public(client: type) -> set[str]:
    return {name for name in dir(client) if not name.startswith("_")}


def test_every_method_of_the_client_is_named_and_no_other() -> None:
    named = {
        name for row in rows("methods") for name in re.findall(r"`(\w+)`", row[1].partition("; in this process")[0])
    }

    assert named - {"verify_checkpoint", "jitaccess"} == public(JitClient)
    assert public(AsyncJitClient) <= public(JitClient) | {"aclose"}


def test_every_exit_code_is_named_and_no_other() -> None:
    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}

    named = {int(code) for row in rows("exit code") for code in row[0].split(", ")}

    assert named == codes


def test_every_extra_is_named_and_no_other() -> None:
    project = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]

    assert {row[0].strip("`") for row in rows("extra")} == set(project["optional-dependencies"])
