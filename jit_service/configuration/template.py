"""Writes the commented settings file: every setting, with its default, its form and its meaning."""

from __future__ import annotations

import textwrap
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel

from jit_service.configuration.forms import Address
from jit_service.configuration.table import rows, shown

_WIDTH: Final = 118
_HEAD: Final = """\
# The settings of jit-service: every one that there is, with its default. Remove the # of those that you change.
#
#   jit-service serve --config {path}      JIT_SERVICE_CONFIG names the file too
#   jit-service check --config {path}      tries the settings, without starting anything
#   jit-service config --config {path}     shows what holds, and from where
#
# A flag comes before a variable of the environment, that before this file, and this file before the default. The
# variable of a setting is JIT_ and its name in capitals. Keys that are no settings are refused. A setting without a
# value counts as not set. Relative paths are below the directory in which the service starts. The file is read at the
# start. A duration is days, hours, minutes and seconds (1h30m), or a number of seconds.
#
# Keep the file from others (chmod o-rwx) if a secret is in it; the password of a database may stand in a file that the
# URL names (passfile=) instead.
"""


def text(model: type[BaseModel], *, path: str) -> str:
    """Returns the file. `path` is the one that it will have."""
    return _HEAD.format(path=path) + "".join(map(_entry, model.model_fields.items(), rows(model)))


def _entry(field: Any, row: Any) -> str:
    name, facts = field
    meaning = textwrap.wrap(f"{row.meaning} Form: {_form(row.form)}.", _WIDTH)
    comment = "".join(f"# {line}\n" for line in meaning)
    extra = facts.json_schema_extra or {}
    example = textwrap.indent(str(extra.get("example", "")), "#   ")
    return f"\n{comment}{example}# {name}: {_default(facts.default)}".rstrip() + "\n"


def _form(form: str) -> str:
    return form.replace("`", "").replace("a JSON list", "a list")


def _default(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Path | Address | timedelta | Enum):
        value = shown(value)
    if isinstance(value, tuple):
        value = list(value)
    written = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return written.removesuffix("\n").removesuffix("\n...")
