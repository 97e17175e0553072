"""Policy files: YAML of the contract's messages in proto3 JSON names, `policies:` and a list.

FILE.test.yaml beside FILE.yaml has the cases that try its policies: `tests:` and a list of `policy:` and `cases:`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import ParseDict, ParseError

from jitaccess import strict_yaml
from jitaccess.cli.denies import gaps
from jitaccess.errors import InvalidArgument
from jitaccess.v1 import policy_pb2


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is wrong at one place. `line` counts from 1; 0: with the file as a whole."""

    path: str
    line: int
    fault: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.fault}" if self.line else f"{self.path}: {self.fault}"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a policy stands."""

    path: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Linted:
    """What is wrong with files; where nothing is, their policies, and where each of these stands.

    `warnings` are of what is not wrong, but likely not what was meant.
    """

    findings: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    policies: tuple[policy_pb2.Policy, ...]
    places: tuple[Place, ...]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The cases that try one policy, and the draft of it."""

    path: str
    policy: policy_pb2.Policy
    cases: tuple[policy_pb2.PolicyTestCase, ...]


def read(paths: Iterable[str]) -> list[policy_pb2.Policy]:
    """Returns the policies of the files together; `-` is the standard input. Raises InvalidArgument with the path."""
    return [policy for path in paths for policy in _policies(path)]


def lint(paths: Iterable[str]) -> Linted:
    """Returns all that can be seen to be wrong with the files without the service."""
    findings: list[Finding] = []
    warnings: list[Finding] = []
    policies: list[policy_pb2.Policy] = []
    places: list[Place] = []
    first: dict[str, Place] = {}
    for path in paths:
        try:
            content = _content(path)
            document = _loaded(path, content)
            _demand_list(path, document, "policies")
        except InvalidArgument as fault:
            findings.append(Finding(path=path, line=0, fault=fault.message.removeprefix(f"{path}: ")))
            continue
        for node, given in zip(_policy_nodes(content), document["policies"], strict=True):
            place = Place(path=path, line=_line(node))
            places.append(place)
            policy = policy_pb2.Policy()
            findings += [Finding(path=path, line=line, fault=fault) for line, fault in _faults(node, given, policy)]
            findings += _twice(given, place, first)
            warnings += [Finding(path=path, line=place.line, fault=gap) for gap in gaps(policy)]
            policies.append(policy)
    return Linted(findings=tuple(findings), warnings=tuple(warnings), policies=tuple(policies), places=tuple(places))


def trials(path: str) -> list[Trial]:
    """Returns the trials of the file beside `path`, with the drafts from `path`. Raises InvalidArgument."""
    drafts = {_full_name(policy.name): policy for policy in _policies(path)}
    beside = str(Path(path).with_suffix(f".test{Path(path).suffix}"))
    document = _loaded(beside, _content(beside))
    _demand_list(beside, document, "tests")
    return [_trial(beside, index, given, drafts) for index, given in enumerate(document["tests"])]


def _trial(path: str, index: int, given: Any, drafts: dict[str, policy_pb2.Policy]) -> Trial:
    where = f"tests[{index}]"
    if not isinstance(given, dict) or set(given) != {"policy", "cases"} or not isinstance(given["cases"], list):
        raise _invalid(path, f"{where} must hold `policy:` and a list of `cases:`, and nothing else")
    name = _full_name(str(given["policy"]))
    if name not in drafts:
        raise _invalid(path, f"{where} is of {name}, which the file beside it does not have")
    try:
        cases = ParseDict({"cases": given["cases"]}, policy_pb2.TestPolicyRequest()).cases
    except (ParseError, ValueError, TypeError, AttributeError) as error:
        raise _invalid(path, f"{where}: {_one_line(error)}") from None
    return Trial(path=path, policy=drafts[name], cases=tuple(cases))


def _policies(path: str) -> list[policy_pb2.Policy]:
    document = _loaded(path, _content(path))
    _demand_list(path, document, "policies")
    try:
        return list(ParseDict(document, policy_pb2.ApplyPoliciesRequest()).policies)
    except (ParseError, ValueError, TypeError, AttributeError) as error:
        # Python's protobuf answers some values of a wrong type with TypeError or AttributeError.
        raise _invalid(path, _one_line(error)) from None


def _loaded(path: str, content: bytes) -> Any:
    try:
        return strict_yaml.load(content)
    except yaml.YAMLError as error:
        raise _invalid(path, _one_line(error)) from None


def _demand_list(path: str, document: Any, key: str) -> None:
    if not isinstance(document, dict) or list(document) != [key] or not isinstance(document[key], list):
        raise _invalid(path, f"must hold `{key}:` and a list, and nothing else")


def _policy_nodes(content: bytes) -> list[yaml.Node]:
    """Returns the nodes of the policies of a file that can be read."""
    document = yaml.compose(content, Loader=strict_yaml.StrictLoader)
    return list(document.value[0][1].value) if isinstance(document, yaml.MappingNode) else []


def _faults(node: yaml.Node, given: Any, policy: policy_pb2.Policy) -> Iterator[tuple[int, str]]:
    """Reads what is given into the policy, and yields what is wrong with it, with the line."""
    unknown = list(_unknown(node, policy_pb2.Policy.DESCRIPTOR))
    yield from unknown
    if unknown:
        return
    try:
        ParseDict(given, policy)
    except (ParseError, ValueError, TypeError, AttributeError) as error:
        yield _line(node), _one_line(error)


def _unknown(node: yaml.Node, kind: Descriptor) -> Iterator[tuple[int, str]]:
    """Yields the fields that the message does not have, at any depth."""
    if not isinstance(node, yaml.MappingNode) or kind.file.package.startswith("google."):
        return
    fields = {name: field for field in kind.fields for name in (field.json_name, field.name)}
    for key, value in node.value:
        field = fields.get(key.value)
        if field is None:
            yield _line(key), f"{kind.name} has no field {key.value!r}"
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for item in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                yield from _unknown(item, field.message_type)


def _twice(given: Any, place: Place, first: dict[str, Place]) -> Iterator[Finding]:
    name = given.get("name") if isinstance(given, dict) else None
    if not isinstance(name, str):
        return
    earlier = first.setdefault(_full_name(name), place)
    if earlier is not place:
        fault = f"{_full_name(name)} is at {earlier.path}:{earlier.line} already"
        yield Finding(path=place.path, line=place.line, fault=fault)


def _full_name(name: str) -> str:
    return f"policies/{name.removeprefix('policies/')}"


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line
    return line + 1


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


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
