"""What README.md and docs/recipes.md have to paste does what they say, as it stands but for addresses.

One service with its Envoy serves all of it. A recipe is a section of the page. Its `bash` blocks are run in order by
one shell, after the page's preparations; a `text` block is what the block before it prints, where a line `…` stands for
any lines; a block with a title is a file of that name. Blocks of `sh` need a registry: tests have what they install.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import prepared
from tests.prepared.server import PROGRAMS
from tests.test_commands import up
from tests.typescript.built import build, install

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import sessions  # noqa: E402

_BLOCK = re.compile(r'^```(\w+)(?: title="([\w.]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_BETWEEN = "\x1e"
_SECONDS = 120


@dataclass(frozen=True)
class Recipe:
    """A section of the page: what is run, what each of that prints if the page says it, and the files that it needs."""

    heading: str
    commands: tuple[str, ...]
    printed: tuple[str | None, ...]
    files: dict[str, str]


def recipe(section: str) -> Recipe:
    commands: list[str] = []
    printed: list[str | None] = []
    files = {}
    for language, title, text in _BLOCK.findall(section):
        if title:
            files[title] = text
        elif language == "bash":
            commands.append(text)
            printed.append(None)
        elif language == "text":
            assert printed[-1] is None, "two outputs of one block"
            printed[-1] = text
        else:
            assert language == "sh", f"a block of {language} without a title"
    return Recipe(section.partition("\n")[0], tuple(commands), tuple(printed), files)


_, *SECTIONS = re.split(r"^## ", (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
PREPARATIONS, *RECIPES = (found for found in map(recipe, SECTIONS) if found.commands)


@dataclass(frozen=True)
class Site:
    """A running service, in a directory that looks like a clone in which `make up` runs."""

    clone: Path
    http: str
    grpc: str

    def here(self, text: str) -> str:
        """Returns the text with the addresses of this run; every other port becomes a free one."""
        text = text.replace("127.0.0.1:8080", self.http.removeprefix("http://")).replace("127.0.0.1:8081", self.grpc)
        return re.sub(r"\b(?:8000|8090|9000|5005[12])\b", lambda found: str(self.port(found[0])), text)

    def port(self, written: str) -> int:
        kept = self.clone / f"port-{written}"
        if not kept.exists():
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                kept.write_text(str(free.getsockname()[1]))
        return int(kept.read_text())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    clone = tmp_path_factory.mktemp("c")
    for name in ("examples", "clients"):
        (clone / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "envoy", clone / "envoy")
    _link_environment(clone / ".venv")
    with up(clone / ".data") as (_, ready):
        site = Site(clone, ready["http"], ready["grpc"])
        protecting = clone / "envoy" / "examples" / "protect" / "envoy.yaml"
        protecting.write_text(site.here(protecting.read_text()))
        yield site


def _link_environment(there: Path) -> None:
    """Makes an environment like this one, but for its `jit` and `jit-service`, which are prepared ones."""
    (there / "bin").mkdir(parents=True)
    for path in Path(sys.prefix).iterdir():
        if path.name != "bin":
            (there / path.name).symlink_to(path)
    for path in Path(sys.prefix, "bin").iterdir():
        (there / "bin" / path.name).symlink_to(prepared.command(path.name) if path.name in PROGRAMS else path)


def run(site: Site, pieces: Iterable[str], home: Path) -> list[str]:
    """Runs the pieces by one shell in the clone, and returns what each printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JIT_")}
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", site.here(f"printf '{_BETWEEN}'\n".join(pieces))],
        cwd=site.clone,
        # The recipes' tests need none of the plugins that ours do.
        env=environment | {"HOME": str(home), "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=_SECONDS)
    finally:
        # Whatever it left running, too.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, f"{out}\n{err}"
    return out.split(_BETWEEN)


def fits(written: str, printed: str) -> bool:
    """Tells whether the output is the written one, but for ids, instants and what `…` stands for."""
    lines = [r"(?:.*\n)*?" if line == "…" else re.escape(line) + r"\n" for line in plain(written).splitlines()]
    return re.fullmatch("".join(lines), plain(printed) + "\n") is not None


def plain(output: str) -> str:
    return re.sub(r"\b[a-z2-7]{26}\b", "ID", re.sub(r"\b\d+\.\d+s\b", "SPAN", sessions.plain(output)))


@pytest.mark.skipif(shutil.which("jq") is None, reason="there is no jq")
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.heading)
def test_a_recipe_does_what_it_says(site: Site, tmp_path: Path, recipe: Recipe, testrun_uid: str) -> None:
    for name, text in recipe.files.items():
        (tmp_path / name).write_text(site.here(text))
    if "ask.mts" in recipe.files:
        if shutil.which("npx") is None:
            pytest.skip("there is no node with npm")
        build(testrun_uid)
        install(tmp_path)

    pieces = [piece.replace("/tmp/recipes", str(tmp_path)) for piece in (*PREPARATIONS.commands, *recipe.commands)]
    _, *printed = run(site, pieces, tmp_path)

    for written, got in zip(recipe.printed, printed, strict=True):
        assert written is None or fits(site.here(written), got), f"--- prints\n{got}--- not\n{written}"


def test_a_first_request_in_three_pastes(site: Site, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    section = readme[readme.index("## A first request in three pastes") : readme.index("## States of a grant")]
    asks, approves, checks = re.findall(r"```\n(.*?)```", section, re.DOTALL)

    (asked,) = run(site, [asks], tmp_path)
    approved, checked = run(
        site, [approves.replace("approve ID", f"approve {json.loads(asked)['name']}"), checks], tmp_path
    )

    assert '"state":"PENDING"' in asked
    assert "is ACTIVE" in approved
    assert "rows.create True ALLOWED" in checked
    assert "rows.delete False NO_GRANT" in checked


def test_the_page_has_a_recipe_for_each_job() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")

    listed = re.findall(r"^\| \[(.+?)\]\(#", page, re.MULTILINE)

    assert [recipe.heading for recipe in RECIPES] == listed
    assert all(f"(sessions/{session.name})" in page for session in sessions.PAGES.glob("*.md"))
