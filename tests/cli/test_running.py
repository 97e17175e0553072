"""Running a command for as long as there is access: what it gets, how it ends, and what is given back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from jitaccess.v1 import grant_pb2
from tests import prepared
from tests.cli.conftest import COMMAND, Jit
from tests.cli.samples import FULL_ID, active, grant, listed, soon
from tests.cli.terminal import terminal
from tests.cli.test_waiting import ended, told
from tests.client.service import Held, Refusal, Service

ASK = ("run", "database/orders/eu", "--action", "read", "--for", "30m")
# What Windows does not have is taken away, and opening a terminal fails as it does there.
WINDOWS = (
    sys.executable,
    "-c",
    "import builtins, os, signal\n"
    "del signal.SIGHUP, os.tcgetpgrp, os.getpgrp\n"
    "opened = builtins.open\n"
    "def no_terminal(path, *args, **kwargs):\n"
    "    assert path != '/dev/tty'\n"
    "    return opened(path, *args, **kwargs)\n"
    "builtins.open = no_terminal\n"
    "from jitaccess.cli import main\n"
    "main()",
)
IMPATIENT = (sys.executable, "-c", "from jitaccess.cli import main, running; running.GRACE = 0.0; main()")
NAME = f"grants/{FULL_ID}"
Start = Callable[..., "subprocess.Popen[str]"]


class Broker(Service):
    """A service that gives the grant to whoever ensures it: with its labels where it is new."""

    is_new = True
    keeps_waiting = False

    def answer(self, rpc: str, message: Any, context: grpc.ServicerContext) -> Message:
        answered = super().answer(rpc, message, context)
        if self.keeps_waiting and rpc == "EnsureGrant":
            ended = threading.Event()
            context.add_callback(ended.set)
            ended.wait()
        if self.is_new and isinstance(answered, grant_pb2.Grant):
            [asked] = self.sent("EnsureGrant")
            answered.labels.update(asked.labels)
        return answered

    def rpcs(self) -> list[str]:
        return [call.rpc for call in self.received if call.rpc != "WatchGrants"]


@pytest.fixture
def service() -> Iterator[Broker]:
    from tests.client.service import serving

    broker = Broker()
    broker.will_answer("EnsureGrant", active())
    broker.will_answer("ListGrants", listed(active()))
    broker.will_stream("WatchGrants", [Held()])
    with serving(broker):
        yield broker


@pytest.fixture
def start(environment: Mapping[str, str]) -> Iterator[Start]:
    """Runs `jit run` beside the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, command: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*(command or (prepared.command("jit"),)), *ASK, *arguments],
            env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        # With what it has started, which would keep its output open.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)


def said_first(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_command_finds_the_grant_in_its_environment_and_its_words_are_its_own(
    start: Start, service: Broker
) -> None:
    given = active(expire_time=soon(minutes=5))
    service.will_answer("EnsureGrant", given)

    script = 'echo "$JIT_GRANT $JIT_SUBJECT $JIT_EXPIRES $0 $1 $2"'
    process = start("--", "sh", "-c", script, "--action", "--", "")
    out, err = process.communicate(timeout=60)

    expires = given.expire_time.ToJsonString()
    assert (process.returncode, err) == (0, "")
    assert out == f"{NAME} user:alice@example.com {expires} --action -- \n"


def test_it_asks_with_what_the_flags_say_and_a_label_of_its_own(start: Start, service: Broker) -> None:
    start(
        "--justification", "why", "--ticket", "T-1", "--policy", "p", "--label", "team=a", "--max-uses", "2",
        "--break-glass", "--context", "build=42", "--parent", FULL_ID, "--subject", "service:job", "--", "true",
    ).wait(timeout=60)  # fmt: skip

    [sent] = service.sent("EnsureGrant")
    assert set(sent.labels) == {"team", "jit-run"}
    assert (sent.justification.text, sent.justification.ticket, sent.policy) == ("why", "T-1", "policies/p")
    assert (sent.max_uses, sent.break_glass, sent.parent, sent.subject) == (2, True, NAME, "service:job")
    assert (sent.duration.seconds, sent.context["build"]) == (1800, 42)


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)])
def test_the_exit_code_is_the_commands_and_what_was_asked_for_is_released(
    start: Start, service: Broker, script: str, code: int
) -> None:
    process = start("--", "sh", "-c", script)

    assert process.wait(timeout=60) == code
    assert service.rpcs() == ["EnsureGrant", "ListGrants", "ReleaseGrant"]
    assert service.sent("ReleaseGrant")[0].name == NAME


def test_a_grant_that_was_there_before_stays(start: Start, service: Broker) -> None:
    service.is_new = False
    service.will_answer("EnsureGrant", active(labels={"jit-run": "of another run"}))

    assert start("--", "true").wait(timeout=60) == 0
    assert service.rpcs() == ["EnsureGrant"]


def test_a_release_that_fails_is_told_and_changes_no_exit_code(start: Start, service: Broker) -> None:
    service.will_answer("ReleaseGrant", Refusal(code=grpc.StatusCode.PERMISSION_DENIED, reason="NOT_YOURS"))

    process = start("--", "sh", "-c", "exit 3")
    _, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (3, "warning: what was asked for is not given back: refused (NOT_YOURS)\n")


def test_it_waits_for_the_approval_before_it_runs(start: Start, service: Broker) -> None:
    held = Held()
    service.will_answer("EnsureGrant", grant())
    service.will_stream("WatchGrants", [held, told("GRANT_APPROVED", active(revision=13))], [Held()])

    process = start("--", "echo", "ran")
    while not service.sent("WatchGrants"):
        assert process.poll() is None
    held.released.set()
    out, _ = process.communicate(timeout=60)

    assert (process.returncode, out) == (0, "ran\n")


def test_a_denial_runs_nothing_and_is_a_no(start: Start, service: Broker) -> None:
    service.will_answer("EnsureGrant", grant())
    service.will_answer("ListGrants", listed(ended("DENIED")))
    service.will_stream("WatchGrants", [told("GRANT_DENIED", ended("DENIED")), Held()])

    process = start("--", "echo", "ran")
    out, err = process.communicate(timeout=60)

    assert (process.returncode, out) == (1, "")
    assert err.splitlines()[0].startswith(f"waiting for {NAME}: step 1 ")
    assert err.splitlines()[1].startswith(f"error: {NAME} is DENIED: by user:bob@example.com")


@pytest.mark.usefixtures("time_passes")
def test_who_waited_too_long_takes_the_request_back(jit: Jit, service: Broker) -> None:
    service.will_answer("EnsureGrant", grant())
    service.will_answer("ListGrants", listed(grant()))

    ran = jit(*ASK, "--wait-timeout", "30m", "--", "true")

    assert ran.code == 8
    assert ran.err.splitlines()[-1] == f"error: {NAME}: waited 30 min; withdrawn"
    assert service.rpcs() == ["EnsureGrant", "ListGrants", "WithdrawGrant"]


@pytest.mark.usefixtures("time_passes")
def test_who_waited_too_long_is_told_of_a_request_that_stays(jit: Jit, service: Broker) -> None:
    service.is_new = False
    service.will_answer("EnsureGrant", grant())

    ran = jit(*ASK, "--wait-timeout", "1s", "-q", "--", "true")

    assert (ran.code, ran.err) == (8, f"error: {NAME}: waited 1 s; it was there before, and stays PENDING\n")


@pytest.mark.usefixtures("time_passes")
def test_who_waited_too_long_is_told_of_a_request_that_could_not_be_withdrawn(jit: Jit, service: Broker) -> None:
    service.will_answer("EnsureGrant", grant())
    service.will_answer("ListGrants", listed(grant()))
    service.will_answer("WithdrawGrant", Refusal(code=grpc.StatusCode.PERMISSION_DENIED, reason="NOT_YOURS"))

    warning, error = jit(*ASK, "--wait-timeout", "1s", "-q", "--", "true").err.splitlines()

    assert "what was asked for is not given back" in warning
    assert error == f"error: {NAME}: waited 1 s; not given back"


def test_access_that_was_waited_for_is_told(start: Start, service: Broker) -> None:
    service.will_answer("EnsureGrant", grant())
    service.will_stream("WatchGrants", [told("GRANT_APPROVED", active(revision=13))], [Held()])

    _, err = start("--", "true").communicate(timeout=60)

    assert [line.partition(": ")[0] for line in err.splitlines()] == [f"waiting for {NAME}", f"{NAME} is ACTIVE"]


def test_who_wants_quiet_hears_of_faults_alone(start: Start, service: Broker) -> None:
    service.will_answer("EnsureGrant", grant())
    service.will_stream("WatchGrants", [told("GRANT_APPROVED", active(revision=13))], [Held()])

    _, err = start("-q", "--", "true").communicate(timeout=60)

    assert err == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_is_interrupted_while_waiting_takes_the_request_back(
    start: Start, service: Broker, number: signal.Signals
) -> None:
    service.will_answer("EnsureGrant", grant())
    service.will_answer("ListGrants", listed(grant()))

    process = start("--", "true")
    while not service.sent("WatchGrants"):
        assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 128 + number
    assert err.splitlines()[-1] == f"error: {NAME}: interrupted; withdrawn"
    assert service.rpcs() == ["EnsureGrant", "ListGrants", "WithdrawGrant"]


def test_who_is_interrupted_while_asking_takes_back_what_was_asked_for_all_the_same(
    start: Start, service: Broker
) -> None:
    service.keeps_waiting = True
    service.will_answer("ListGrants", listed(grant()))

    process = start("--", "true")
    assert service.was_asked.wait(timeout=50)
    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    [asked], [looked_up] = service.sent("EnsureGrant"), service.sent("ListGrants")
    assert looked_up.filter == f'labels.jit-run = "{asked.labels["jit-run"]}"'
    assert [sent.name for sent in service.sent("WithdrawGrant")] == [NAME]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_goes_to_the_command_which_decides_what_it_means(
    start: Start, service: Broker, number: signal.Signals
) -> None:
    handler = f'trap "exit 5" {number.name.removeprefix("SIG")}; echo ready; while :; do sleep 0.05; done'
    process = start("--", "sh", "-c", handler)
    assert said_first(process) == "ready"

    process.send_signal(number)

    assert process.wait(timeout=60) == 5
    assert service.rpcs()[-1] == "ReleaseGrant"


@pytest.mark.parametrize(
    ("event", "after"),
    [
        ("GRANT_REVOKED", ended("REVOKED")),
        ("GRANT_EXPIRED", active(state=grant_pb2.Grant.EXPIRED, revision=13, expire_time=soon(minutes=-1))),
    ],
)
def test_the_command_ends_with_the_access(start: Start, service: Broker, event: str, after: grant_pb2.Grant) -> None:
    held = Held()
    service.will_stream("WatchGrants", [held, told(event, after)])
    service.will_answer("ListGrants", listed(after))

    process = start("--", "sh", "-c", "echo ready; exec sleep 600")
    assert said_first(process) == "ready"
    held.released.set()
    _, err = process.communicate(timeout=60)

    assert process.returncode == 9
    assert f"{NAME} is {event.removeprefix('GRANT_')}" in err
    assert service.sent("ReleaseGrant") == []


def test_a_command_that_does_not_end_is_killed(start: Start, service: Broker) -> None:
    held = Held()
    service.will_stream("WatchGrants", [held, told("GRANT_REVOKED", ended("REVOKED"))])
    service.will_answer("ListGrants", listed(ended("REVOKED")))

    process = start("--", sys.executable, "-c", STUBBORN, command=IMPATIENT)
    assert said_first(process) == "ready"
    held.released.set()

    assert process.wait(timeout=60) == 9


STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


def test_more_time_lets_it_run_on(start: Start, service: Broker, tmp_path: Path) -> None:
    service.will_answer("EnsureGrant", active(expire_time=soon(seconds=-2)))
    service.will_answer("GetGrant", active(expire_time=soon(minutes=9)))
    go = tmp_path / "go"

    process = start("--", "sh", "-c", f"while ! test -e {go}; do sleep 0.05; done; exit 4")
    while not service.sent("GetGrant"):
        assert process.poll() is None
    go.touch()

    assert process.wait(timeout=60) == 4


def test_where_nobody_can_be_asked_access_ends_with_its_time(start: Start, service: Broker) -> None:
    service.will_answer("EnsureGrant", active(expire_time=soon(seconds=-2)))
    service.will_answer("GetGrant", Refusal(code=grpc.StatusCode.INTERNAL))

    process = start("--", "sleep", "600")

    assert process.wait(timeout=60) == 9


def test_a_watch_that_fails_is_told_and_ends_nothing(start: Start, service: Broker, tmp_path: Path) -> None:
    service.will_stream("WatchGrants", [Refusal(code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="TOO_MANY_WATCHERS")])
    go = tmp_path / "go"

    process = start("--", "sh", "-c", f"while ! test -e {go}; do sleep 0.05; done; exit 4")
    assert process.stderr is not None
    told_first = process.stderr.readline()
    go.touch()

    assert "is not watched for now: refused (TOO_MANY_WATCHERS)" in told_first
    assert process.wait(timeout=60) == 4


@pytest.mark.parametrize(("program", "code"), [("no-such-program", 127), ("./here", 126), ("./gone", 127)])
def test_a_command_that_cannot_be_run_asks_for_nothing(
    jit: Jit, service: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").write_text("no program")

    ran = jit(*ASK, "--", program)

    assert (ran.code, program in ran.err) == (code, True)
    assert service.received == []


def test_a_program_that_the_system_refuses_gives_the_access_back(jit: Jit, service: Broker, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x00")
    broken.chmod(0o755)

    ran = jit(*ASK, "--", str(broken))

    assert ran.code == 126
    assert service.rpcs()[-1] == "ReleaseGrant"


@pytest.mark.parametrize("rest", [(), ("--",)])
def test_without_a_command_it_is_a_usage_error(jit: Jit, service: Broker, rest: tuple[str, ...]) -> None:
    assert jit(*ASK, *rest).code == 2
    assert service.received == []


# A signal that comes just before signal.pause() would not end it, so the program waits for what signals write.
COUNTING = """
import os, signal, sys
read, write = os.pipe()
os.set_blocking(write, False)
signal.set_wakeup_fd(write)
count = 0
def interrupted(number, frame):
    global count
    count += 1
    print("interrupts:", count, flush=True)
signal.signal(signal.SIGINT, interrupted)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(count))
print("ready", flush=True)
while os.read(read, 1):
    pass
"""


def test_an_interrupt_typed_at_the_terminal_reaches_the_command_once(
    environment: Mapping[str, str], service: Broker
) -> None:
    # The shell opens the terminal, and so makes it the one that controls the session.
    command = ["sh", "-c", 'exec "$@" <"$(tty)"', "sh", *COMMAND, *ASK, "--", sys.executable, "-c", COUNTING]
    with terminal(command, env=environment) as person:
        person.read_until("ready")
        person.type("\x03")
        person.read_until("interrupts: 1")
        person.process.send_signal(signal.SIGTERM)
        person.read_all()

        assert person.code() == 1


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("request", "--help"), ("whoami", "--help")])
def test_every_command_starts_without_what_windows_does_not_have(
    environment: Mapping[str, str], arguments: tuple[str, ...]
) -> None:
    ran = subprocess.run([*WINDOWS, *arguments], env=dict(environment), capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_command_runs_without_what_windows_does_not_have(start: Start) -> None:
    done = start("--", sys.executable, "-c", "print('done')", command=WINDOWS)

    assert done.communicate(timeout=60)[0] == "done\n"
    assert done.returncode == 0


def test_a_command_is_ended_without_what_windows_does_not_have(start: Start, service: Broker) -> None:
    waits = "import signal; print('begun', flush=True); signal.pause()"
    running = start("--", sys.executable, "-c", waits, command=WINDOWS)
    assert running.stdout is not None
    assert running.stdout.readline() == "begun\n"

    running.send_signal(signal.SIGTERM)

    assert running.wait(60) == 128 + signal.SIGTERM
    assert service.rpcs()[-1] == "ReleaseGrant"
