"""One value, one spelling: a deny policy on one order cannot be walked past by writing its number in another way."""

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi import APIRouter, Depends, FastAPI, Path
from pydantic import StringConstraints

from jitaccess import InvalidArgument, Misconfigured
from jitaccess.guards import Guard, fixed_subject
from jitaccess.guards.asgi import GuardMiddleware, Route
from jitaccess.guards.fastapi import protect, require
from jitaccess.guards.need import Template
from jitaccess.guards.spelling import canonical, demand_spelt_as
from jitaccess.testing import MemoryService
from tests.guards.doors import sent, served

ALICE = "user:alice@example.com"
AN_HOUR_EAST = datetime(2026, 1, 2, 4, 4, 5, tzinfo=timezone(timedelta(hours=1)))


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


Lower = Annotated[str, StringConstraints(to_lower=True)]

SPELLINGS = [
    ("int", int, "7", ["07", "+7", "7.0", "0_7", "%207", "7%20", "\u0667"]),
    ("int", int, "-7", ["-07", "%2D07"]),
    (
        "uuid",
        UUID,
        "0b0e7d02-55f7-4c1b-9a52-2f1a57a0c0de",
        [
            "0B0E7D02-55F7-4C1B-9A52-2F1A57A0C0DE",
            "0b0e7d0255f74c1b9a522f1a57a0c0de",
            "{0b0e7d02-55f7-4c1b-9a52-2f1a57a0c0de}",
        ],
    ),
    ("float", float, "7.5", ["7.50", "07.5", "75e-1", "+7.5"]),
    ("float", float, "0.0", ["-0.0", "0", ".0"]),
    ("decimal", Decimal, "7.5", ["7.50", "07.5", "75e-1", "+7.5"]),
    ("bool", bool, "true", ["True", "1", "yes", "on", "t"]),
    ("date", date, "2026-01-02", ["20260102", "2026-01-02T00:00:00", "1767312000"]),
    (
        "datetime",
        datetime,
        "2026-01-02T03:04:05Z",
        ["2026-01-02T03:04:05+00:00", "2026-01-02T04:04:05+01:00", "1767323045"],
    ),
]


@pytest.fixture(scope="module")
def guard() -> Guard:
    jit = MemoryService()
    jit.grant(ALICE, "database/orders/*", "rows.*")
    return Guard.by_check(jit.client, subject=fixed_subject(ALICE))


def fastapi_app(guard: Guard, kind: Any) -> FastAPI:
    app = FastAPI()
    protect(app, guard)
    router = APIRouter()

    @router.get("/orders/{number}", dependencies=[Depends(require("database/orders/{number}", "rows.read"))])
    def read(number: kind) -> str:  # type: ignore[valid-type]
        return str(number)

    app.include_router(router)
    return app


def quoted(text: str) -> str:
    return "".join(c if c.isascii() else "".join(f"%{byte:02X}" for byte in c.encode()) for c in text)


def status(port: int, text: str) -> int:
    return sent(port, "GET", f"/orders/{quoted(text)}")[0]


@pytest.mark.parametrize(("kind", "given", "others"), [row[1:] for row in SPELLINGS], ids=lambda value: str(value)[:20])
def test_fastapi_takes_one_spelling_of_a_value(guard: Guard, kind: Any, given: str, others: list[str]) -> None:
    with served(fastapi_app(guard, kind)) as port:
        assert status(port, given) == 200
        # What is no value for FastAPI is 422; a handler runs for none of them.
        assert [other for other in others if status(port, other) == 200] == []


def test_fastapi_looks_at_what_every_dependency_makes_of_it(guard: Guard) -> None:
    app = FastAPI()
    protect(app, guard)

    def order(identifier: Annotated[int, Path(alias="number", ge=1)]) -> int:
        return identifier

    def deeper(found: Annotated[int, Depends(order)]) -> int:
        return found

    @app.get("/orders/{number}", dependencies=[Depends(require("database/orders/{number}", "rows.read"))])
    def read(found: Annotated[int, Depends(deeper)]) -> int:
        return found

    with served(app) as port:
        assert status(port, "7") == 200
        assert status(port, "07") == 403
        assert status(port, "seven") == 422


@pytest.mark.parametrize(
    ("kind", "given", "other"),
    [(Color, "red", "Red"), (Level, "3", "03"), (Lower, "eu", "EU"), (int | str, "eu", "")],
    ids=["enum", "int enum", "text that is changed", "one of several"],
)
def test_fastapi_judges_the_value_whatever_its_type(guard: Guard, kind: Any, given: str, other: str) -> None:
    with served(fastapi_app(guard, kind)) as port:
        assert status(port, given) == 200
        assert status(port, other) != 200


def test_fastapi_refuses_a_type_of_which_several_texts_may_mean_the_same(guard: Guard) -> None:
    with served(fastapi_app(guard, timedelta)) as port:
        assert status(port, "PT1H") == 403


def test_a_converter_in_the_path_makes_the_value_that_is_judged(guard: Guard) -> None:
    app = FastAPI()
    protect(app, guard)

    @app.get("/orders/{number:int}", dependencies=[Depends(require("database/orders/{number}", "rows.read"))])
    def read(number: int) -> int:
        return number

    with served(app) as port:
        assert status(port, "7") == 200


@contextmanager
def routes_of_kinds(guard: Guard) -> Iterator[int]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"null"})

    kinds = {kind for kind, *_ in SPELLINGS}
    routes = [Route("GET", f"/{kind}/{{value:{kind}}}", "database/orders/{value}", "rows.read") for kind in kinds]
    with served(GuardMiddleware(app, guard=guard, routes=routes)) as port:
        yield port


@pytest.fixture(scope="module")
def asgi_port(guard: Guard) -> Iterator[int]:
    with routes_of_kinds(guard) as port:
        yield port


@pytest.mark.parametrize(("kind", "_", "given", "others"), SPELLINGS, ids=[f"{row[0]} {row[2]}" for row in SPELLINGS])
def test_a_route_that_says_the_kind_takes_one_spelling(
    asgi_port: int, kind: str, _: Any, given: str, others: list[str]
) -> None:
    answers = {text: sent(asgi_port, "GET", f"/{kind}/{quoted(text)}")[0] for text in (given, *others)}

    assert answers == {given: 200} | dict.fromkeys(others, 403)


@pytest.mark.parametrize("path", ["/orders/{number:integer}", "/orders/{number:path}", "/orders/{}", "/orders/{a}b"])
def test_a_route_of_a_kind_that_is_none_is_refused_at_once(path: str) -> None:
    with pytest.raises(Misconfigured):
        Route("GET", path, "database/orders", "rows.read")


def test_a_field_of_a_grpc_request_says_what_its_text_is_read_as() -> None:
    template = Template("database/{order.id:uuid}/{number:int}/{rate:float}", "rows.read")
    order = "0b0e7d02-55f7-4c1b-9a52-2f1a57a0c0de"

    need = template.need({"order.id": order, "number": 7, "rate": 7.5})

    assert need.resource == f"database/{order}/7/7.5"
    for wrong in ({"order.id": order.upper()}, {"number": "07"}, {"rate": float("nan")}, {"number": object()}):
        with pytest.raises(InvalidArgument):
            template.need({"order.id": order, "number": 7, "rate": 7.5} | wrong)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (Level.HIGH, "3"),
        (-0.0, "0.0"),
        (1e16, "1e+16"),
        (float("inf"), None),
        (Decimal("100"), "100"),
        (Decimal("1E+2"), "100"),
        (Decimal("-0.00"), "0"),
        (Decimal("NaN"), None),
        (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),  # noqa: DTZ001
        (AN_HOUR_EAST, "2026-01-02T03:04:05Z"),
        (time(3, 4), "03:04:00"),
        (time(3, 4, tzinfo=UTC), None),
        (b"7", None),
        (None, None),
    ],
)
def test_equal_values_have_one_text(value: object, text: str | None) -> None:
    assert canonical(value) == text


@pytest.mark.parametrize(("kind", "given", "other"), [(row[0], row[2], other) for row in SPELLINGS for other in row[3]])
def test_another_spelling_is_refused_by_name(kind: str, given: str, other: str) -> None:
    assert demand_spelt_as(kind, given, "number") == given
    with pytest.raises(InvalidArgument) as refused:
        demand_spelt_as(kind, other, "number")
    assert refused.value.field_violations[0].field == "number"


def test_a_path_that_a_route_reads_as_no_value_is_another_routes() -> None:
    async def app(*_: Any) -> None: ...

    routes = [Route("GET", "/a/{n:int}", "x/{n}", "read"), Route("GET", "/a/{word}", "x/w/{word}", "read")]
    middleware = GuardMiddleware(
        app, guard=Guard.by_check(MemoryService().client, subject=fixed_subject(ALICE)), routes=routes
    )

    matching = [route for route in middleware._routes if route.match("GET", ["", "a", "eu"]) is not None]

    assert [route.template.resource for route in matching] == ["x/w/{word}"]
