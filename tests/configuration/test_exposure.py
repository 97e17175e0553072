"""What others may read or change on the disk is told, and where SQLite's WAL does not work."""

from __future__ import annotations

from pathlib import Path

import pytest

from jit_service.configuration.exposure import exposed, file_system, tighten

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:40 / /srv rw - nfs4 filer:/srv rw
41 40 8:2 / /srv/local rw - xfs /dev/sdb1 rw
"""


@pytest.mark.parametrize(
    ("path", "kind"), [("/srv/jit", "nfs4"), ("/srv", "nfs4"), ("/srv/local/jit", ""), ("/srvx", ""), ("/var", "")]
)
def test_a_network_file_system_is_known_by_the_nearest_mount(tmp_path: Path, path: str, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)

    assert file_system(Path(path), mounts) == kind


def test_a_file_in_a_directory_that_nobody_else_can_enter_is_no_matter(tmp_path: Path) -> None:
    database = tmp_path / "jit.db"
    database.touch(0o644)
    database.chmod(0o644)

    tmp_path.chmod(0o700)
    closed = list(exposed(tmp_path, database))
    tmp_path.chmod(0o755)
    opened = list(exposed(tmp_path, database))

    assert closed == []
    assert opened == [f"{database} is open to everybody (mode 0644); chmod o-rwx it"]


def test_a_directory_in_which_everybody_may_write_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    assert list(exposed(tmp_path, None)) == [
        f"everybody may make and remove files in {tmp_path} (mode 0777); chmod o-rwx it"
    ]


def test_a_database_that_a_copy_left_open_is_taken_from_everybody(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    database, log = tmp_path / "jit.db", tmp_path / "jit.db-wal"
    for path, mode in ((database, 0o644), (log, 0o666)):
        path.touch()
        path.chmod(mode)

    told = list(tighten(database))

    assert told == [
        f"{database} was open to everybody (mode 0644), and is not any more",
        f"{log} was open to everybody (mode 0666), and is not any more",
    ]
    assert [path.stat().st_mode & 0o777 for path in (database, log)] == [0o640, 0o660]
    assert list(exposed(tmp_path, database)) == []
    assert list(tighten(database)) == []
    assert list(tighten(None)) == []
