"""The command that runs another one for as long as there is access."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from jitaccess.cli import exits
from jitaccess.cli.asking import Manner, Quiet, WaitTimeout, Wanted, options
from jitaccess.cli.command import command
from jitaccess.cli.session import Session
from jitaccess.contract.model import Grant, GrantState
from jitaccess.errors import InvalidArgument, JitError
from jitaccess.naming.variables import Variable

if TYPE_CHECKING:
    import queue

    from jitaccess import JitClient

LABEL = "jit-run"
GRACE = 5.0  # Seconds from SIGTERM to SIGKILL.
_WATCH_AGAIN = 5.0  # Seconds from the end of a watch to the next.
# Windows has no SIGHUP, and a console there ends its programs by SIGBREAK.
_PASSED_ON = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
_BY_TERMINAL = tuple(number for number in _PASSED_ON if number.name in ("SIGINT", "SIGBREAK"))
_WORD = "--command"


class Stopped(KeyboardInterrupt):
    """A signal came before there was a command to pass it on to."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class WaitedTooLong(Exception):
    """The time to wait is up, and the grant is as it is now."""

    def __init__(self, words: str, grant: Grant) -> None:
        super().__init__(words)
        self.words = words
        self.grant = grant


class RunCommand(TyperCommand):
    """Takes what stands after `--` as the words of the command to run, whatever they look like."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the arguments."""
        own = args.index("--") if "--" in args else len(args)
        words = [f"{_WORD}={word}" for word in args[own + 1 :]]
        return super().parse_args(ctx, [*args[:own], *words])

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Returns the pieces of the usage line."""
        return [*super().collect_usage_pieces(ctx), "-- CMD [ARG]..."]


def run(
    session: Session,
    wanted: Wanted,
    manner: Manner,
    wait_timeout: WaitTimeout = None,
    quiet: Quiet = False,
    words: Annotated[list[str] | None, typer.Option(_WORD, hidden=True)] = None,
) -> None:
    """Run a command for as long as there is access.

    Takes the live grant that covers it, else asks and waits for one, and gives back what it asked for. While it waits,
    stderr says at once and every minute who must decide and when the request lapses. The command
    finds JIT_GRANT, JIT_SUBJECT and JIT_EXPIRES (RFC 3339) in its environment. The exit code is the command's, 128+n
    for signal n; 1 access was refused, 8 waited for too long, 9 access ended first (SIGTERM, SIGKILL 5 s later), 126
    and 127 the command cannot be run.
    """
    if not words:
        raise typer.BadParameter("give the command to run after --")
    _demand_runnable(session, words[0])
    mark = str(uuid.uuid4())
    with session.client() as client, _Signals() as signals:
        try:
            given = options(client, wanted, manner)
            given["labels"] = {**(given["labels"] or {}), LABEL: mark}
            grant = client.ensure(wanted.resources, wanted.actions, **given)
        except Stopped as stop:
            # It may have been asked for all the same.
            _say_given_back("interrupted", _give_back(client, mark))
            raise typer.Exit(128 + stop.number) from None
        raise typer.Exit(
            _run_and_give_back(client, grant, mark, partial(_wait_and_run, words, signals, wait_timeout, quiet))
        )


def add_to(app: typer.Typer) -> None:
    """Adds the command to the app."""
    command(app, cls=RunCommand)(run)


class _Signals:
    """What becomes of a signal that would end the process: it ends the waiting, or goes to the command."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._is_starting = False
        self._early: list[int] = []

    def __enter__(self) -> _Signals:
        for number in _PASSED_ON:
            # What is ignored, as under nohup, stays so, for the command too.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def start(self, words: Sequence[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        """Starts the command, to which signals go from now on. Raises OSError."""
        self._is_starting = True
        try:
            self._process = subprocess.Popen(words, env=env)  # noqa: S603  # It is what was asked for.
        finally:
            self._is_starting = False
        for number in self._early:
            self._pass_on(number)
        return self._process

    def _take(self, number: int, _: FrameType | None) -> None:
        if self._process is not None:
            self._pass_on(number)
        elif self._is_starting:
            self._early.append(number)
        else:
            raise Stopped(number)

    def _pass_on(self, number: int) -> None:
        # A terminal sends its ^C to the command too, being in the same group; twice would be a harder end.
        if self._process is not None and not (number in _BY_TERMINAL and _is_in_foreground()):
            self._process.send_signal(number)


def _run_and_give_back(client: JitClient, grant: Grant, mark: str, run: Callable[[JitClient, Grant], int]) -> int:
    """Returns the exit code of `run`, after which the grant is given back if this run has asked for it."""
    is_ours = grant.labels.get(LABEL) == mark
    ended: dict[str, str] = {}
    why = ""
    try:
        code = run(client, grant)
    except Stopped as stop:
        code, why = 128 + stop.number, "interrupted"
    except WaitedTooLong as late:
        code, why, grant = exits.TIMED_OUT, late.words, late.grant
    finally:
        if is_ours:
            ended = _give_back(client, mark)
    if why:
        stays = "not given back" if is_ours else f"it was there before, and stays {grant.state}"
        _say_given_back(why, ended or {grant.name: stays})
    return code


def _wait_and_run(
    words: Sequence[str], signals: _Signals, timeout: timedelta | None, quiet: bool, client: JitClient, grant: Grant
) -> int:
    from jitaccess.cli import describe, waiting
    from jitaccess.cli.screen import screen_on

    waits = not waiting.is_decided(grant)
    progress = waiting.Progress(quiet=quiet)
    grant = waiting.until(client, grant, waiting.is_decided, timeout=timeout, progress=progress)
    if timeout is not None and not waiting.is_decided(grant):
        raise WaitedTooLong(waiting.waited(timeout), grant)
    if code := exits.code_of_state(grant.state):
        _say_standing(grant)
        return code
    if waits and not quiet:
        waiting.say(f"{grant.name} is {grant.state}: {describe.standing(grant, screen_on(sys.stderr))}")
    env = os.environ | {
        Variable.GRANT: grant.name,
        Variable.SUBJECT: grant.subject,
        Variable.EXPIRES: grant.raw.expire_time.ToJsonString(),
    }
    try:
        process = signals.start(words, env)
    except OSError as error:
        _say(f"error: {words[0]}: {error.strerror}")
        return exits.NOT_RUNNABLE
    return _attend(client, grant, process)


def _attend(client: JitClient, grant: Grant, process: subprocess.Popen[bytes]) -> int:
    """Returns the command's exit code, or ends the command with the access."""
    import queue

    from jitaccess.cli import waiting

    news: queue.SimpleQueue[Grant | JitError | int] = queue.SimpleQueue()
    threading.Thread(target=lambda: news.put(process.wait()), name="jit-run", daemon=True).start()
    waiting.follow(client, grant, news.put)
    watch_at: float | None = None
    warned = ""
    while True:
        item = waiting.next_of(news)
        if isinstance(item, int):
            return 128 - item if item < 0 else item
        if isinstance(item, JitError):
            warned = _warn_once(f"warning: {grant.name} is not watched for now: {item}", said=warned)
            watch_at = monotonic() + _WATCH_AGAIN
        elif item is not None and item.revision >= grant.revision:
            grant = item
        if grant.state is GrantState.ACTIVE and waiting.has_come(grant.expire_time):
            grant = _looked_up(client, grant)
        if grant.state is not GrantState.ACTIVE:
            _end(process, news)
            _say_standing(grant)
            return exits.ACCESS_ENDED
        if watch_at is not None and monotonic() >= watch_at:
            waiting.follow(client, grant, news.put)
            watch_at = None


def _looked_up(client: JitClient, grant: Grant) -> Grant:
    """Returns the grant as the service has it; where that cannot be had, its time is over as far as is known."""
    from dataclasses import replace

    try:
        return client.get_grant(grant.name)
    except JitError:
        return replace(grant, state=GrantState.EXPIRED)


def _end(process: subprocess.Popen[bytes], news: queue.SimpleQueue[Grant | JitError | int]) -> None:
    from jitaccess.cli import waiting

    process.terminate()
    deadline = monotonic() + GRACE
    while monotonic() < deadline:
        item: Grant | JitError | int | None = waiting.next_of(news, deadline - monotonic())
        if isinstance(item, int):
            return
    process.kill()
    process.wait()


def _give_back(client: JitClient, mark: str) -> dict[str, str]:
    """Ends the grants that the run of that mark requested, and returns how by name.

    A failure is reported: the access stays open then.
    """
    ended = {}
    try:
        for grant in client.list_grants(filter=f'labels.{LABEL} = "{mark}"'):
            if grant.state is GrantState.PENDING:
                client.withdraw(grant, etag="")
                ended[grant.name] = "withdrawn"
            elif grant.state in (GrantState.SCHEDULED, GrantState.ACTIVE):
                client.release(grant, etag="")
                ended[grant.name] = "released"
    except JitError as error:
        _say(f"warning: what was asked for is not given back: {error}")
    return ended


def _say_given_back(why: str, ended: Mapping[str, str]) -> None:
    for name, how in ended.items():
        _say(f"error: {name}: {why}; {how}")


def _demand_runnable(session: Session, program: str) -> None:
    if shutil.which(program):
        return
    is_there = Path(program).exists() if os.sep in program else shutil.which(program, mode=os.F_OK)
    code, words = (exits.NOT_RUNNABLE, "cannot be run") if is_there else (exits.NO_COMMAND, "there is no such command")
    session.report(InvalidArgument(f"{program}: {words}", reason="COMMAND_INVALID"))
    raise typer.Exit(code)


def _is_in_foreground() -> bool:
    if not hasattr(os, "tcgetpgrp"):
        # A console of Windows sends its ^C to every program in it.
        return True
    try:
        with open("/dev/tty", "rb") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _say(line: str) -> None:
    from jitaccess.cli import waiting

    waiting.say(line)


def _warn_once(line: str, *, said: str) -> str:
    if line != said:
        _say(line)
    return line


def _say_standing(grant: Grant) -> None:
    from jitaccess.cli import describe
    from jitaccess.cli.screen import screen_on

    screen = screen_on(sys.stderr)
    screen.say(f"error: {grant.name} is {grant.state}: {describe.standing(grant, screen)}")
