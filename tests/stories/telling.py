"""Stories in YAML, told over every surface: who calls what with which body, and what must come of it.

A file holds a list of stories. Each has a `story` (its title), `policies` (changes to the usual policy, by suffix; it
needs one approval of the owners), `dual_control: true` where policies change by proposals only, and `steps`, of which
each is one of

- `call: ApproveGrant`, `by: bob`, `with:` the body in proto3 JSON; then `gives:` what the answer must hold, by path, or
  `refused:` the reason, with `field:` where it names one. `as: g` keeps the answer for later steps. `setup: true` calls
  over gRPC on every surface: what the command line says otherwise.
- `pass: 30m` moves the clock; `sweep: true` records what has run out.
- `audit: FILTER`, `types: [GRANT_REQUESTED, …]`: the records that it finds, in order.
- `watch: w`, `by: alice`, `with: {view: VISIBLE}` opens a stream; `told: w`, `types: [GRANT_APPROVED ACTIVE, …]` is
  what it tells next, with the state that it led to, and `as: t` keeps the last of these. The command line resumes no
  stream: there one from a `startRevision` is gRPC's.

`$alice` is that person's name, `$owners` a group, `$resource` and `$id` the story's own, `$g.name` a field of a kept
answer, `$now` or `$now+90m` an instant. Within a longer text they stand in braces: `${id}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import descriptor_pool
from google.protobuf.json_format import MessageToDict

from jit_service.rpc.server import SERVICES
from jit_service.runtime import sweeper
from jitaccess.naming.duration import parse_span
from tests.stories.streams import Events, watching
from tests.world import Grpc, Outcome, Person, Story

TOLD = Path(__file__).parent / "told"
_WHOLE = re.compile(r"\$([a-z_]+(?:\.[a-z0-9_]+)*(?:\+[0-9a-z]+)?)")
_WITHIN = re.compile(r"\$\{([a-z_]+(?:\.[a-z0-9_]+)*)\}")
_METHODS = {
    method.name: f"/{service}/{method.name}"
    for service in SERVICES
    for method in descriptor_pool.Default().FindServiceByName(service).methods
}
_KEYS = {
    "call",
    "by",
    "with",
    "as",
    "gives",
    "refused",
    "field",
    "setup",
    "pass",
    "sweep",
    "audit",
    "types",
    "watch",
    "told",
}


@dataclass(frozen=True)
class Tale:
    """One story of a file."""

    file: str
    title: str
    policies: dict[str, dict[str, Any]]
    steps: tuple[dict[str, Any], ...]
    dual_control: bool = False

    @property
    def id(self) -> str:
        return f"{self.file}: {self.title}"


def tales() -> Iterator[Tale]:
    """Yields every story there is."""
    for path in sorted(TOLD.glob("*.yaml")):
        # Every process of the suite reads them all, and the loader in C takes a tenth of the time.
        for found in yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader):
            unknown = set(found) - {"story", "policies", "steps", "dual_control"}
            assert not unknown, f"{path.name}: {found['story']}: {unknown}"
            for step in found["steps"]:
                assert not set(step) - _KEYS, f"{path.name}: {found['story']}: {set(step) - _KEYS}"
            dual_control = found.get("dual_control", False)
            yield Tale(path.stem, found["story"], found.get("policies", {}), tuple(found["steps"]), dual_control)


@dataclass
class Telling:
    """A story while it is told."""

    story: Story
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    streams: dict[str, Events] = field(default_factory=dict)
    open_streams: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        # What the story stands on, and what is looked up of it, is not what it shows.
        self.beside = Story(self.story.world, Grpc(self.story.world), self.story.id)

    def tell(self, tale: Tale) -> None:
        """Runs all of it. Raises AssertionError at the first step that comes out otherwise."""
        for suffix, changes in tale.policies.items():
            self.beside.create_policy(suffix, **self._resolved(changes or {}))
        with self.open_streams:
            for number, step in enumerate(tale.steps, 1):
                try:
                    self._step(step)
                except AssertionError as fault:
                    raise AssertionError(f"step {number}, {step}: {fault}") from fault

    def _step(self, step: dict[str, Any]) -> None:
        kinds: dict[str, Callable[[dict[str, Any]], None]] = {
            "call": self._call,
            "pass": lambda step: self.story.world.clock.advance(parse_span(step["pass"])),
            "sweep": lambda _: self._sweep(),
            "audit": self._audit,
            "watch": self._watch,
            "told": self._told,
        }
        (kind,) = kinds.keys() & step.keys()
        kinds[kind](step)

    def _call(self, step: dict[str, Any]) -> None:
        outcome = self._outcome(step)
        if "refused" in step:
            assert outcome.reason == step["refused"], outcome
            assert outcome.fields == ((step["field"],) if "field" in step else outcome.fields), outcome
            return
        assert outcome.code == "OK", outcome
        answer = MessageToDict(
            outcome.message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        self.kept[step.get("as", "it")] = answer
        for path, expected in step.get("gives", {}).items():
            found = _at(answer, path)
            assert found == self._resolved(expected), f"{path} is {found!r}, not {self._resolved(expected)!r}"

    def _outcome(self, step: dict[str, Any]) -> Outcome:
        person: Person = getattr(self.story, step["by"])
        story = self.beside if step.get("setup") else self.story
        return story.call(person, _METHODS[step["call"]], self._resolved(step.get("with", {})))

    def _sweep(self) -> None:
        while sweeper.record_run_out(self.story.world.service.store):
            pass

    def _audit(self, step: dict[str, Any]) -> None:
        records = self.beside.audit(self._resolved(step["audit"]))
        types = [record.EventType.Name(record.event_type) for record in records]
        assert types == step["types"], types

    def _watch(self, step: dict[str, Any]) -> None:
        person: Person = getattr(self.story, step["by"])
        body = self._resolved(step.get("with", {}))
        story = self.beside if "startRevision" in body and self.story.surface.name == "cli" else self.story
        self.streams[step["watch"]] = self.open_streams.enter_context(watching(story, person, **body))

    def _told(self, step: dict[str, Any]) -> None:
        for expected in step["types"]:
            told = next(each for each in self.streams[step["told"]] if each.HasField("grant"))
            found = f"{told.EventType.Name(told.event_type)} {told.grant.State.Name(told.grant.state)}"
            assert found == expected, found
            self.kept[step.get("as", "it")] = MessageToDict(told, preserving_proto_field_name=True)

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._resolved(key): self._resolved(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._resolved(item) for item in value]
        if not isinstance(value, str):
            return value
        if whole := _WHOLE.fullmatch(value):
            return self._meaning(whole[1])
        return _WITHIN.sub(lambda found: str(self._meaning(found[1])), value)

    def _meaning(self, text: str) -> Any:
        name, _, path = text.partition(".")
        if name in self.kept:
            return _at(self.kept[name], path)
        if name.partition("+")[0] == "now":
            later = parse_span(text.partition("+")[2]) if "+" in text else None
            now = self.story.world.clock()
            return (now + later if later else now).isoformat().replace("+00:00", "Z")
        meaning = getattr(self.story, name)
        return meaning.principal if isinstance(meaning, Person) else meaning


def _at(answer: Any, path: str) -> Any:
    """Returns what stands at `steps.0.display_name`; None where nothing does. `reviews.count` is how many there are."""
    for part in path.split("."):
        if isinstance(answer, list):
            answer = len(answer) if part == "count" else answer[int(part)] if int(part) < len(answer) else None
        else:
            answer = answer.get(part) if isinstance(answer, dict) else None
    return answer
