"""The YAML of policy files, which the service and the `jit` command read alike (extra `cli`)."""

from __future__ import annotations

import re
from typing import Any

import yaml


class StrictLoader(yaml.SafeLoader):
    """Reads plain values as YAML 1.2 does, and refuses a duplicate key in a mapping.

    PyYAML would make a datetime of an instant, true of `on`, and 5400 of `1:30`; here they are text. Of a duplicate key
    it would keep the last value and silently drop the first.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for index, key in enumerate(keys) if key in keys[:index]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


# The core schema of YAML 1.2, without octal numbers, which are decimal there and octal in YAML 1.1.
StrictLoader.yaml_implicit_resolvers = {}
for _tag, _form, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_form})\Z"), list(_first))


def load(content: str | bytes) -> Any:
    """Returns the document. Raises yaml.YAMLError."""
    return yaml.load(content, Loader=StrictLoader)  # noqa: S506  # It is a SafeLoader.
