"""The OpenAPI document: it is valid, has all of REST and every error, and is served as it is committed."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api.annotations_pb2 import http as http_rule
from google.protobuf import descriptor_pool
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from jit_service.domain.errors import reasons
from jit_service.rpc.authorization import RULES
from jit_service.rpc.server import SERVICES
from tests.world import ACCESS, GRANTS, HTTP_OF, Rest, Story, World, rest_call

DOCUMENT = json.loads((Path(__file__).parents[2] / "jit_service/pages/openapi.json").read_text())
REGISTRY = Registry().with_resource("urn:document", Resource.from_contents(DOCUMENT, default_specification=DRAFT202012))


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for verb, operation in item.items():
            yield path, verb, operation


def routes() -> Iterator[tuple[str, str, str]]:
    """Yields each method that has a REST route, with verb and template."""
    for service in SERVICES:
        for method in descriptor_pool.Default().FindServiceByName(service).methods:
            rule: Any = method.GetOptions().Extensions[http_rule]
            if verb := rule.WhichOneof("pattern"):
                yield f"/{service}/{method.name}", verb, getattr(rule, verb)


def faults(schema: dict[str, Any], value: Any) -> list[str]:
    """Returns what is wrong with the value, where `#` in the schema is the document."""
    absolute = json.loads(json.dumps(schema).replace('"#/components', '"urn:document#/components'))
    return [error.message for error in Draft202012Validator(absolute, registry=REGISTRY).iter_errors(value)]


def test_the_document_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_every_route_of_the_protos_is_an_operation_and_no_other() -> None:
    def shape(path: str) -> str:
        return re.sub(r"\{[^}]+\}", "*", re.sub(r"\{[^=}]+=([^}]+)\}", r"\1", path))

    wanted = {(verb, shape(template), method.rpartition("/")[2]) for method, verb, template in routes()}
    found = {(verb, shape(path), operation["operationId"].split("_")[1]) for path, verb, operation in operations()}

    assert wanted == found


def test_only_what_anybody_may_call_needs_no_token() -> None:
    found = {operation["operationId"] for _, _, operation in operations() if operation.get("security") == []}

    anonymous = {
        method.split(".")[-1].replace("/", "_")
        for method, _, _ in routes()
        if RULES[method].anonymous or RULES[method].public
    }
    assert found == anonymous
    assert DOCUMENT["security"] == [{"token": []}]


def test_every_reason_is_documented_at_its_status() -> None:
    documented = set()
    for response in DOCUMENT["components"]["responses"].values():
        documented |= set(response["content"]["application/json"]["examples"])

    assert reasons() <= documented
    assert set(DOCUMENT["components"]["schemas"]["Reason"]["enum"]) == documented


def test_every_status_that_an_error_can_have_is_in_every_operation_that_can_have_it() -> None:
    always = {str(status) for status in HTTP_OF.values()} - {"401", "403", "409"} | {"408", "431", "500"}

    for _, verb, operation in operations():
        assert always <= set(operation["responses"])
        assert ("401" in operation["responses"]) == (operation.get("security") != [])
        assert ("409" in operation["responses"]) == (verb != "get")


def test_every_401_says_how_to_be_let_in_and_no_other_error_does(world: World) -> None:
    for status, response in DOCUMENT["components"]["responses"].items():
        assert list(response.get("headers", {})) == (["WWW-Authenticate"] if status == "401" else [])
    for _, _, operation in operations():
        assert operation["responses"].get("401", {"$ref": ""})["$ref"] in ("", "#/components/responses/401")

    header = DOCUMENT["components"]["responses"]["401"]["headers"]["WWW-Authenticate"]
    for token in ({}, {"authorization": "Bearer x.y.z"}):
        status, _, headers = fetch(world, "/v1/grants", **token)
        assert status == 401
        assert faults(header["schema"], headers["www-authenticate"]) == []
    assert faults(header["schema"], header["example"]) == []


def test_every_example_fits_its_schema() -> None:
    checked = 0
    for _, _, operation in operations():
        for content in operation.get("requestBody", {}).get("content", {}).values():
            if "example" in content:
                assert faults(content["schema"], content["example"]) == [], operation["operationId"]
                checked += 1
    for response in DOCUMENT["components"]["responses"].values():
        content = response["content"]["application/json"]
        for example in content["examples"].values():
            assert faults(content["schema"], example["value"]) == []
            checked += 1

    assert checked > 50


def test_what_no_request_has_fits_no_schema() -> None:
    schema = DOCUMENT["components"]["schemas"]["RequestGrantRequest"]

    assert faults(schema, {"resources": ["a/b"], "actions": ["read"]}) == []
    assert faults(schema, {"resources": ["a/b"], "actions": ["read"], "duraton": "1s"})
    assert faults(schema, {"resources": ["a/b"], "actions": ["read"], "duration": "an hour"})
    assert faults(schema, {"resources": ["a/b"]})


@pytest.fixture
def story(world: World) -> Story:
    return Story(world, Rest(world))


@pytest.mark.parametrize("method", ["GetGrant", "ListGrants", "CheckAccess"])
def test_a_real_answer_fits_its_schema(story: Story, method: str) -> None:
    story.create_policy()
    grant = story.granted()
    service = ACCESS if method == "CheckAccess" else GRANTS
    body = {"GetGrant": {"name": grant.name}, "ListGrants": {}, "CheckAccess": story.question(explain=True)}[method]

    status, answer = Rest(story.world).send(
        *rest_call(service + method, body), token=story.world.token(story.gateway if body is None else story.alice)
    )

    (operation,) = [each for _, _, each in operations() if each["operationId"].endswith(f"_{method}")]
    schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
    assert faults(schema, answer) == []
    assert answer


def fetch(world: World, path: str, **headers: str) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(world.http.host, world.http.port, timeout=10)
    connection.request("GET", path, headers={key.replace("_", "-"): value for key, value in headers.items()})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content, response.headers


def test_the_document_is_served_to_anybody_as_it_is_committed(world: World) -> None:
    status, content, headers = fetch(world, "/openapi.json")

    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(content) == DOCUMENT


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/docs/swagger-ui.css"])
def test_who_has_this_version_gets_304(world: World, path: str) -> None:
    _, _, headers = fetch(world, path)

    assert fetch(world, path, if_none_match=headers["etag"])[:2] == (304, b"")
    assert fetch(world, path, if_none_match='"another"')[0] == 200


def test_headers_that_are_too_large_are_refused_as_documented(world: World) -> None:
    status, content, _ = fetch(world, "/docs", x_large="x" * (40 << 10))

    response = DOCUMENT["components"]["responses"][str(status)]["content"]["application/json"]
    assert status == 431
    assert faults(response["schema"], json.loads(content)) == []


def test_the_page_runs_nothing_of_another_host(world: World) -> None:
    _, page, headers = fetch(world, "/docs")

    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert b"//" not in page
    for asset in re.findall(r'(?:src|href)="(/[^"]+)"', page.decode()):
        assert fetch(world, asset)[0] == 200


def test_the_renderers_licence_is_served_beside_it(world: World) -> None:
    assert b"Apache License" in fetch(world, "/docs/LICENSE")[1]


@pytest.mark.parametrize("path", ["/docs/nope", "/docs/__init__.py", "/docs/openapi.json", "/docs/docs.html"])
def test_no_other_file_is_served(world: World, path: str) -> None:
    status, content, _ = fetch(world, path)

    assert (status, json.loads(content)["details"][0]["reason"]) == (404, "ASSET_NOT_FOUND")
