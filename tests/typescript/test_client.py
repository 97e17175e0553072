"""The TypeScript client: it type-checks, and does by REST and gRPC-Web what the service means."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.typescript.built import build, tsc
from tests.world import Rest, Story, World

pytestmark = pytest.mark.skipif(shutil.which("npm") is None, reason="there is no node with npm")


@pytest.fixture(scope="session")
def built(testrun_uid: str) -> Path:
    return build(testrun_uid)


@pytest.fixture
def story(world: World) -> Story:
    return Story(world, Rest(world))


def exercised(built: Path, story: Story) -> dict[str, Any]:
    tokens = {name: story.world.token(getattr(story, name)) for name in ("alice", "bob", "gateway", "auditor")}
    given = {
        "url": f"http://{story.world.http}",
        "tokens": tokens,
        "alice": story.alice.principal,
        "resource": story.resource,
    }
    command = ["node", str(built / "test/exercise.js")]
    ran = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))


def test_it_asks_approves_checks_and_watches_over_rest_and_grpc_web(built: Path, story: Story) -> None:
    story.create_policy()

    told = exercised(built, story)

    name = told["name"]
    active = 3
    assert (told["asked"], told["before"]) == ("PENDING", "PENDING")
    assert told["approved"] == [active, "600"]
    assert told["byRest"] == told["byGrpcWeb"] == [True, name]
    assert (told["fromThere"], told["fromNowhere"]) == (True, "INVALID_FIELD")
    assert told["listed"] == [name]
    assert told["overRest"] == [f"CURRENT {name}"]
    assert told["overGrpcWeb"] == [name]
    assert told["recorded"][:3] == ["GRANT_REQUESTED", "ACCESS_CHECKED", "GRANT_APPROVED"]


def test_its_errors_have_the_services_reasons(built: Path, story: Story) -> None:
    story.create_policy()

    told = exercised(built, story)

    failed_precondition = 9
    assert told["refusedByRest"] == [400, failed_precondition, "WRONG_STATE"]
    assert told["refusedByGrpcWeb"] == [failed_precondition, "WRONG_STATE"]
    assert told["unauthenticated"] == [401, "TOKEN_INVALID"]


WRONG = [
    'rest(o).POST("/v1/grants", { body: { resources: [], actions: [], duration: 60 } })',
    'rest(o).GET("/v1/grant", {})',
    'rest(o).GET("/v1/grants", { params: { query: { view: "EVERYTHING" } } })',
    'rest(o).POST("/v1/access:check", { body: { subject: "a", action: "b" } })',
    'grpcWeb(GrantService, o).getGrant({ nam: "grants/a" })',
]


def test_what_the_contract_has_not_does_not_type_check(built: Path) -> None:
    file = built / "wrong.ts"
    imports = 'import { GrantService, grpcWeb, rest, type Options } from "./src/index.js"; declare const o: Options;'
    file.write_text(
        "\n".join([imports, *(f"void {each};" for each in WRONG), "void rest(o); void grpcWeb(GrantService, o);"])
    )
    strict = ["--noEmit", "--strict", "--skipLibCheck", "--exactOptionalPropertyTypes", "--target", "ES2022"]

    checked = tsc(*strict, "--module", "NodeNext", "--moduleResolution", "NodeNext", str(file))

    lines = {int(line) for line in re.findall(r"wrong\.ts\((\d+),\d+\): error", checked.stdout)}
    assert lines == set(range(2, 2 + len(WRONG))), checked.stdout
