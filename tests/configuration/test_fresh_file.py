"""A file is read anew after it has changed, and a broken one leaves what was there before."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jit_service.configuration.fresh_file import FreshFile


@pytest.fixture
def replace(tmp_path: Path) -> Callable[[str], Path]:
    """Replaces the file at once, as those do who rotate secrets."""
    path = tmp_path / "number"

    def write(text: str) -> Path:
        beside = tmp_path / "beside"
        beside.write_text(text)
        return beside.replace(path)

    return write


def number_in(path: Path) -> int:
    return int(path.read_text())


def test_a_change_is_seen_at_the_next_use(replace: Callable[[str], Path]) -> None:
    file = FreshFile(replace("1"), number_in)
    before = file.content()

    replace("2")

    assert (before, file.content()) == (1, 2)


def test_a_file_that_did_not_change_is_not_read_again(replace: Callable[[str], Path]) -> None:
    read: list[Path] = []
    file = FreshFile(replace("1"), lambda path: read.append(path))

    for _ in range(3):
        file.content()

    assert len(read) == 1


def test_a_broken_content_leaves_the_one_before_and_is_told_once(
    replace: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = replace("1")
    file = FreshFile(path, number_in)

    replace("one")
    contents = [file.content() for _ in range(3)]
    path.unlink()
    contents += [file.content() for _ in range(3)]
    replace("3")
    contents.append(file.content())

    assert contents == [1] * 6 + [3]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]


def test_a_mode_that_is_mended_counts_though_the_content_is_the_same(replace: Callable[[str], Path]) -> None:
    def private_number(path: Path) -> int:
        if path.stat().st_mode & 0o004:
            raise ValueError("is open to everybody")
        return number_in(path)

    path = replace("1")
    path.chmod(0o600)
    file = FreshFile(path, private_number)

    os.chmod(replace("2"), 0o644)
    open_to_everybody = file.content()
    path.chmod(0o600)

    assert (open_to_everybody, file.content()) == (1, 2)


def test_the_first_content_must_be_good(replace: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        FreshFile(replace("one"), number_in)
    with pytest.raises(FileNotFoundError):
        FreshFile(tmp_path / "none", number_in)
