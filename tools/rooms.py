"""Counts the rooms of jit_service and of the Python client, and the arrows between them, for ARCHITECTURE.md.

A room is a package, or a module that stands beside them at the top. An arrow goes from a room to one that it imports.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOUSES = {"jit_service": ROOT / "jit_service", "jitaccess": ROOT / "clients" / "python" / "jitaccess"}
# Code that protoc writes, and steps of the database's schema that nothing imports.
NOT_ROOMS = ("v1", "generated", "versions")
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- rooms: made by `make proto` -->", "<!-- /rooms -->"


def modules() -> dict[str, Path]:
    """Returns the path of every hand-written module, by its dotted name."""
    found = {}
    for house, directory in HOUSES.items():
        for path in sorted(directory.rglob("*.py")):
            parts = path.relative_to(directory).with_suffix("").parts
            if not set(parts) & set(NOT_ROOMS):
                found[".".join((house, *(part for part in parts if part != "__init__")))] = path
    return found


def imported(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Yields the names of the known modules that the module imports, at its top or within a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name for name in names if name in known)


def room_of(module: str, path: Path) -> str:
    """Returns the room of a module: its package below the house, or the module itself where it stands at the top."""
    house, *parts = module.split(".")
    if not parts:
        return house
    is_package = len(parts) > 1 or path.name == "__init__.py"
    return f"{house}/{parts[0]}{'/' if is_package else '.py'}"


def table() -> str:
    """Returns the rooms as a table in Markdown: how many modules each has, and which rooms it imports."""
    known = modules()
    rooms = {module: room_of(module, path) for module, path in known.items()}
    count: dict[str, int] = {}
    arrows: dict[str, set[str]] = {}
    between = 0
    for module, path in known.items():
        room = rooms[module]
        count[room] = count.get(room, 0) + 1
        targets = set(imported(path, known))
        between += sum(rooms[target] != room for target in targets)
        arrows.setdefault(room, set()).update(rooms[target] for target in targets if rooms[target] != room)
    rows = ["| room | modules | imports |", "| --- | --- | --- |"]
    rows += [f"| {room} | {count[room]} | {', '.join(sorted(map(_short, arrows[room])))} |" for room in sorted(count)]
    total = sum(map(len, arrows.values()))
    rows += ["", f"{len(count)} rooms, {total} arrows between them, from {between} imports of {len(known)} modules."]
    return "\n".join(rows)


def _short(room: str) -> str:
    """Names a room of the service without its house."""
    return room.removeprefix("jit_service/").rstrip("/").removesuffix(".py")


def with_table(page: str) -> str:
    """Returns the page with the table of today between its two marks. Raises ValueError where it has no marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has not the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
