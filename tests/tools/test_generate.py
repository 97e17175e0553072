"""The generator starts from the protos: what it makes is not needed to run it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import generate  # noqa: E402


def test_the_generator_imports_nothing_that_it_makes() -> None:
    """A new proto service has no Python code yet, so the servicers that import it cannot be imported either."""
    program = (
        "import sys; sys.path.insert(0, 'tools'); import generate; "
        "print([name for name in sys.modules if name.partition('.')[0] in ('jit_service', 'jitaccess', 'authzen')])"
    )

    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"


def test_a_method_without_a_rule_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "_rpcs", lambda: {"/jitaccess.v1.GrantService/FrameGrant"})

    with pytest.raises(SystemExit, match=r"does not say who may call .*/FrameGrant"):
        generate.generate_pages(tmp_path)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone whose console is a page with a script: both are on the disk, and git has the page alone."""
    # In a hook, git says by variables which index it means.
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    built = tmp_path / generate.console.BUILT
    assets = built / "assets"
    assets.mkdir(parents=True)
    (page := built / "console.html").write_text('<script src="/console/assets/new.js"></script>')
    (assets / "new.js").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", str(page))
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    for step in ("generate_code", "generate_pages"):
        monkeypatch.setattr(generate, step, lambda _: None)
    monkeypatch.setattr(generate, "generate_console", lambda out: shutil.copytree(built, out / generate.console.BUILT))
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    return tmp_path


def git(clone: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=clone, check=True)


def test_what_is_made_and_fresh_but_not_in_git_is_named(clone: Path) -> None:
    with pytest.raises(SystemExit, match=r"not in git; `git add` it: \S+/assets/new.js$"):
        generate.main()


def test_what_is_fresh_and_in_git_is_said_nothing_of(clone: Path) -> None:
    git(clone, "add", ".")

    generate.main()


def test_a_tree_without_git_is_compared_alone(clone: Path) -> None:
    shutil.rmtree(clone / ".git")

    generate.main()
