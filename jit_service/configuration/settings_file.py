"""The one file in which every setting may stand: `jit-service.yaml`, a mapping from settings to their values.

A flag and a variable of the environment come before it. A key without a value counts as not set.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from jit_service.configuration.environment import PREFIX
from jit_service.configuration.faults import SettingsError, meant
from jit_service.configuration.secret_file import shown_path
from jitaccess import strict_yaml

_FAULT: Final = re.compile(rf"{PREFIX}([A-Z0-9_]+?)((?:\[[0-9]+\]|\.[A-Za-z0-9_]+)*): ")
_OF_THE_FILE: Final = re.compile(r"\b(alias|anchor|tag|tag handle) ['\"].*", re.DOTALL)
_PART: Final = re.compile(r"\[([0-9]+)\]|\.([A-Za-z0-9_]+)")


@dataclass(frozen=True)
class SettingsFile:
    """The settings that a file gives."""

    path: Path
    values: Mapping[str, Any]
    _root: yaml.MappingNode | None

    def line_of(self, name: str) -> int:
        """Returns the line of a setting that the file gives."""
        return self._line((name,))

    def located(self, fault: str) -> str:
        """Returns the fault of a setting `JIT_NAME…: ` with the file's line and name of it, if the file gives it."""
        found = _FAULT.match(fault)
        if found is None or (name := found[1].lower()) not in self.values:
            return fault
        parts = tuple(int(part[1]) if part[1] else part[2] for part in _PART.finditer(found[2]))
        return f"{self.path}:{self._line((name, *parts))}: {name}{found[2]}: {fault[found.end() :]}"

    def _line(self, place: tuple[int | str, ...]) -> int:
        """Returns the line of the place, or of the nearest one around it that is in the file."""
        node: yaml.Node | None = self._root
        line = 1
        for part in place:
            if isinstance(node, yaml.MappingNode):
                pair = next((each for each in node.value if each[0].value == part), None)
                mark, node = (pair[0].start_mark, pair[1]) if pair else (None, None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                mark = node.start_mark
            else:
                break
            line = mark.line + 1 if mark is not None else line
        return line


def read(path: Path, known: Collection[str]) -> SettingsFile:
    """Returns the settings in the file. `known` are all that there are. Raises SettingsError."""
    text = text_of(path, "--config")
    values = document(text, path, "--config")
    root = yaml.compose(text, Loader=strict_yaml.StrictLoader) if values is not None else None
    if values is None:
        return SettingsFile(path, {}, None)
    if not isinstance(values, dict) or not isinstance(root, yaml.MappingNode):
        raise SettingsError(f"--config: {path} must be a mapping from settings to values, such as `workers: 2`")
    file = SettingsFile(path, {key: value for key, value in values.items() if value is not None}, root)
    unknown = [key for key in values if key not in known]
    if unknown:
        raise SettingsError(*(_unknown(file, str(key), known) for key in unknown))
    _demand_closed(path, file.values)
    return file


def document(text: str, path: Path, setting: str) -> Any:
    """Returns what the YAML says. Raises SettingsError with the line's number, not its text: that may be a secret."""
    try:
        return strict_yaml.load(text)
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark is not None else ""
        # What follows such a word is from the file: `password: *x` is the alias x for YAML.
        problem = _OF_THE_FILE.sub(r"\1", getattr(fault, "problem", None) or "bad")
        raise SettingsError(f"{setting}: {path} is not YAML: {problem}{line}") from None


def text_of(path: Path, setting: str) -> str:
    """Returns what is in the file. Raises SettingsError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        why = getattr(fault, "strerror", None) or "it is not UTF-8"
        raise SettingsError(f"{setting}: {shown_path(path)} cannot be read: {why}") from fault


def _unknown(file: SettingsFile, key: str, known: Collection[str]) -> str:
    plain = key.upper().removeprefix(PREFIX).lower()
    guess = f"; did you mean {plain}?" if plain != key and plain in known else meant(key, known)
    shown = key if key.isascii() and key.isprintable() else ascii(key)
    return f"{file.path}:{file.line_of(key)}: {shown} is no setting{guess} (`jit-service settings` lists them all)"


def _demand_closed(path: Path, values: Mapping[str, Any]) -> None:
    """Raises SettingsError if everybody may change the file, or may read it though it may hold a secret."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IWOTH:
        raise SettingsError(f"--config: everybody may change {path} (mode {mode:04o}); chmod o-w it")
    secret = next((name for name in ("database_url", "notifications") if values.get(name)), None)
    if mode & stat.S_IROTH and secret is not None and _may_hold_secret(secret, values[secret]):
        raise SettingsError(
            f"--config: {path} is open to everybody (mode {mode:04o}), and {secret} may hold a secret; chmod o-rwx it"
        )


def _may_hold_secret(name: str, value: Any) -> bool:
    # A password is after the user's name or in a parameter.
    return name != "database_url" or bool(re.search(r"://[^/?#]*:[^/?#]*@|\?", str(value)))
