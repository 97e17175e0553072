"""Policy files and their tests, read node by node: every fault is found, at the line where it stands (extra `cli`).

A policy file is YAML of the contract's messages in proto3 JSON names: the key `policies:` and a list. Durations are
written as people write them (`2h`, `1h30m`, `90s`, `7d`), or as proto3 JSON does (`5400s`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from jitaccess import strict_yaml
from jitaccess.naming.duration import parse_span
from jitaccess.naming.suggestion import closest, did_you_mean
from jitaccess.v1 import policy_pb2

# What Python's protobuf answers values of a wrong type with.
_REFUSALS: Final = (ParseError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)
_PARSE_ERROR: Final = re.compile(r"(?:Failed to parse \S+ field: )?(.*?)\.?(?: at \S+)?")
# YAML 1.1 read these as booleans; a boolean field can mean nothing else by them.
_YES_NO: Final = {"yes": True, "on": True, "no": False, "off": False}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong. `line` counts from 1, 0 is the file as a whole; `field` is the path of the field, if it is one."""

    line: int
    words: str
    field: str = ""


@dataclass(kw_only=True)
class Lines:
    """Where the fields of a file stand, by their paths: `policies[0].steps[1].approvers`."""

    by_path: dict[str, int] = field(default_factory=dict)

    def of(self, path: str) -> int:
        """Returns the line of the field, or of what it would stand in; 0 where nothing is known of it."""
        while path and path not in self.by_path:
            within, _, last = path.rpartition(".")
            same = {
                line for known, line in self.by_path.items() if _is_below(known, within) and known.endswith(f".{last}")
            }
            if within.count(".") == 0 and len(same) == 1:
                return same.pop()
            path = within
        return self.by_path.get(path, 0)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The cases that try one policy."""

    policy: str
    line: int
    cases: tuple[policy_pb2.PolicyTestCase, ...]


@dataclass(frozen=True, kw_only=True)
class PolicyFile:
    """The policies of a file. Where there are faults, they are without what is wrong."""

    policies: tuple[policy_pb2.Policy, ...]
    lines: Lines
    faults: tuple[Fault, ...]


@dataclass(frozen=True, kw_only=True)
class TestFile:
    """The trials of a file, as far as it has no faults."""

    trials: tuple[Trial, ...]
    lines: Lines
    faults: tuple[Fault, ...]


def read_policies(content: bytes) -> PolicyFile:
    """Reads a policy file. Never raises: what cannot be read is a fault."""
    reader = _Reader(content)
    policies = []
    for index, node in enumerate(reader.entries("policies")):
        policies.append(policy_pb2.Policy())
        reader.read(node, policies[-1], f"policies[{index}]")
    return PolicyFile(policies=tuple(policies), lines=reader.lines, faults=tuple(reader.faults))


def read_tests(content: bytes) -> TestFile:
    """Reads the tests of a policy file: `tests:` and a list of `policy:` and `cases:`. Never raises."""
    reader = _Reader(content)
    trials = [reader.trial(node, f"tests[{index}]") for index, node in enumerate(reader.entries("tests"))]
    return TestFile(trials=tuple(trial for trial in trials if trial), lines=reader.lines, faults=tuple(reader.faults))


def json_path(path: str) -> str:
    """Returns the path of a field with the names that it has in JSON and YAML: `steps[0].approvalsNeeded`."""
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), path)


class _Reader:
    """Reads one document. `lines` and `faults` grow on the way."""

    def __init__(self, content: bytes) -> None:
        self.lines = Lines()
        self.faults: list[Fault] = []
        self._loader: Any = None
        self._root: yaml.Node | None = None
        try:
            self._loader = strict_yaml.StrictLoader(content)
            self._root = self._loader.get_single_node()
        except (yaml.YAMLError, RecursionError) as error:
            self._broken(error)

    def entries(self, key: str) -> list[yaml.Node]:
        """Returns the entries of the list that is the whole document, below the key."""
        if self.faults:
            return []
        pairs = self._root.value if isinstance(self._root, yaml.MappingNode) else []
        if [name.value for name, _ in pairs] != [key] or not isinstance(pairs[0][1], yaml.SequenceNode):
            self.faults.append(Fault(line=0, words=f"must hold `{key}:` and a list, and nothing else"))
            return []
        return list(pairs[0][1].value)

    def read(self, node: yaml.Node, message: Message, path: str) -> None:
        """Reads the fields of a mapping into the message."""
        self.lines.by_path.setdefault(path, _line(node))
        if not isinstance(node, yaml.MappingNode):
            self._fault(node, path, f"must be a mapping with the fields of {message.DESCRIPTOR.name}")
            return
        descriptor: Any = message.DESCRIPTOR
        fields = {name: known for known in descriptor.fields for name in (known.json_name, known.name)}
        for key, value in self._pairs(node, path):
            known = fields.get(str(key.value))
            if known is None:
                names = [known.json_name for known in descriptor.fields]
                meant = fields.get(closest(str(key.value), names))
                words = f"{descriptor.name} has no field {key.value!r}{did_you_mean(str(key.value), names)}"
                self.faults.append(Fault(line=_line(key), words=words, field=f"{path}.{meant.name}" if meant else ""))
                continue
            within = f"{path}.{known.name}"
            self.lines.by_path[within] = _line(key)
            self._read_field(value, message, known, within)

    def trial(self, node: yaml.Node, path: str) -> Trial | None:
        """Returns the trial; None where it is not one."""
        pairs = {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}
        cases = pairs.get("cases")
        if set(pairs) != {"policy", "cases"} or not isinstance(cases, yaml.SequenceNode):
            words = f"{path} must hold `policy:` and a list of `cases:`, and nothing else"
            self.faults.append(Fault(line=_line(node), words=words))
            return None
        read = []
        for index, entry in enumerate(cases.value):
            read.append(policy_pb2.PolicyTestCase())
            self.read(entry, read[-1], f"{path}.cases[{index}]")
        return Trial(policy=str(pairs["policy"].value), line=_line(pairs["policy"]), cases=tuple(read))

    def _pairs(self, node: yaml.MappingNode, path: str) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """Yields the keys and values, those merged in by `<<` among them; of a key that stands twice the first."""
        seen: set[str] = set()
        own = [key for key, _ in node.value]
        self._loader.flatten_mapping(node)
        # What is merged comes first, and its keys may stand again.
        last = {str(key.value): (key, value) for key, value in node.value if key not in own}
        for key, value in node.value:
            name = str(key.value)
            if key in own and name in seen:
                self.faults.append(Fault(line=_line(key), words=f"the key {name!r} stands twice", field=path))
            elif key in own:
                seen.add(name)
                last[name] = (key, value)
        yield from last.values()

    def _read_field(self, node: yaml.Node, message: Message, known: FieldDescriptor, path: str) -> None:
        if node.tag == "tag:yaml.org,2002:null":
            return
        own_message = _is_own_message(known)
        if known.is_repeated and not _is_map(known):
            if not isinstance(node, yaml.SequenceNode):
                self._fault(node, path, "must be a list")
                return
            for index, entry in enumerate(node.value):
                within = f"{path}[{index}]"
                self.lines.by_path[within] = _line(entry)
                if own_message:
                    self.read(entry, getattr(message, known.name).add(), within)
                else:
                    self._set(entry, message, known, within)
        elif own_message:
            inner = getattr(message, known.name)
            inner.SetInParent()
            self.read(node, inner, path)
        else:
            self._set(node, message, known, path)

    def _set(self, node: yaml.Node, message: Message, known: FieldDescriptor, path: str) -> None:
        """Sets a field, or adds to a list, what the node holds."""
        try:
            value = _as_written(self._loader.construct_object(node, deep=True), known)
            given = {known.json_name: [value] if known.is_repeated and not _is_map(known) else value}
            message.MergeFrom(ParseDict(given, type(message)()))
        except yaml.YAMLError as error:
            self._broken(error)
        except _REFUSALS as error:
            self._fault(node, path, _words(error))

    def _fault(self, node: yaml.Node, path: str, words: str) -> None:
        self.faults.append(Fault(line=_line(node), words=f"{_within_entry(path)}: {words}", field=path))

    def _broken(self, error: Exception) -> None:
        mark = getattr(error, "problem_mark", None)
        words = getattr(error, "problem", None) or str(error)
        self.faults.append(Fault(line=mark.line + 1 if mark else 0, words=" ".join(str(words).split())))


def _as_written(value: Any, known: FieldDescriptor) -> Any:
    """Returns the value as proto3 JSON has it. Raises ValueError for one that the field cannot be."""
    kind: Any = known
    if kind.message_type is not None and kind.message_type.full_name == "google.protobuf.Duration":
        return _duration(value, zero_is_none=known.name == "min_duration")
    if kind.enum_type is not None and value not in (names := [entry.name for entry in kind.enum_type.values]):
        raise ValueError(f"{value!r} is none of {', '.join(names[1:])}{did_you_mean(str(value).upper(), names)}")
    if kind.type == FieldDescriptor.TYPE_BOOL and not isinstance(value, bool):
        if str(value).lower() not in _YES_NO:
            raise ValueError(f"{value!r} is neither true nor false")
        return _YES_NO[str(value).lower()]
    if kind.type == FieldDescriptor.TYPE_STRING and not isinstance(value, str):
        raise ValueError(f"must be text; put {value!r} in quotes")
    return value


def _duration(value: Any, *, zero_is_none: bool) -> str:
    if zero_is_none and value == "0s":
        return "0s"
    span = Duration()
    span.FromTimedelta(parse_span(str(value)))
    return span.ToJsonString()


def _is_map(known: FieldDescriptor) -> bool:
    kind: Any = known
    return kind.message_type is not None and bool(kind.message_type.GetOptions().map_entry)


def _is_own_message(known: FieldDescriptor) -> bool:
    """Returns whether it is a message of the contract, rather than one that JSON writes in its own way."""
    kind: Any = known
    return kind.message_type is not None and not _is_map(known) and kind.message_type.file.package == "jitaccess.v1"


def _within_entry(path: str) -> str:
    """Returns the path as a reader of the file looks for it: without the index of its entry."""
    return json_path(re.sub(r"^(?:policies\[\d+\]|tests\[\d+\]\.cases\[\d+\])\.?", "", path)) or path


def _is_below(path: str, parent: str) -> bool:
    return path.startswith(f"{parent}.")


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line
    return line + 1


def _words(error: Exception) -> str:
    match = _PARSE_ERROR.fullmatch(" ".join(str(error).split()))
    return match[1] if match else str(error)
