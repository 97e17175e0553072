"""The table of rooms in ARCHITECTURE.md: what it counts, and that it is of the code as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import rooms  # noqa: E402 (tools/ is no package)


def test_the_page_has_the_table_of_the_code_as_it_is() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")

    assert rooms.with_table(page) == page, "run `make proto`"


def test_a_room_is_a_package_or_a_module_beside_them() -> None:
    assert rooms.room_of("jit_service.rpc.services.grants", Path("grants.py")) == "jit_service/rpc/"
    assert rooms.room_of("jit_service.rpc", Path("__init__.py")) == "jit_service/rpc/"
    assert rooms.room_of("jit_service.settings", Path("settings.py")) == "jit_service/settings.py"


def test_an_import_within_a_function_is_an_arrow_too(tmp_path: Path) -> None:
    module = tmp_path / "m.py"
    module.write_text("def f():\n    from jit_service.domain import caller\n    import jit_service.settings\n")
    known = {"jit_service.domain.caller": module, "jit_service.settings": module}

    assert sorted(rooms.imported(module, known)) == ["jit_service.domain.caller", "jit_service.settings"]


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="marks"):
        rooms.with_table("# Architecture\n")
