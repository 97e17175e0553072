"""What a database's fault is told as."""

from __future__ import annotations

import sqlite3
import sys
from typing import Any

import pytest

from jit_service.domain.errors import StoreUnavailable
from jit_service.storage.failures import translate_errors


class NoFileLeft:
    """A finder of modules in a process that can open no file."""

    def find_spec(self, name: str, *_: object) -> Any:
        if name == "psycopg":
            raise OSError(24, "Too many open files")
        return None


def test_a_fault_of_sqlite_is_told_without_opening_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "psycopg", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoFileLeft(), *sys.meta_path])

    with pytest.raises(StoreUnavailable), translate_errors():
        raise sqlite3.OperationalError("unable to open database file")
