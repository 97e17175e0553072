"""Plays the terminal sessions of docs/sessions against a real service, and writes their output into the pages.

A page holds ```console blocks. `alice$ COMMAND` is run by bash as that person; what follows is its output, a code other
than 0 as `(exit 4)`. `# SETTING=VALUE` before the first command sets the service. A command that ends in `&` runs on
until that person says `wait`, or `^C` to interrupt it. Output counts as the same where only ids, instants, time left
and the like differ; only what differs otherwise is written. tests/test_sessions.py plays the same pages and compares.

On a page where somebody logs in, the service is behind Envoy at the page's address 127.0.0.1:8080, nobody has a token
at first, and the browser that `jit login` opens picks whoever has typed it on the page of `up --dev`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jit_service.domain.caller import Role
from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.dev_mode import DevMode
from jit_service.runtime.edge import envoy_of, socket_paths, with_http_port
from jit_service.runtime.service import Service, utc_now
from jit_service.settings import Address, Settings
from jit_service.storage.migrate import migrate

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "sessions"
_INSTALLED = Path(sys.executable).parent
_PROMPT = re.compile(r"([a-z]+)\$ (.*)")
_SETTING = re.compile(r"# ([a-z_]+)=(.+)")
_ID = re.compile(r"\b[a-z2-7]{26}\b")
_SECONDS = 60
_EDGE = "127.0.0.1:8080"
"""The address of Envoy on the pages."""
# What differs from run to run, and what replaces it when two runs are compared.
_VARYING = [
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?( UTC|Z)"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d( UTC)?"), "TIME"),
    (re.compile(r"\d+ (s|min|h|d)( \d+ (s|min|h))? (left|ago|overdue)"), r"SPAN \4"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\b[0-9a-f]{16,}\b"), "HEX"),
    (re.compile(r"(?<=revision )\d+"), "N"),
    (re.compile(r"(?<=auditEvents/)\d+"), "N"),
    (re.compile(r"-{3,}"), "---"),
    (re.compile(r"[ \t]+"), " "),
]


@dataclass
class Step:
    """A command with the output that the page has and the one that it gave."""

    who: str
    command: str
    written: str
    played: str = ""

    @property
    def is_as_written(self) -> bool:
        return plain(self.written) == plain(self.played)


@dataclass
class Running:
    """A command that runs, and the file that its output goes to."""

    process: subprocess.Popen[str]
    output: Path

    @property
    def has_begun(self) -> bool:
        return self.process.poll() is not None or bool(self.output.read_text())

    def interrupt(self, lines: int) -> None:
        """Presses ^C once the output has as many lines, or after a while."""
        for _ in range(100):
            if len(self.output.read_text().splitlines()) >= lines:
                break
            time.sleep(0.05)
        os.killpg(self.process.pid, signal.SIGINT)

    def finish(self) -> str:
        """Waits for the end, and returns the output, with the exit code if it is not 0."""
        code = self.process.wait(_SECONDS)
        return self.output.read_text() + (f"(exit {code})\n" if code else "")


@dataclass
class Player:
    """A running service, and the commands that still run, by person."""

    service: Service
    address: Address
    directory: Path
    commands: Path
    """The directory of the command `jit`."""
    edge: str = ""
    """Where Envoy is, on a page where people log in."""
    ids: dict[str, str] = field(default_factory=dict)
    """The page's ids, each with the one that it has in this run."""
    waiting: dict[str, Running] = field(default_factory=dict)

    def play(self, step: Step) -> None:
        """Runs the command, and notes its output in the page's own ids."""
        command = self._with_real_ids(step.command)
        if command in ("wait", "^C"):
            if command == "^C":
                # All but the exit code.
                self.waiting[step.who].interrupt(len(step.written.splitlines()) - 1)
            output = self.waiting.pop(step.who).finish()
        elif command.endswith("&"):
            before = self._revision()
            self.waiting[step.who] = running = self._start(step.who, command.removesuffix("&"))
            # Wait until its output or its effect shows that it runs.
            while not running.has_begun and self._revision() == before:
                time.sleep(0.02)
            return
        else:
            output = self._start(step.who, command).finish()
        step.played = self._with_written_ids(output, step.written)

    def _start(self, who: str, command: str) -> Running:
        environment = {
            "PATH": os.pathsep.join((str(self.commands), str(_INSTALLED), os.environ["PATH"])),
            "HOME": str(self.directory),
            "COLUMNS": "110",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        } | self._access(who)
        descriptor, path = tempfile.mkstemp(dir=self.directory, prefix="output-")
        with os.fdopen(descriptor, "w") as output:
            process = subprocess.Popen(
                ["bash", "-c", command],
                env=environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        return Running(process, Path(path))

    def _access(self, who: str) -> dict[str, str]:
        """Returns the variables by which somebody reaches the service, or logs in to it."""
        if not self.edge:
            token = self.directory / "dev" / "tokens" / f"{who}.jwt"
            return {"JIT_ADDRESS": str(self.address), "JIT_TOKEN_FILE": str(token)}
        picking = Path(__file__).with_name("pick_person.py")
        return {
            "XDG_CONFIG_HOME": str(self.directory / "home" / who),
            "BROWSER": f"{sys.executable} {picking} {who} %s",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        }

    def _revision(self) -> int:
        with self.service.store.snapshot() as snapshot:
            return snapshot.revision

    def _with_real_ids(self, command: str) -> str:
        """Returns the command with this run's ids for the page's, which may be cut to four characters or more."""

        def real(word: re.Match[str]) -> str:
            found = [here for written, here in self.ids.items() if written.startswith(word[0])]
            return found[0] if len(found) == 1 else word[0]

        return self._at_the_edge(re.sub(r"\b[a-z2-7]{4,26}\b", real, command))

    def _at_the_edge(self, command: str) -> str:
        return command.replace(_EDGE, self.edge) if self.edge else command

    def _with_written_ids(self, output: str, written: str) -> str:
        """Returns the output with the page's ids in place of new ones, in their order."""
        here = {real: name for name, real in self.ids.items()}
        fresh = [name for name in dict.fromkeys(_ID.findall(written)) if name not in self.ids]
        for real in dict.fromkeys(_ID.findall(output)):
            if real not in here:
                name = fresh.pop(0) if fresh else real
                self.ids[name] = real
                here[real] = name
        output = _ID.sub(lambda found: here[found[0]], output)
        if self.edge:
            output = output.replace(self.edge, _EDGE)
            output = re.sub(rf"{re.escape(str(self.directory))}/home/[a-z]+", "~/.config", output)
        return output


def steps_of(page: str) -> tuple[dict[str, Any], list[Step]]:
    """Returns the settings of a page's service, and the commands of its sessions."""
    settings: dict[str, Any] = {}
    steps: list[Step] = []
    for line in _console_lines(page):
        if setting := _SETTING.fullmatch(line):
            settings[setting[1]] = setting[2]
        elif prompt := _PROMPT.fullmatch(line):
            steps.append(Step(prompt[1], prompt[2], ""))
        elif steps and steps[-1].command.endswith("\\"):
            steps[-1].command += "\n" + line
        else:
            steps[-1].written += line + "\n"
    return settings, steps


def with_output(page: str, steps: list[Step]) -> str:
    """Returns the page with the output of its commands, where it differs from the page."""
    left = iter(steps)

    def block(_: re.Match[str]) -> str:
        lines: list[str] = []
        for line in _[1].splitlines():
            if _SETTING.fullmatch(line):
                lines.append(line)
            elif _PROMPT.fullmatch(line):
                step = next(left)
                output = step.written if step.is_as_written else step.played
                lines += [f"{step.who}$ {step.command}", *output.splitlines()]
        return "```console\n" + "\n".join(lines) + "\n```"

    return re.sub(r"```console\n(.*?)\n```", block, page, flags=re.DOTALL)


def play(page: str, commands: Path = _INSTALLED) -> list[Step]:
    """Plays all of a page, and returns its steps with their output. `commands` is the directory of `jit`."""
    settings, steps = steps_of(page)
    playing = _player_at_the_edge if any("jit login" in step.command for step in steps) else _player
    with playing(settings, commands) as player:
        for step in steps:
            player.play(step)
    return steps


def plain(output: str) -> str:
    """Returns the output without what differs from run to run."""
    for varying, name in _VARYING:
        output = varying.sub(name, output)
    return "\n".join(line.strip() for line in output.splitlines())


def _console_lines(page: str) -> Iterator[str]:
    for block in re.finditer(r"```console\n(.*?)\n```", page, flags=re.DOTALL):
        yield from block[1].splitlines()


@contextmanager
def _player(changes: dict[str, Any], commands: Path) -> Iterator[Player]:
    with _playground() as directory:
        issuer = DevIssuer(directory)
        issuer.write_tokens(utc_now())
        # A second admin, for changes that need two.
        second = issuer.token("user:second@example.com", roles=[Role.ADMIN], now=utc_now())
        (directory / "dev" / "tokens" / "second.jwt").write_text(second)
        settings = Settings.load(data_dir=directory, **changes).with_issuer(issuer.issuer())
        service = _service(settings, directory)
        address = service.listen(Address("127.0.0.1", 0))
        service.start()
        with _stopping(Player(service, address, directory, commands)) as player:
            yield player


@contextmanager
def _player_at_the_edge(changes: dict[str, Any], commands: Path) -> Iterator[Player]:
    with _playground() as directory, ExitStack() as stack:
        settings = with_http_port(Settings.load(data_dir=directory, http="127.0.0.1:0", **changes), stack)
        mode = DevMode(settings)
        settings = mode.added_to(settings)
        service = _service(settings, directory)
        sockets = socket_paths(settings, stack)
        service.listen_unix(sockets[0])
        service.start()
        player = Player(service, settings.http, directory, commands, edge=str(settings.http))
        stack.enter_context(_stopping(player))
        envoy_of(settings, sockets, stack, tls=None, dev_provider=mode.serve(directory, stack)).start(timeout=_SECONDS)
        yield player


@contextmanager
def _playground() -> Iterator[Path]:
    """Gives a directory with the examples in it."""
    with tempfile.TemporaryDirectory(prefix="jit-session-") as name:
        shutil.copytree(ROOT / "examples", Path(name) / "examples")
        yield Path(name)


def _service(settings: Settings, directory: Path) -> Service:
    migrate(settings.store_url)
    service = Service(settings)
    service.apply_policies(directory / "examples" / "policies.yaml")
    return service


@contextmanager
def _stopping(player: Player) -> Iterator[Player]:
    try:
        yield player
    finally:
        for running in player.waiting.values():
            os.killpg(running.process.pid, signal.SIGKILL)
        player.service.stop()


def main() -> None:
    """Plays every page, or those that are named, and writes the outputs that differ."""
    for path in [Path(name) for name in sys.argv[1:]] or sorted(PAGES.glob("*.md")):
        page = path.read_text()
        steps = play(page)
        differing = sum(not step.is_as_written for step in steps)
        path.write_text(with_output(page, steps))
        print(f"{path.name}: {len(steps)} commands, {differing} with other output", flush=True)


if __name__ == "__main__":
    main()
