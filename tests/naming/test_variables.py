"""The client's variables are listed once, and the service reads that list."""

from __future__ import annotations

import re
from pathlib import Path

import jitaccess
from jitaccess.naming.variables import Variable

CODE = Path(jitaccess.__file__).parent


def test_the_client_names_no_variable_outside_the_list() -> None:
    literals = {
        (path.relative_to(CODE).as_posix(), name)
        for path in CODE.rglob("*.py")
        for name in re.findall(r"""["'](JIT_[A-Z_]+)["']""", path.read_text(encoding="utf-8"))
    }

    assert literals == {("naming/variables.py", variable.value) for variable in Variable}
