"""Our service, with the plan of every SELECT written to the file that BENCH_PLANS names, as lines of JSON.

`python -m bench.explained ARGUMENTS` is `jit-service ARGUMENTS`; for part `lists`, after its times are taken.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, event

VARIABLE: Final = "BENCH_PLANS"
_READS: Final = ("SELECT", "WITH")


def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
    """Writes the plan of a statement that is about to run, on its connection."""
    if many or not statement.lstrip().upper().startswith(_READS):
        return
    prefix = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    cursor = connection.connection.cursor()
    try:
        cursor.execute(f"{prefix} {statement}", parameters)
        plan = [str(row[-1]) for row in cursor.fetchall()]
    finally:
        cursor.close()
    with Path(os.environ[VARIABLE]).open("a") as file:
        file.write(json.dumps({"statement": " ".join(statement.split()), "plan": plan}) + "\n")


def read(path: Path) -> dict[str, list[str]]:
    """Returns the plans that a file holds, by statement."""
    plans: dict[str, list[str]] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            with suppress(ValueError):  # a line that is being written
                found = json.loads(line)
                plans[found["statement"]] = found["plan"]
    return plans


def main() -> None:
    """Runs the service."""
    from jit_service.__main__ import main as serve

    event.listen(Engine, "before_cursor_execute", explain)
    serve()


if __name__ == "__main__":
    sys.argv[0] = "jit-service"
    main()
