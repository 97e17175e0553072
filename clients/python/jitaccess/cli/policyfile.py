"""The policy files that a command names, with all that is wrong with them, and where.

FILE.test.yaml beside FILE.yaml has the cases that try its policies: `tests:` and a list of `policy:` and `cases:`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jitaccess.cli.doubts import doubts
from jitaccess.errors import FieldViolation, InvalidArgument
from jitaccess.policy_file import Fault, Lines, PolicyFile, TestFile, json_path, read_policies, read_tests
from jitaccess.v1 import policy_pb2

_PLACE = re.compile(r"policies\[([0-9]+)\]\.?(.*)")
_CASE = re.compile(r"cases\[([0-9]+)\]\.?(.*)")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is wrong at one place. `line` counts from 1; 0: with the file as a whole."""

    path: str
    line: int
    fault: str

    def __str__(self) -> str:
        return f"{self.place}: {self.fault}"

    @property
    def place(self) -> str:
        """The path, and the line if it is known."""
        return f"{self.path}:{self.line}" if self.line else self.path


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The cases that try one policy, and where each of them stands."""

    path: str
    policy: str
    cases: tuple[policy_pb2.PolicyTestCase, ...]
    lines: Lines
    within: str

    def line(self, case: int) -> int:
        """Returns the line of a case, which counts from 0."""
        return self.lines.of(f"{self.within}.cases[{case}]")

    def place(self, fault: InvalidArgument) -> InvalidArgument:
        """Returns what the judge refused with its places in the file."""
        findings = []
        for field, words in _violations(fault):
            match = _CASE.fullmatch(field)
            line = self.lines.of(f"{self.within}.cases[{match[1]}].{match[2]}") if match else 0
            findings.append(Finding(path=self.path, line=line, fault=_said(match[2] if match else field, words)))
        return refusal(findings, reason=fault.reason)


class PolicyFiles:
    """The policies of all files together, in their order, each without what is wrong in it."""

    def __init__(self, files: Sequence[tuple[str, PolicyFile]]) -> None:
        self._files = files
        self._places = [(path, read, index) for path, read in files for index in range(len(read.policies))]
        self.policies = tuple(policy for _, read in files for policy in read.policies)
        self.findings = [_finding(path, fault) for path, read in files for fault in read.faults]
        self.findings += self._named_twice()

    def demand_sound(self) -> PolicyFiles:
        """Returns these. Raises InvalidArgument with all that is wrong."""
        if self.findings:
            raise refusal(self.findings)
        return self

    def place(self, fault: InvalidArgument) -> InvalidArgument:
        """Returns what the judge refused with its places in the files."""
        return refusal([self._placed(field, words) for field, words in _violations(fault)], reason=fault.reason)

    def refused(self, fault: InvalidArgument) -> list[Finding]:
        """Returns what the judge refused that is not a finding already, since it could not be read."""
        fresh = [(field, words) for field, words in _violations(fault) if not self._is_known(field, words)]
        return [self._placed(field, words) for field, words in fresh]

    def warnings(self) -> list[Finding]:
        """Returns what is not wrong, but likely not what was meant."""
        found = []
        for (path, read, index), policy in zip(self._places, self.policies, strict=True):
            for field, words in doubts(policy):
                line = read.lines.of(f"policies[{index}].{field}")
                found.append(Finding(path=path, line=line, fault=f"{json_path(field)}: {words}"))
        return found

    def _placed(self, field: str, words: str) -> Finding:
        match = _PLACE.fullmatch(field)
        if match is None or int(match[1]) >= len(self._places):
            return Finding(path=self._files[0][0] if self._files else "-", line=0, fault=_said(field, words))
        path, read, index = self._places[int(match[1])]
        line = read.lines.of(f"policies[{index}].{match[2]}" if match[2] else f"policies[{index}]")
        return Finding(path=path, line=line, fault=_said(match[2], words))

    def _is_known(self, field: str, words: str) -> bool:
        match = _PLACE.fullmatch(field)
        if match is None or int(match[1]) >= len(self._places):
            return False
        _, read, index = self._places[int(match[1])]
        field = f"policies[{index}].{match[2]}"
        known = [fault.field for fault in read.faults if fault.field]
        twice = match[2] == "name" and words.endswith("is in the set twice")
        return twice or any(_touch(field, fault) for fault in known)

    def _named_twice(self) -> list[Finding]:
        found = []
        first: dict[str, Finding] = {}
        for (path, read, index), policy in zip(self._places, self.policies, strict=True):
            line = read.lines.of(f"policies[{index}]")
            name = full_name(policy.name)
            here = Finding(path=path, line=line, fault="")
            earlier = first.setdefault(name, here) if policy.name else here
            if earlier is not here:
                found.append(Finding(path=path, line=line, fault=f"{name} is at {earlier.place} already"))
        return found


def read(paths: Iterable[str]) -> PolicyFiles:
    """Returns the policies of the files; of a directory all its *.yaml and *.yml, `-` is the standard input."""
    files = []
    for given in paths:
        for path in _files_of(given):
            try:
                files.append((path, read_policies(_content(path))))
            except OSError as error:
                fault = Fault(line=0, words=error.strerror or "cannot be read")
                files.append((path, PolicyFile(policies=(), lines=Lines(), faults=(fault,))))
    return PolicyFiles(files)


def trials(paths: Iterable[str]) -> list[Trial]:
    """Returns the trials beside the files; in a directory a file may have none. Raises InvalidArgument."""
    found: list[Trial] = []
    findings: list[Finding] = []
    for given in paths:
        for path in _files_of(given):
            beside = Path(path).with_suffix(f".test{Path(path).suffix}")
            if not beside.exists() and Path(given).is_dir():
                continue
            try:
                tests = read_tests(beside.read_bytes())
                names = {full_name(policy.name) for policy in read_policies(_content(path)).policies}
            except OSError as error:
                findings.append(Finding(path=str(beside), line=0, fault=error.strerror or "cannot be read"))
                continue
            findings += [_finding(str(beside), fault) for fault in tests.faults]
            findings += _of_others(str(beside), tests, names)
            found += _trials_of(str(beside), tests)
    if findings:
        raise refusal(findings)
    return found


def refusal(findings: Sequence[Finding], *, reason: str = "POLICY_FILE_INVALID") -> InvalidArgument:
    """Returns the error that tells all findings, each with its place. `reason` is the judge's, where it refused."""
    first, *more = findings
    if not more:
        return InvalidArgument(str(first), reason=reason)
    told = [FieldViolation(field=finding.place, description=finding.fault) for finding in findings]
    words = f"{len(findings)} faults, the first at {first}"
    return InvalidArgument(words, reason=reason, field_violations=tuple(told))


def full_name(name: str) -> str:
    """Returns `policies/{id}`, also for the bare id."""
    return f"policies/{name.removeprefix('policies/')}"


def _trials_of(path: str, tests: TestFile) -> list[Trial]:
    return [
        Trial(path=path, policy=full_name(trial.policy), cases=trial.cases, lines=tests.lines, within=f"tests[{index}]")
        for index, trial in enumerate(tests.trials)
    ]


def _of_others(path: str, tests: TestFile, names: set[str]) -> list[Finding]:
    return [
        Finding(
            path=path,
            line=trial.line,
            fault=f"tests[{index}] is of {full_name(trial.policy)}, which the file beside it does not have",
        )
        for index, trial in enumerate(tests.trials)
        if full_name(trial.policy) not in names
    ]


def _files_of(path: str) -> list[str]:
    if path == "-" or not Path(path).is_dir():
        return [path]
    files = sorted(file for kind in ("*.yaml", "*.yml") for file in Path(path).glob(kind))
    return [str(file) for file in files if not file.stem.endswith(".test")]


def _content(path: str) -> bytes:
    return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()


def _finding(path: str, fault: Fault) -> Finding:
    return Finding(path=path, line=fault.line, fault=fault.words)


def _violations(fault: InvalidArgument) -> list[tuple[str, str]]:
    return [(item.field, item.description) for item in fault.field_violations] or [("", fault.message)]


def _said(field: str, words: str) -> str:
    return f"{json_path(field)}: {words}" if field else words


def _touch(field: str, other: str) -> bool:
    """Returns whether one of the fields is the other, or within it."""
    return f"{field}.".startswith((f"{other}.", f"{other}[")) or other.startswith((f"{field}.", f"{field}["))
