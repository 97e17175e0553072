"""Says what settings there are, and which values hold: for the page of settings, the command, and the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jit_service.configuration.environment import PREFIX
from jit_service.configuration.forms import Address, shown_span
from jitaccess.naming.duration import FORMS

_KINDS: Final[Mapping[type, str]] = {
    bool: "`true` or `false`",
    int: "a whole number",
    float: "a number",
    timedelta: "a duration",
    Path: "a path",
    Address: "HOST:PORT; port 0 takes a free one",
    tuple: "a JSON list",
}


class Row(NamedTuple):
    """A setting. `default` is empty if there is none."""

    variable: str
    default: str
    form: str
    meaning: str


def rows(model: type[BaseModel]) -> Iterator[Row]:
    """Yields the settings in their order."""
    for name, field in model.model_fields.items():
        yield Row(PREFIX + name.upper(), shown(field.default), _form(field), field.description or "")


def page(model: type[BaseModel]) -> str:
    """Returns docs/settings.md."""
    lines = [f"| `{row.variable}` | {_code(row.default)} | {row.form} | {row.meaning} |" for row in rows(model)]
    return _PAGE.replace("__FORMS__", FORMS) + "\n".join(lines) + "\n"


def effective(settings: BaseModel, *, instead: Mapping[str, str]) -> str:
    """Returns all values in one line. `instead` says what to show of settings that may hold a secret."""
    return " ".join(f"{name}={value or '-'}" for name, value in values(settings, instead=instead).items())


def values(settings: BaseModel, *, instead: Mapping[str, str]) -> dict[str, str]:
    """Returns all values as one would write them, by their names; `instead` is as for `effective`."""
    return {name: instead.get(name, shown(getattr(settings, name))) for name in type(settings).model_fields}


def shown(value: object) -> str:
    """Returns a value as one would write it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, timedelta):
        return shown_span(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def _form(field: FieldInfo) -> str:
    extra: Any = field.json_schema_extra or {}
    return str(extra.get("form") or _of_kind(_kind(field.annotation)) + _bounds(field))


def _kind(annotation: Any) -> type:
    """Returns the type of a field, without None and what a list holds."""
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return get_origin(annotation) or annotation  # type: ignore[no-any-return]


def _of_kind(kind: type) -> str:
    if issubclass(kind, Enum):
        return "one of " + ", ".join(f"`{each.value}`" for each in kind)
    return _KINDS[kind]


def _bounds(field: FieldInfo) -> str:
    """Returns the bounds of a number or a duration: `, 1 to 64`."""
    least = next((each.ge for each in field.metadata if isinstance(each, Ge)), None)
    above = next((each.gt for each in field.metadata if isinstance(each, Gt)), None)
    most = next((each.le for each in field.metadata if isinstance(each, Le)), None)
    if least is not None and most is not None:
        return f", {_bound(least)} to {_bound(most)}"
    words = ("at least", least), ("above", above), ("at most", most)
    said = [f"{word} {_bound(value)}" for word, value in words if value is not None]
    return ", " + " and ".join(said) if said else ""


def _bound(value: Any) -> str:
    return shown_span(value) if isinstance(value, timedelta) else f"{value:,.0f}"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


_PAGE: Final = """# Settings

`make proto` writes this page from `jit_service/settings.py`. `jit-service settings` prints the same, and
`jit-service check` tries the settings of a host without starting anything.

A setting is a variable of the environment, and a key of the settings file, where its name is in lower case and
without `JIT_`: `jit-service init` writes the file with every setting in a comment, and `--config FILE` or
`JIT_SERVICE_CONFIG` names it. Those that `jit-service serve --help` has are flags too. A flag comes before the
variable, the variable before the file, the file before the default; `jit-service config` shows what holds and from
where. An empty variable counts as not set. A `JIT_*` variable that is neither here nor the client's is refused, and so
is a key that is none. When the service starts it logs its version and the settings that hold, without secrets.

A duration is days, hours, minutes and seconds (__FORMS__, 0.5s), or a number of seconds.

| variable | default | form | meaning |
| --- | --- | --- | --- |
"""
