"""Policy files: YAML of the contract's messages in proto3 JSON names, `policies:` and a list."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import yaml
from google.protobuf.json_format import ParseDict, ParseError

from jitaccess.errors import InvalidArgument
from jitaccess.v1 import policy_pb2


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping: YAML keeps the last and drops the first without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for index, key in enumerate(keys) if key in keys[:index]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read(paths: Iterable[str]) -> list[policy_pb2.Policy]:
    """Returns the policies of the files together; `-` is the standard input. Raises InvalidArgument with the path."""
    return [policy for path in paths for policy in _policies(path)]


def _policies(path: str) -> list[policy_pb2.Policy]:
    try:
        document = yaml.load(_content(path), Loader=_StrictLoader)  # noqa: S506  # It is a SafeLoader.
    except yaml.YAMLError as error:
        raise _invalid(path, " ".join(str(error).split())) from None
    if not isinstance(document, dict) or list(document) != ["policies"] or not isinstance(document["policies"], list):
        raise _invalid(path, "must hold `policies:` and a list, and nothing else")
    try:
        return list(ParseDict(document, policy_pb2.ApplyPoliciesRequest()).policies)
    except (ParseError, ValueError, TypeError, AttributeError) as error:
        # Python's protobuf answers some values of a wrong type with TypeError or AttributeError.
        raise _invalid(path, " ".join(str(error).split())) from None


def _content(path: str) -> bytes:
    try:
        if path == "-":
            return sys.stdin.buffer.read()
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise _invalid(path, error.strerror or "cannot be read") from None


def _invalid(path: str, fault: str) -> InvalidArgument:
    return InvalidArgument(f"{path}: {fault}", reason="POLICY_FILE_INVALID")
