"""Says what is wrong with settings, each fault in one line: its place, and what is allowed, but never its value.

The value may be a secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from jit_service.configuration.forms import shown_span

_LIST: Final = "must be a list, such as [a, b]"
_WHOLE: Final = "must be a whole number"
_NUMBER: Final = "must be a number"
_SWITCH: Final = "must be true or false"
_MAPPING: Final = "must be a mapping, such as {key: value}"
_TEXT: Final = "must be text; put it into quotes"
_WORDS: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "tuple_type": _LIST,
    "list_type": _LIST,
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "string_type": _TEXT,
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "bool_type": _SWITCH,
    "bool_parsing": _SWITCH,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "path_type": "must be a path",
    "time_delta_type": "must be a duration, such as 90s or 1h30m, or a number of seconds",
}
"""Words for pydantic's types of errors; for all others, pydantic's own are plain enough."""
_BOUND: Final = re.compile(r"datetime\.timedelta\(([^)]*)\)")
# The strict types among which a value of a claim may be chosen: each has an error of its own.
_CHOICES: Final = ("bool", "int", "str")
_OF_CHOICES: Final = ("bool_type", "int_type", "string_type")


class SettingsError(ValueError):
    """Settings are wrong. Each fault is one line that names the setting; the message has all of them."""

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def lines(fault: ValidationError, model: type[BaseModel], *, prefix: str = "JIT_") -> list[str]:
    """Returns each fault in one line: `JIT_ISSUERS[0].roles.admin: must be a list, such as [a, b]`."""
    told = (_line(each, model, prefix) for each in fault.errors(include_url=False, include_input=False))
    return list(dict.fromkeys(told))


def _line(fault: ErrorDetails, model: type[BaseModel], prefix: str) -> str:
    place = _place(fault)
    name, *path = _shown(model, place)
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return f"{prefix}{str(name).upper()}{where}: {_words(fault, model, place)}"


def _shown(model: type[BaseModel], place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Returns the place without the kind that pydantic names where one of several models was chosen by it."""
    shown: list[int | str] = []
    here = [model]
    for part in place:
        chosen = [each for each in here if _kind(each) == part] if len(here) > 1 else []
        if chosen:
            here = chosen
            continue
        shown.append(part)
        if isinstance(part, str) and len(here) == 1 and part in _fields(here[0]):
            here = list(_models_in(_fields(here[0])[part].annotation))
    return tuple(shown)


def _kind(model: type[BaseModel]) -> str:
    """Returns the kind that the model is for, where it has a literal field `kind`."""
    field = model.model_fields.get("kind")
    return str(get_args(field.annotation)[0]) if field is not None else ""


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Returns the model's fields by the names that users give them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def meant(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean NAME?` with the known name that is most alike, or nothing if none is."""
    alike = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {alike[0]}?" if alike else ""


def _place(fault: ErrorDetails) -> tuple[int | str, ...]:
    place = fault["loc"]
    if place[-1] == "[key]":
        return place[:-1]
    return place[:-1] if _is_choice(fault) else place


def _is_choice(fault: ErrorDetails) -> bool:
    return fault["type"] in _OF_CHOICES and fault["loc"][-1] in _CHOICES


def _words(fault: ErrorDetails, model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    if _is_choice(fault):
        return "must be text, a whole number, true or false"
    if kind == "extra_forbidden":
        return _unknown(str(place[-1]), _fields(_model_at(model, place[:-1])))
    if kind == "union_tag_invalid":
        return f"kind must be one of {str(context['expected_tags']).replace(chr(39), '')}"
    if kind in ("enum", "literal_error"):
        return f"must be {str(context['expected']).replace(chr(39), '')}"
    if kind == "string_pattern_mismatch":
        return f"must be {_form_at(model, place)}"
    said = fault["msg"].removeprefix("Value error, ")
    # Of a duration that may be left out, pydantic tells the bound as Python writes it.
    said = _BOUND.sub(_shown_bound, said)
    said = said.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
    return _WORDS.get(kind) or said.replace("Input should be", "must be")


def _shown_bound(found: re.Match[str]) -> str:
    parts = (part.partition("=") for part in found[1].split(", ") if "=" in part)
    return shown_span(timedelta(**{unit: int(amount) for unit, _, amount in parts}))


def _unknown(key: str, known: Iterable[str]) -> str:
    return f"is no key here{meant(key, known) or '.'} Allowed are {', '.join(known)}"


def _form_at(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """Returns the form that the field at the place says of itself."""
    extra: Any = _fields(_model_at(model, place[:-1]))[str(place[-1])].json_schema_extra or {}
    return str(extra["form"])


def _model_at(model: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel]:
    """Returns the model that is at the place within the first one."""
    here = [model]
    for part in place:
        chosen = [each for each in here if _kind(each) == part] if len(here) > 1 else []
        if chosen:
            here = chosen
        elif isinstance(part, str):
            here = list(_models_in(_fields(here[0])[part].annotation))
    return here[0]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
