"""Schemathesis over the whole of REST, through the real Envoy, from the document that the service serves.

The default suite asks a little of each operation, always the same. `make fuzz` runs every phase for long, from another
seed each time, and leaves its report in .data/fuzz.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from jit_service.domain.caller import Role
from tests.world import DELEGATIONS, GRANTS, Person, Rest, Story, World

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "ignored_auth",
)
# The short run: what the document gives as examples, and a few calls of each operation beside them.
SHORT = ("--phases", "examples,fuzzing", "--max-examples", "3", "--seed", "1")


@dataclass(frozen=True)
class Fuzzed:
    """What came of a run. `text` is what schemathesis said."""

    passed: bool
    text: str
    report: dict[str, Any]


def long(seconds: int) -> tuple[str, ...]:
    """Returns the options of a run that goes on for so long."""
    return "--phases", "examples,coverage,fuzzing,stateful", "--max-time", str(seconds), "--continue-on-failure"


def document(world: World) -> dict[str, Any]:
    """Returns the document as it is served."""
    with urllib.request.urlopen(f"http://{world.http}/openapi.json", timeout=10) as answer:
        return dict(json.load(answer))


def fuzz(world: World, served: dict[str, Any], directory: Path, options: tuple[str, ...]) -> Fuzzed:
    """Runs schemathesis with the options, as somebody who may do everything, over things that there are."""
    story = Story(world, Rest(world))
    everything = Person(story.bob.principal, (story.engineers, story.owners), tuple(Role))
    (directory / "openapi.json").write_text(json.dumps(served))
    config = directory / "schemathesis.toml"
    config.write_text(_config(_streams(served), _there_are(story)))
    report = directory / "report.json"
    command = [Path(sys.executable).parent / "schemathesis", "--config-file", config, "run", directory / "openapi.json"]
    command += ["--url", f"http://{world.http}", "--checks", ",".join(CHECKS), *options]
    command += ["--report", "json,junit", "--report-json-path", report]
    command += ["--report-junit-path", directory / "junit.xml"]
    environment = os.environ | {"JIT_TOKEN": world.token(everything), "NO_COLOR": "1"}
    ran = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True)
    (directory / "schemathesis.log").write_text(ran.stdout + ran.stderr)
    told = json.loads(report.read_text()) if report.exists() else {}
    return Fuzzed(ran.returncode == 0, ran.stdout + ran.stderr, told)


def _streams(served: dict[str, Any]) -> list[str]:
    """Returns the operations that are streams; tests/stories/test_watch.py and test_audit.py have them."""
    operations = [operation for path in served["paths"].values() for operation in path.values()]
    return [operation["operationId"] for operation in operations if "x-stream" in operation]


def _there_are(story: Story) -> dict[str, list[str]]:
    """Makes one of everything, and returns the names' last parts by the parameter that takes them."""
    auto = story.create_policy("auto", steps=[], maxDuration="3600s").name
    write = story.create_policy().name
    pending, active = story.asks(policy=write).name, story.granted(policy=write).name
    ended = story.must(story.alice, GRANTS + "ReleaseGrant", {"name": story.asks(policy=auto).name}).name
    signal = story.signals("fuzz", "on").name
    names = {"grant": [pending, active, ended], "policy": [auto, write], "signal": [signal]}
    expires = story.world.clock() + timedelta(hours=8)
    wanted = {"delegate": story.carol.principal, "policies": [write], "expireTime": expires.isoformat()}
    names["delegation"] = [story.must(story.bob, DELEGATIONS + "CreateDelegation", {"delegation": wanted}).name]
    return {parameter: [name.rpartition("/")[2] for name in given] for parameter, given in names.items()}


def _config(streams: list[str], names: dict[str, list[str]]) -> str:
    # The token comes from the environment: what is on a command line, everybody on the machine can read.
    lines = ["[auth.openapi.token]", 'bearer = "${JIT_TOKEN}"']
    lines += ["[[operations]]", f"include-operation-id = {json.dumps(streams)}", "enabled = false"]
    for parameter, values in names.items():
        lines += [f"[dictionaries.{parameter}]", f"values = {json.dumps(values)}"]
    lines.append("[parameters]")
    for parameter in names:
        lines.append(f'"path.{parameter}" = {{dictionary = "{parameter}", probability = 0.7}}')
    return "\n".join(lines) + "\n"
