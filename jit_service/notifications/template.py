"""Bodies of a receiver's own, made from a template file.

`NAME.json` is a JSON document. Its strings may hold `${title}` and the like; the values go into the strings after the
document has been parsed, so no value can end a string or add a key. `NAME.txt` is text, in which a value is one line.
A template has no logic.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jit_service.notifications.wording import Notice

LARGEST: Final = 64 << 10
"""Bytes of a template file."""
PLACEHOLDERS: Final = (
    *("id", "event", "time", "title", "words", "link", "about", "urgency", "state", "who", "opens", "actions"),
    *("duration", "policy", "ticket", "until", "facts"),
)
_FACTS: Final = {
    "state": "Now",
    "who": "Who",
    "opens": "Opens",
    "actions": "Actions",
    "duration": "For",
    "policy": "Policy",
    "ticket": "Ticket",
    "until": "Until",
}


@dataclass(frozen=True, kw_only=True)
class Template:
    """A parsed template: JSON values, or text where `is_json` is not so."""

    content: Any
    is_json: bool

    @property
    def content_type(self) -> str:
        """The media type of its bodies."""
        return "application/json" if self.is_json else "text/plain; charset=utf-8"

    def body(self, notice: Notice) -> bytes:
        """Returns the body of the notice."""
        values = values_of(notice)
        if self.is_json:
            return json.dumps(_filled(self.content, values), ensure_ascii=False).encode()
        lines = {name: " ".join(value.split()) for name, value in values.items()}
        return string.Template(self.content).substitute(lines).encode()


def values_of(notice: Notice) -> dict[str, str]:
    """Returns what the placeholders stand for; what the event has not is empty."""
    facts = dict(notice.facts)
    named = {placeholder: facts.get(label, "") for placeholder, label in _FACTS.items()}
    return named | {
        "id": notice.id,
        "event": notice.event,
        "time": notice.at.isoformat().replace("+00:00", "Z"),
        "title": notice.title,
        "words": notice.words,
        "link": notice.link,
        "about": notice.about,
        "urgency": notice.urgency.value,
        "facts": "; ".join(f"{label}: {value}" for label, value in notice.facts),
    }


def read_template(path: Path) -> Template:
    """Reads a template file. Raises ValueError, which says what is wrong with it."""
    if path.suffix not in (".json", ".txt"):
        raise ValueError(f"template: {path} must be named .json or .txt, which says what the body is")
    try:
        text = path.read_bytes()[: LARGEST + 1]
        if len(text) > LARGEST:
            raise ValueError(f"template: {path} is longer than {LARGEST >> 10} KiB")
        template = _template_of(text.decode("utf-8"), path)
    except OSError as fault:
        raise ValueError(f"template: {path} cannot be read: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"template: {path} is not UTF-8") from None
    for each in _texts(template.content):
        _demand_known(each, path)
    return template


def _template_of(text: str, path: Path) -> Template:
    if path.suffix == ".txt":
        return Template(content=text, is_json=False)
    try:
        return Template(content=json.loads(text), is_json=True)
    except ValueError as fault:
        line = getattr(fault, "lineno", None)
        raise ValueError(f"template: {path} is not JSON" + (f" (line {line})" if line else "")) from None
    except RecursionError:
        raise ValueError(f"template: {path} is nested too deeply") from None


def _demand_known(text: str, path: Path) -> None:
    template = string.Template(text)
    if not template.is_valid():
        raise ValueError(f"template: {path} has a $ that begins no placeholder; write $$ for the sign itself")
    unknown = sorted(set(template.get_identifiers()) - set(PLACEHOLDERS))
    if unknown:
        raise ValueError(f"template: {path} has ${{{unknown[0]}}}; placeholders are {', '.join(PLACEHOLDERS)}")


def _texts(content: Any) -> list[str]:
    """Returns every string that values are put into; keys are taken as they are."""
    if isinstance(content, str):
        return [content]
    if isinstance(content, dict):
        return [text for value in content.values() for text in _texts(value)]
    return [text for value in content for text in _texts(value)] if isinstance(content, list) else []


def _filled(content: Any, values: Mapping[str, str]) -> Any:
    if isinstance(content, str):
        return string.Template(content).substitute(values)
    if isinstance(content, dict):
        return {key: _filled(value, values) for key, value in content.items()}
    return [_filled(value, values) for value in content] if isinstance(content, list) else content
