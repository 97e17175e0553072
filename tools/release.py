"""Builds a release of the commit that is checked out, into dist/.

Made: wheel and sdist of the client and of the service, the contract as a buf image, the locked requirements of a host,
their bill of materials (CycloneDX), and SHA256SUMS of all of these. The same commit gives the same bytes. Refused: a
tree with changes, versions that differ, and a changelog whose newest entry is not the version's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
BIN = Path(sys.executable).parent
# What makes the bill of materials has an environment of its own: nothing else needs its dependencies.
CYCLONEDX = ROOT / ".data" / "release" / "venv" / "bin" / "cyclonedx-py"
LOCK = "requirements/runtime.txt"
_NEWEST = re.compile(r"^## (.+)$", re.MULTILINE)


def versions(root: Path) -> dict[str, str]:
    """Returns the version of each package, by the file that states it."""
    projects = ("pyproject.toml", "clients/python/pyproject.toml")
    told = {path: str(tomllib.loads((root / path).read_text())["project"]["version"]) for path in projects}
    package = "clients/typescript/package.json"
    return told | {package: str(json.loads((root / package).read_text())["version"])}


def problems(told: dict[str, str], changelog: str) -> list[str]:
    """Returns why these versions and this changelog cannot be released; empty if they can."""
    if len(set(told.values())) > 1:
        return ["the versions differ: " + ", ".join(f"{path} has {version}" for path, version in told.items())]
    version = next(iter(told.values()))
    newest = _NEWEST.search(changelog)
    if newest is None or not re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d\d-\d\d", newest[1]):
        found = f"{newest[1]!r}" if newest else "missing"
        return [f"the newest heading of CHANGELOG.md is {found}, not '{version} - YYYY-MM-DD'"]
    return []


def _output(*command: str | Path) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _export(target: Path) -> None:
    """Writes the commit's files to `target`: what git does not know cannot get into a release."""
    archive = target.with_suffix(".tar")
    _output("git", "archive", "--format=tar", f"--output={archive}", "HEAD")
    _unpack(archive, target)


def _unpack(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")


def _build(project: Path, out: Path, environment: dict[str, str]) -> Path:
    """Builds the project's sdist, and its wheel from that sdist, which shows that the sdist is complete."""
    with tempfile.TemporaryDirectory() as directory:
        built, unpacked = Path(directory) / "built", Path(directory) / "unpacked"
        hatchling = [sys.executable, "-m", "hatchling", "build", "-d", built]
        subprocess.run([*hatchling, "-t", "sdist"], cwd=project, env=environment, check=True, capture_output=True)
        (sdist,) = built.iterdir()
        _unpack(sdist, unpacked)
        (source,) = unpacked.iterdir()
        subprocess.run([*hatchling, "-t", "wheel"], cwd=source, env=environment, check=True, capture_output=True)
        (wheel,) = built.glob("*.whl")
        for path in (sdist, wheel):
            shutil.move(path, out / path.name)
    return out / wheel.name


def _bill_of_materials(client: Path, out: Path, environment: dict[str, str]) -> None:
    """Writes what the service runs on: all locked packages with their hashes, and the client, which is in no lock."""
    name, version, *_ = client.name.split("-")
    own = f"{name}=={version} --hash=sha256:{_digest(client)}\n"
    command = [CYCLONEDX, "requirements", "-", "--pyproject", ROOT / "pyproject.toml", "--output-reproducible"]
    subprocess.run(
        [*command, "--output-file", out],
        input=(ROOT / LOCK).read_text() + own,
        # It warns that a list of requirements does not say which of them needs which.
        env=environment | {"PYTHONWARNINGS": "ignore"},
        text=True,
        check=True,
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def release(version: str, out: Path) -> None:
    """Writes the release of the checked out commit to the empty directory `out`."""
    committed_at = _output("git", "log", "-1", "--format=%ct")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": committed_at}
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "source"
        _export(source)
        client = _build(source / "clients" / "python", out, environment)
        _build(source, out, environment)
    _output(BIN / "buf", "build", "proto", "--output", out / f"jitaccess-{version}.binpb")
    shutil.copyfile(ROOT / LOCK, out / f"jit_service-{version}.requirements.txt")
    _bill_of_materials(client, out / f"jit_service-{version}.cdx.json", environment)
    write_sums(out)


def write_sums(out: Path) -> None:
    """Writes SHA256SUMS, which has the sums of all other files in the directory."""
    sums = [f"{_digest(path)}  {path.name}\n" for path in sorted(out.iterdir())]
    (out / "SHA256SUMS").write_text("".join(sums))


def main() -> None:
    if changed := _output("git", "status", "--porcelain"):
        sys.exit(f"commit or remove these first; a release is of a commit:\n{changed}")
    told = versions(ROOT)
    if why := problems(told, (ROOT / "CHANGELOG.md").read_text()):
        sys.exit("\n".join(why))
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory)
        release(told["pyproject.toml"], made)
        # Moved last, so that dist/ never has a part of a release.
        shutil.rmtree(DIST, ignore_errors=True)
        DIST.mkdir()
        for path in made.iterdir():
            shutil.copyfile(path, DIST / path.name)
    print((DIST / "SHA256SUMS").read_text(), end="")


if __name__ == "__main__":
    main()
