"""`jit` as a process: how it starts, ends, and behaves on a terminal and in a pipe."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import pytest

from jitaccess.v1 import access_pb2, policy_pb2
from tests import prepared
from tests.cli.samples import FULL_ID, grant, listed
from tests.cli.terminal import terminal
from tests.client.service import Service

Process = Callable[..., "subprocess.CompletedProcess[str]"]
SLOW = {"grpc", "rich", "yaml", "google.protobuf", "asyncio", "hypothesis"}
_WORDS = """
request run extend accept decline inbox approve deny counter review-debt review ls show withdraw revoke release
delegate delegations undelegate lock unlock locks check whoami completion policy audit signal
"""
_POLICY = "ls show apply rm diff lint test simulate proposals proposal approve reject"
COMMANDS = [
    (),
    *((word,) for word in _WORDS.split()),
    *(("policy", word) for word in _POLICY.split()),
    ("audit", "ls"),
    ("audit", "verify"),
]


# Forks for each run, for to load typer with its pydantic, and to make the commands, takes longer than all that a run
# does. A run's modules are these too.
_RUNNING = """
import json, os, sys
import typer._adapters
from jitaccess.cli import main
from jitaccess.cli.app import _command
from pydantic import TypeAdapter
_command(completes=False)
TypeAdapter(str)
for line in sys.stdin:
    arguments, environment = json.loads(line)
    if os.fork() == 0:
        report = os.dup(1)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(1, 2)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["jit", *arguments]
        try:
            main()
        finally:
            os.write(report, (json.dumps(sorted(sys.modules)) + "\\n").encode())
            os._exit(0)
    os.wait()
"""
ModulesOf = Callable[..., set[str]]


@pytest.fixture(scope="module")
def modules_of() -> Iterator[ModulesOf]:
    """Returns the modules that are loaded at the end of a run of `jit`."""
    process = subprocess.Popen(
        [sys.executable, "-c", _RUNNING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def modules_of(*arguments: str, env: Mapping[str, str]) -> set[str]:
        print(json.dumps([arguments, dict(env)]), file=process.stdin, flush=True)
        return set(json.loads(process.stdout.readline()))

    yield modules_of
    process.communicate(timeout=60)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_loads_nothing_slow(
    modules_of: ModulesOf, environment: Mapping[str, str], command: tuple[str, ...]
) -> None:
    loaded = modules_of(*command, "--help", env=environment)

    assert "typer" in loaded
    assert not loaded & SLOW


def test_a_usage_error_loads_nothing_slow(modules_of: ModulesOf, environment: Mapping[str, str]) -> None:
    assert not modules_of("request", "a/b", "--for", "soon", env=environment) & SLOW


def test_completion_by_the_shell_loads_nothing_slow_and_knows_the_commands(
    modules_of: ModulesOf, process: Process, environment: Mapping[str, str]
) -> None:
    asked = {"_JIT_COMPLETE": "complete_bash", "COMP_WORDS": "jit po", "COMP_CWORD": "1"}

    assert process(**asked).stdout.split() == ["policy"]
    assert not modules_of(env=dict(environment) | asked) & SLOW


def test_json_on_a_pipe_needs_no_tables(
    modules_of: ModulesOf, environment: Mapping[str, str], service: Service
) -> None:
    service.will_answer("CheckAccess", access_pb2.CheckAccessResponse(allowed=True))

    loaded = modules_of("check", "user:a", "read", "a/b", "-o", "json", env=environment)

    assert "grpc" in loaded
    assert not loaded & {"rich", "yaml"}


def test_the_client_package_loads_nothing_before_it_is_used() -> None:
    code = "import sys, jitaccess; print(json.dumps(sorted(sys.modules))) if (json := __import__('json')) else 0"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert not set(json.loads(ran.stdout)) & (SLOW | {"typer"})


def test_the_version_is_told(process: Process) -> None:
    assert process("--version").stdout == f"jit {version('jitaccess')}\n"


def test_the_installed_command_is_there(process: Process, environment: Mapping[str, str]) -> None:
    ran = subprocess.run(
        [Path(sys.executable).parent / "jit", "--help"],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 0
    assert ran.stdout == process("--help").stdout


@pytest.mark.parametrize(("allowed", "code"), [(True, 0), (False, 1)])
def test_the_exit_code_of_the_process_is_the_answer(
    environment: Mapping[str, str], service: Service, allowed: bool, code: int
) -> None:
    service.will_answer("CheckAccess", access_pb2.CheckAccessResponse(allowed=allowed))

    assert prepared.run("jit", "check", "user:a", "read", "a/b", env=environment, timeout=60).returncode == code


def test_text_that_the_output_cannot_encode_is_escaped(process: Process, service: Service) -> None:
    service.will_answer("ListGrants", listed(grant(resources=["database/価/x"])))

    ran = process("ls", PYTHONIOENCODING="ascii")

    assert ran.returncode == 0
    assert "database/\\u4fa1/x" in ran.stdout


def test_an_argument_that_is_no_text_is_a_usage_error(environment: Mapping[str, str], service: Service) -> None:
    ran = subprocess.run(
        [prepared.command("jit"), "request", b"database/\xff", "--action", "read"],
        env=dict(environment),
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 2, ran.stderr
    assert service.received == []


def test_a_reader_that_goes_away_ends_it_quietly(environment: Mapping[str, str], service: Service) -> None:
    service.will_answer("ListGrants", listed(*[grant() for _ in range(1000)]))
    process = subprocess.Popen(
        [prepared.command("jit"), "ls", "--limit", "1000"],
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 141
    assert errors == b""


def test_an_interrupt_while_waiting_exits_130_without_a_traceback(
    environment: Mapping[str, str], service: Service
) -> None:
    service.is_silent = True
    process = subprocess.Popen(
        [prepared.command("jit"), "ls", "--timeout", "50"],
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    service.was_asked.wait(timeout=50)

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert (out, err) == (b"", b"")


def test_a_terminal_gets_colour_and_short_ids(environment: Mapping[str, str], service: Service) -> None:
    service.will_answer("ListGrants", listed(grant()))
    env = dict(environment) | {"TERM": "xterm-256color"}

    with terminal([prepared.command("jit"), "ls"], env=env, columns=200) as person:
        shown = person.read_all()

    assert "\x1b[33mPENDING" in shown
    assert "abcdefgh " in shown
    assert "abcdefghi" not in shown


@pytest.mark.parametrize(("answer", "code", "etags"), [("y", 0, ["etag-1"]), ("n", 130, [])])
def test_a_person_is_shown_what_is_decided_on_and_asked(
    environment: Mapping[str, str], service: Service, answer: str, code: int, etags: list[str]
) -> None:
    service.will_answer("GetGrant", grant())

    with terminal([prepared.command("jit"), "approve", FULL_ID], env=environment) as person:
        asked = person.read_until("Approve it? [y/N]")
        person.type(f"{answer}\n")
        person.read_all()

        assert person.code() == code
    assert "database/orders/eu" in asked
    assert [sent.etag for sent in service.sent("ApproveGrant")] == etags


def test_a_person_is_told_that_what_was_shown_has_changed(environment: Mapping[str, str], service: Service) -> None:
    service.will_answer("GetGrant", grant(), grant(etag="etag-2"))

    with terminal([prepared.command("jit"), "show", FULL_ID], env=environment) as person:
        person.read_all()
    with terminal([prepared.command("jit"), "approve", FULL_ID], env=environment) as person:
        person.read_until("It has changed since you saw it. Approve it as it is now? [y/N]")
        person.type("y\n")
        person.read_all()

    assert service.sent("ApproveGrant")[0].etag == "etag-2"


def test_no_color_is_respected_on_a_terminal(environment: Mapping[str, str], service: Service) -> None:
    service.will_answer("ListGrants", listed(grant()))
    env = dict(environment) | {"TERM": "xterm-256color", "NO_COLOR": "1"}

    with terminal([prepared.command("jit"), "ls"], env=env, columns=200) as person:
        shown = person.read_all()

    assert "PENDING" in shown
    assert "\x1b" not in shown


def test_json_on_a_terminal_is_plain_and_unwrapped(environment: Mapping[str, str], service: Service) -> None:
    service.will_answer("ListGrants", listed(grant(resources=["database/" + "x" * 300])))
    env = dict(environment) | {"TERM": "xterm-256color"}

    with terminal([prepared.command("jit"), "ls", "-o", "json"], env=env, columns=40) as person:
        shown = person.read_all()

    assert json.loads(shown)["grants"][0]["resources"] == ["database/" + "x" * 300]


def test_a_narrow_terminal_shows_records(environment: Mapping[str, str], service: Service) -> None:
    service.will_answer("ListGrants", listed(grant()))
    env = dict(environment) | {"TERM": "dumb"}

    with terminal([prepared.command("jit"), "inbox"], env=env, columns=50) as person:
        lines = [line.split() for line in person.read_all().splitlines()]

    assert ["WHO", "user:alice@example.com"] in lines
    assert ["TICKET", "OPS-1"] in lines


@pytest.mark.parametrize(("typed", "code", "calls"), [("y\n", 0, [True, False]), ("n\n", 130, [True])])
def test_on_a_terminal_prune_shows_and_asks_first(
    environment: Mapping[str, str], service: Service, tmp_path: Path, typed: str, code: int, calls: list[bool]
) -> None:
    service.will_answer("ApplyPolicies", _pruning())
    (tmp_path / "p.yaml").write_text("policies: [{name: policies/kept}]")

    command = [prepared.command("jit"), "policy", "apply", str(tmp_path / "p.yaml"), "--prune"]
    with terminal(command, env=environment) as person:
        asked = person.read_until("[y/N]")
        person.type(typed)
        person.read_all()
        ended = person.code()

    assert "- policies/old would be deleted" in asked
    assert ended == code
    assert [sent.validate_only for sent in service.sent("ApplyPolicies")] == calls


def test_what_is_applied_after_asking_is_bound_to_what_was_shown(
    environment: Mapping[str, str], service: Service, tmp_path: Path
) -> None:
    service.will_answer("ApplyPolicies", _pruning())
    (tmp_path / "p.yaml").write_text("policies: [{name: kept}]")

    command = [prepared.command("jit"), "policy", "apply", str(tmp_path / "p.yaml"), "--prune"]
    with terminal(command, env=environment) as person:
        person.read_until("[y/N]")
        person.type("y\n")
        person.read_all()

    assert service.sent("ApplyPolicies")[-1].policies[0].etag == "as-shown"


@pytest.mark.parametrize("flag", ["--yes", "--dry-run"])
def test_on_a_terminal_prune_can_be_told_not_to_ask(
    environment: Mapping[str, str], service: Service, tmp_path: Path, flag: str
) -> None:
    service.will_answer("ApplyPolicies", _pruning())
    (tmp_path / "p.yaml").write_text("policies: [{name: policies/kept}]")

    command = [prepared.command("jit"), "policy", "apply", str(tmp_path / "p.yaml"), "--prune", flag]
    with terminal(command, env=environment) as person:
        person.read_all()
        ended = person.code()

    assert ended == 0
    assert len(service.received) == 1


def test_an_end_of_input_at_the_question_changes_nothing(
    environment: Mapping[str, str], service: Service, tmp_path: Path
) -> None:
    service.will_answer("ApplyPolicies", _pruning())
    (tmp_path / "p.yaml").write_text("policies: [{name: policies/kept}]")

    command = [prepared.command("jit"), "policy", "apply", str(tmp_path / "p.yaml"), "--prune"]
    with terminal(command, env=environment) as person:
        person.read_until("[y/N]")
        person.type("\x04")
        shown = person.read_all()
        ended = person.code()

    assert ended == 130
    assert "Traceback" not in shown
    assert [sent.validate_only for sent in service.sent("ApplyPolicies")] == [True]


def _pruning() -> policy_pb2.ApplyPoliciesResponse:
    change = policy_pb2.PolicyChange
    kept = policy_pb2.Policy(name="policies/kept", etag="as-shown")
    return policy_pb2.ApplyPoliciesResponse(
        changes=[
            change(policy="policies/kept", change_type=change.UNCHANGED, before=kept, after=kept),
            change(
                policy="policies/old",
                change_type=change.DELETED,
                before=policy_pb2.Policy(name="policies/old", etag="e"),
            ),
        ]
    )
