"""Whatever is sent, the answer is one of the documented ones (I26): on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jit_service.domain.caller import Role
from jit_service.rpc.server import SERVICES
from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.service import Service
from jit_service.settings import Address, Settings
from jit_service.storage.migrate import migrate
from jit_service.use_cases import audit
from tests.conftest import Clock
from tests.examples import examples

METHODS = [
    f"/{service}/{method.name}"
    for service in SERVICES
    for method in descriptor_pool.Default().FindServiceByName(service).methods
]
NASTY = st.sampled_from(
    [
        "",
        "\0",
        "a\0b",
        "\u202e",
        "user:alice@example.com",
        "policies/p",
        "grants/a",
        "signals/s",
        "database/**",
        "database/prod-*",
        'share/a b "c" \\d|e#f?g%h',
        "pods/exec",
        "file/\u043e\u0442\u0447\u0451\u0442.pdf",
        "read",
        "*",
        "**",
        "%",
        "'",
        '"',
        "\\",
        "(",
        "a" * 3000,
        "\U0010ffff",
        "state = ACTIVE",
        'labels.a = "\\0"',
        "2026-01-01T00:00:00Z",
        "3f0e8c4e-3a52-4a7e-9f0d-0d3f4a7a5b61",
        "application/x-www-form-urlencoded",
    ]
)
BYTES = st.sampled_from([b"", b"\0", b"\xff", b"token=", b"token=a.b.c", b"token=a&token=b", b"token=%00", b"&" * 99])
NUMBERS = st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31), 99])
LONGS = st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63), 315_576_000_001])


class Running:
    """A service, and somebody who may do everything."""

    def __init__(self, directory: Any, url: str) -> None:
        clock = Clock()
        issuer = DevIssuer(directory)
        made = Settings.load(data_dir=directory, database_url=url, token_issuer="https://jit.example.com")
        made = made.with_issuer(issuer.issuer())
        migrate(made.store_url)
        self.service = Service(made, clock=clock)
        self.channel = grpc.insecure_channel(str(self.service.listen(Address("127.0.0.1", 0))))
        self.service.start()
        self.token = issuer.token("user:all@example.com", groups=["g"], roles=tuple(Role), now=clock())

    def code(self, method: str, data: bytes) -> str:
        call = self.channel.unary_stream(method, request_serializer=bytes, response_deserializer=bytes)
        answers = call(data, metadata=(("authorization", f"Bearer {self.token}"),), timeout=20)
        try:
            # Of a stream the first message is enough; of any other call there is no second.
            next(answers)
        except grpc.RpcError as error:
            return str(error.code().name)
        finally:
            answers.cancel()
        return "OK"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("any")
    url = f"sqlite:///{directory / 'jit.db'}"
    if request.param == "postgresql":
        import psycopg

        server: str = request.getfixturevalue("postgresql_server")
        with psycopg.connect(server.format("postgres"), autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS any_input WITH (FORCE)")
            connection.execute("CREATE DATABASE any_input TEMPLATE template")
        url = server.format("any_input")
    made = Running(directory, url)
    yield made
    made.channel.close()
    made.service.stop()


def message_of(method: str) -> Any:
    found: Any = descriptor_pool.Default().FindMethodByName(method.strip("/").replace("/", "."))
    return GetMessageClass(found.input_type)


def filled(draw: Any, message: Any, depth: int = 0) -> None:
    """Fills some of the message's fields with what tends to go wrong."""
    for field in message.DESCRIPTOR.fields:
        if depth > 3 or not draw(st.booleans()):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            target = getattr(message, field.name)
            if field.message_type.fields_by_name["value"].message_type is None:
                target[draw(NASTY)] = draw(NASTY)
            else:
                filled(draw, target[draw(NASTY)], depth + 1)
        elif field.message_type is not None:
            target = getattr(message, field.name)
            for part in [target.add()] if field.is_repeated else [target]:
                filled(draw, part, depth + 1)
                part.SetInParent()
        else:
            kind = {9: NASTY, 12: BYTES, 8: st.booleans(), 3: LONGS, 1: st.floats()}.get(field.type, NUMBERS)
            if field.is_repeated:
                getattr(message, field.name).append(draw(kind))
            else:
                setattr(message, field.name, draw(kind))


@settings(max_examples=examples(20), deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_message_makes_the_service_fail(running: Running, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(METHODS))
    message = message_of(method)()
    filled(data.draw, message)

    assert running.code(method, message.SerializeToString()) not in ("INTERNAL", "UNKNOWN"), (method, message)


@settings(max_examples=examples(20), deadline=None, suppress_health_check=list(HealthCheck))
@given(method=st.sampled_from(METHODS), content=st.binary(max_size=200))
def test_no_bytes_make_the_service_fail(running: Running, method: str, content: bytes) -> None:
    assert running.code(method, content) not in ("INTERNAL", "UNKNOWN"), (method, content)


def test_the_record_of_it_all_is_whole(running: Running) -> None:
    assert audit.verify(running.service.store).problem == ""
