"""The YAML of policy files, which the service and the `jit` command read alike (extra `cli`)."""

from __future__ import annotations

from typing import Any

import yaml


class StrictLoader(yaml.SafeLoader):
    """Refuses a duplicate key in a mapping. PyYAML would keep the last one and silently drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for index, key in enumerate(keys) if key in keys[:index]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load(content: str | bytes) -> Any:
    """Returns the document. Raises yaml.YAMLError."""
    return yaml.load(content, Loader=StrictLoader)  # noqa: S506  # It is a SafeLoader.
