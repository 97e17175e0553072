"""Writes the OpenAPI 3.1 document of REST from the protos, and from the code that decides errors and permissions.

What a proto cannot say is read in its comments: a media type in backticks is what a `google.api.HttpBody` holds (else
JSON), the other words in backticks at such a field are the names of its form, and an `ETag` means If-None-Match.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from google.api import annotations_pb2, field_behavior_pb2, resource_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf import descriptor_pb2
from reference import EDGE, EXAMPLES, HTTP, POLICY_EXAMPLE, leaves

from jit_service.domain.errors import JitError
from jit_service.rpc.authorization import RULES
from jit_service.rpc.authzen.access_requests import PROBLEMS
from jit_service.rpc.errors import DOMAIN, INTERNAL_MESSAGE, STATUS

Json = dict[str, Any]
Field = descriptor_pb2.FieldDescriptorProto
Message = descriptor_pb2.DescriptorProto
Method = descriptor_pb2.MethodDescriptorProto

HOME: Final = "jitaccess.v1."
RAW: Final = ".google.api.HttpBody"
JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
PROBLEM: Final = "application/problem+json"
_PROBLEM_SCHEMA: Final = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {name: {"type": "string"} for name in ("type", "title", "detail")} | {"status": {"type": "integer"}},
}
_HEADERS: Final[Mapping[int, Json]] = {
    401: {
        "WWW-Authenticate": {
            "description": "How to be let in (RFC 6750): `Bearer`, with `error` where the token is not a good one, and"
            " with `resource_metadata` (RFC 9728), the URL that says where to log in, where people can.",
            "required": True,
            "schema": {"type": "string", "pattern": "^Bearer"},
            "example": 'Bearer error="invalid_token"',
        }
    }
}
STATUS_CODES: Final = {
    400: "The request is malformed, or impossible in the state of things.",
    401: "There is no token, or not a good one.",
    403: "The caller may not do this, or may not know whether it could.",
    404: "There is no such thing, or no such path.",
    408: "The request did not come in time.",
    409: "Something else came first.",
    413: "The body is too large.",
    429: "Too many at once.",
    431: "The headers are too large.",
    500: "A fault of the service.",
    503: "The service cannot be reached, or cannot be sure.",
    504: "The service did not answer in time.",
}
# As google.rpc.Code numbers them; the reasons of the edge have the code that their status comes from.
EDGE_CODES: Final = {400: 3, 404: 5, 408: 3, 413: 3, 431: 3, 429: 8, 503: 14, 504: 4}
DETAILS: Final = ("ErrorInfo", "BadRequest", "PreconditionFailure", "QuotaFailure", "RetryInfo")
WELL_KNOWN: Final[Mapping[str, Json]] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time", "examples": ["2026-03-02T12:00:00Z"]},
    ".google.protobuf.Duration": {
        "type": "string",
        "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$",
        "examples": ["3600s"],
    },
    ".google.protobuf.FieldMask": {"type": "string", "examples": ["maxDuration,steps"]},
    ".google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    ".google.protobuf.Value": {},
    ".google.protobuf.ListValue": {"type": "array"},
    ".google.protobuf.Empty": {"type": "object", "additionalProperties": False},
    ".google.protobuf.Any": {"type": "object", "required": ["@type"], "properties": {"@type": {"type": "string"}}},
    ".google.protobuf.BoolValue": {"type": "boolean"},
    ".google.protobuf.StringValue": {"type": "string"},
    ".google.protobuf.Int32Value": {"type": "integer", "format": "int32"},
    ".google.rpc.Status": {"$ref": "#/components/schemas/Status"},
}
_LONG: Final[Json] = {"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"}
_INT: Final[Json] = {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}
_NATURAL: Final[Json] = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
SCALARS: Final[Mapping[int, Json]] = {
    Field.TYPE_DOUBLE: {"type": "number"},
    Field.TYPE_FLOAT: {"type": "number"},
    Field.TYPE_BOOL: {"type": "boolean"},
    Field.TYPE_STRING: {"type": "string"},
    Field.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    Field.TYPE_INT32: _INT,
    Field.TYPE_SINT32: _INT,
    Field.TYPE_SFIXED32: _INT,
    Field.TYPE_UINT32: _NATURAL,
    Field.TYPE_FIXED32: _NATURAL,
    Field.TYPE_INT64: _LONG,
    Field.TYPE_SINT64: _LONG,
    Field.TYPE_SFIXED64: _LONG,
    Field.TYPE_UINT64: _LONG,
    Field.TYPE_FIXED64: _LONG,
}
_VARIABLE: Final = re.compile(r"\{([a-z_.]+)=([^}]+)\}")
_QUOTED: Final = re.compile(r"`([^`]+)`")
_MEDIA_TYPE: Final = re.compile(r"[a-z]+/[a-z0-9.+-]+")
_ID: Final = "^[A-Za-z0-9_.-]+$"


def openapi(protoc: Callable[..., None], protos: Sequence[str]) -> str:
    """Returns the document as JSON. `protoc` runs the compiler with the project's include paths."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "source.binpb"
        protoc(
            "--include_source_info",
            "--include_imports",
            f"--descriptor_set_out={path}",
            *protos,
            "google/rpc/error_details.proto",
        )
        files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file
    return json.dumps(_Document(files).made(), indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class _Call:
    """A method and one of its REST routes."""

    service: str
    method: Method
    comment: str
    rule: HttpRule

    @property
    def verb(self) -> str:
        return str(self.rule.WhichOneof("pattern"))

    @property
    def template(self) -> str:
        return str(getattr(self.rule, self.verb))

    @property
    def variables(self) -> dict[str, str]:
        """The fields that the path sets, with their patterns: `{"name": "grants/*"}`."""
        return dict(_VARIABLE.findall(self.template))

    @property
    def anonymous(self) -> bool:
        rule = RULES[f"/{self.service}/{self.method.name}"]
        return rule.anonymous or rule.public


class _Document:
    """Builds the document: a message's schema is added at the first reference to it."""

    def __init__(self, files: Sequence[descriptor_pb2.FileDescriptorProto]) -> None:
        self._files = files
        self._messages: dict[str, Message] = {}
        self._enums: dict[str, descriptor_pb2.EnumDescriptorProto] = {}
        self._comments: dict[str, str] = {}
        self._schemas: dict[str, Json] = {}
        for file in files:
            self._read(file)

    def made(self) -> Json:
        paths: dict[str, Json] = {}
        for call in self._calls():
            path, parameters = self._path(call)
            paths.setdefault(path, {})[call.verb] = self._operation(call, parameters)
        responses = _error_responses()
        self._add_errors()
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Just-in-time access",
                "version": "v1",
                "description": (
                    "Ask for access, approve it, check it, end it. JSON is proto3 JSON: lowerCamelCase names, durations"
                    " as `3600s`, instants as RFC 3339, 64-bit numbers as text. Names that a request does not have are"
                    " refused; answers may get new ones."
                ),
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "security": [{"token": []}],
            "tags": [{"name": name, "description": comment} for name, comment in self._tags()],
            "paths": dict(sorted(paths.items())),
            "components": {
                "schemas": dict(sorted(self._schemas.items())),
                "responses": responses,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            },
        }

    # What the files contain.

    def _read(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        comments = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
        prefix = f".{file.package}"
        for number, message in enumerate(file.message_type):
            self._read_message(message, prefix, (4, number), comments)
        for number, enum in enumerate(file.enum_type):
            self._enums[f"{prefix}.{enum.name}"] = enum
            self._comments[f"{prefix}.{enum.name}"] = comments.get((5, number), "")
        for number, service in enumerate(file.service):
            self._comments[f"{prefix}.{service.name}"] = comments.get((6, number), "")
            for index, method in enumerate(service.method):
                self._comments[f"{prefix}.{service.name}.{method.name}"] = comments.get((6, number, 2, index), "")

    def _read_message(
        self, message: Message, prefix: str, path: tuple[int, ...], comments: Mapping[tuple[int, ...], str]
    ) -> None:
        name = f"{prefix}.{message.name}"
        self._messages[name] = message
        self._comments[name] = comments.get(path, "").partition("\n\n")[0]
        for index, field in enumerate(message.field):
            self._comments[f"{name}.{field.name}"] = " ".join(comments.get((*path, 2, index), "").split())
        for index, nested in enumerate(message.nested_type):
            self._read_message(nested, name, (*path, 3, index), comments)
        for index, enum in enumerate(message.enum_type):
            self._enums[f"{name}.{enum.name}"] = enum
            lines = [comments.get((*path, 4, index), "")]
            for number, value in enumerate(enum.value):
                lines.append(f"- `{value.name}`: {comments.get((*path, 4, index, 2, number), '')}")
            self._comments[f"{name}.{enum.name}"] = "\n".join(lines)

    def _calls(self) -> Iterator[_Call]:
        for file in self._files:
            for service in file.service:
                for method in service.method:
                    rule = method.options.Extensions[annotations_pb2.http]
                    comment = self._comments[f".{file.package}.{service.name}.{method.name}"]
                    if rule.WhichOneof("pattern"):
                        for each in (rule, *rule.additional_bindings):
                            yield _Call(f"{file.package}.{service.name}", method, comment, each)

    def _tags(self) -> Iterator[tuple[str, str]]:
        for name in dict.fromkeys(call.service for call in self._calls()):
            yield name.rpartition(".")[2], self._comments[f".{name}"]

    @cached_property
    def _ids(self) -> dict[str, list[str]]:
        """The names of a resource's ids by its pattern: `{"grants/*": ["grant"]}`."""
        options = (message.options.Extensions[resource_pb2.resource] for message in self._messages.values())
        patterns = [pattern for resource in options for pattern in resource.pattern]
        return {re.sub(r"\{[^}]+\}", "*", pattern): re.findall(r"\{([^}]+)\}", pattern) for pattern in patterns}

    # Operations.

    def _path(self, call: _Call) -> tuple[str, list[Json]]:
        """Returns OpenAPI's path, and its parameters: `/v1/grants/{grant}:approve`."""
        path, parameters = call.template, []
        for variable, pattern in call.variables.items():
            ids = self._ids.get(pattern, [variable.replace(".", "_")])
            for name in ids:
                pattern = pattern.replace("*", f"{{{name}}}", 1)
                description = f"What `*` is in the name `{call.variables[variable]}`."
                schema = {"type": "string", "pattern": _ID, "maxLength": 100}
                parameters.append(
                    {"name": name, "in": "path", "required": True, "description": description, "schema": schema}
                )
            path = path.replace(f"{{{variable}={call.variables[variable]}}}", pattern)
        return path, parameters

    def _operation(self, call: _Call, parameters: list[Json]) -> Json:
        summary = call.comment.replace("\n", " ").partition(". ")[0].removesuffix(".") + "."
        service = call.service.rpartition(".")[2]
        made: Json = {
            "operationId": f"{service}_{call.method.name}",
            "tags": [service],
            "summary": summary,
            "description": f"{call.comment}\n\nMay call: {_callers(call)}.",
        }
        if call.method.server_streaming:
            made["x-stream"] = "ndjson"
        if all_parameters := [*parameters, *self._query(call), *_conditional(call)]:
            made["parameters"] = all_parameters
        if call.rule.body:
            made["requestBody"] = {"required": True, "content": self._request(call)}
        made["responses"] = self._responses(call)
        if call.anonymous:
            made["security"] = []
        return made

    def _query(self, call: _Call) -> list[Json]:
        """Returns the fields that neither the path nor the body has, as parameters."""
        if call.rule.body == "*":
            return []
        bound = {variable.partition(".")[0] for variable in call.variables} | {call.rule.body}
        kind = call.method.input_type
        return [
            parameter
            for field in self._messages[kind].field
            if field.name not in bound
            for parameter in self._parameter(kind, field, "")
        ]

    def _parameter(self, kind: str, field: Field, prefix: str) -> Iterator[Json]:
        name = prefix + field.json_name
        inner = self._messages.get(field.type_name)
        if inner is not None and (field.type_name not in WELL_KNOWN) and field.label != Field.LABEL_REPEATED:
            for child in inner.field:
                yield from self._parameter(field.type_name, child, f"{name}.")
            return
        if field.type_name in (".google.protobuf.Struct", ".google.protobuf.Any") or self._map_value(field):
            return  # Only a body can hold them.
        schema = {key: value for key, value in self._field(kind, field).items() if key != "description"}
        made = {"name": name, "in": "query", "description": self._comments[f"{kind}.{field.name}"], "schema": schema}
        yield made | ({"required": True} if _is(field, field_behavior_pb2.REQUIRED) else {})

    def _request(self, call: _Call) -> Json:
        kind = call.method.input_type
        if call.rule.body == "*":
            return {JSON: self._body(kind, {variable.partition(".")[0] for variable in call.variables})}
        field = next(field for field in self._messages[kind].field if field.name == call.rule.body)
        if field.type_name != RAW:
            bound = {inner for _, _, inner in (v.partition(".") for v in call.variables) if inner}
            return {JSON: self._body(field.type_name, bound)}
        comment = self._comments[f"{kind}.{field.name}"]
        return {media: {"schema": _raw(media, comment)} for media in _media_types(comment)}

    def _body(self, kind: str, without: set[str]) -> Json:
        """Returns the JSON body that is the message, without the fields that the path sets."""
        example = _example(self._messages[kind], without)
        made = {"schema": self._object(kind, without) if without else self._reference(kind)}
        return made | ({"example": example} if example else {})

    def _responses(self, call: _Call) -> Json:
        kind = call.method.output_type
        if kind == RAW:
            plain = {"type": "string"}
            content = {m: {"schema": {} if m == JSON else plain} for m in _media_types(call.comment)}
        else:
            content = {JSON: {"schema": self._reference(kind)}}
        made: Json = {"200": {"description": "The answer.", "content": content}}
        if call.method.server_streaming:
            # Envoy sends lines of JSON with the media type of JSON.
            made["200"]["description"] = "NDJSON: one message a line, until the stream ends."
        if _has_etag(call):
            made["200"]["headers"] = {"ETag": {"schema": {"type": "string"}}}
            made["304"] = {"description": "The caller has this version."}
        for status in _statuses(call):
            made[str(status)] = {"$ref": f"#/components/responses/{status}"}
        if call.service == "authzen.v1.AccessRequestService":
            made |= _with_problems(made, reads=call.verb == "get")
        return made

    # Schemas.

    def _reference(self, kind: str) -> Json:
        """Returns a reference to the schema of the message or enum, which is added to the document."""
        if kind in WELL_KNOWN:
            return dict(WELL_KNOWN[kind])
        name = kind.removeprefix(".").removeprefix(HOME).removeprefix("google.rpc.")
        if name not in self._schemas:
            self._schemas[name] = {}
            self._schemas[name] = self._enum(kind) if kind in self._enums else self._object(kind, set())
        return {"$ref": f"#/components/schemas/{name}"}

    def _enum(self, kind: str) -> Json:
        names = [value.name for value in self._enums[kind].value]
        return {"type": "string", "description": self._comments[kind].strip(), "enum": names}

    def _object(self, kind: str, without: set[str]) -> Json:
        fields = [field for field in self._messages[kind].field if field.name not in without]
        made: Json = {"type": "object", "description": self._comments[kind]}
        made["properties"] = {field.json_name: self._field(kind, field) for field in fields}
        if required := [field.json_name for field in fields if _is(field, field_behavior_pb2.REQUIRED)]:
            made["required"] = required
        if kind in self._only_asked:
            made["additionalProperties"] = False
        return made

    def _field(self, kind: str, field: Field) -> Json:
        value = self._map_value(field)
        if value is not None:
            made: Json = {"type": "object", "additionalProperties": self._kind(value)}
        elif field.label == Field.LABEL_REPEATED:
            made = {"type": "array", "items": self._kind(field)}
        else:
            made = dict(self._kind(field))
        if comment := self._comments[f"{kind}.{field.name}"]:
            made["description"] = comment
        if _is(field, field_behavior_pb2.OUTPUT_ONLY) and kind not in self._only_answered:
            made["readOnly"] = True
        return made

    def _kind(self, field: Field) -> Json:
        return self._reference(field.type_name) if field.type_name else dict(SCALARS[field.type])

    def _map_value(self, field: Field) -> Field | None:
        """Returns the field of the map's values, if it is a map."""
        entry = self._messages.get(field.type_name)
        return entry.field[1] if entry is not None and entry.options.map_entry else None

    @cached_property
    def _only_asked(self) -> frozenset[str]:
        return self._within("input_type") - self._within("output_type")

    @cached_property
    def _only_answered(self) -> frozenset[str]:
        return self._within("output_type") - self._within("input_type")

    def _within(self, side: str) -> frozenset[str]:
        """Returns the messages that requests or answers contain."""
        waiting = [getattr(call.method, side) for call in self._calls()]
        found: set[str] = set()
        while waiting:
            kind = waiting.pop()
            if kind not in found and kind in self._messages:
                found.add(kind)
                waiting += [field.type_name for field in self._messages[kind].field if field.type_name]
        return frozenset(found)

    def _add_errors(self) -> None:
        details = [self._detail(name) for name in DETAILS]
        reasons = sorted({reason for _, reason, _, _ in _faults()})
        self._schemas["ErrorInfo"]["properties"]["reason"] = {"$ref": "#/components/schemas/Reason"}
        self._schemas["Reason"] = {
            "type": "string",
            "description": "What is wrong, for programs. There may be new ones.",
            "enum": reasons,
        }
        self._schemas["Status"] = {
            "type": "object",
            "description": "An error (google.rpc.Status).",
            "required": ["code", "message"],
            "properties": {
                "code": {**_INT, "description": "google.rpc.Code."},
                "message": {"type": "string", "description": "For people: what is, and what was needed."},
                "details": {"type": "array", "items": {"anyOf": [*details, WELL_KNOWN[".google.protobuf.Any"]]}},
            },
        }

    def _detail(self, name: str) -> Json:
        reference = self._reference(f".google.rpc.{name}")
        schema = self._schemas[name]
        schema["properties"] = {"@type": {"const": f"type.googleapis.com/google.rpc.{name}"}} | schema["properties"]
        schema["required"] = ["@type"]
        return reference


def _callers(call: _Call) -> str:
    if call.anonymous:
        return "anybody, without a token"
    roles = RULES[f"/{call.service}/{call.method.name}"].needed_roles()
    return f"the role {roles}" if roles else "anyone with a token"


def _is(field: Field, behaviour: int) -> bool:
    return behaviour in field.options.Extensions[field_behavior_pb2.field_behavior]


def _media_types(comment: str) -> list[str]:
    return [word for word in _QUOTED.findall(comment) if _MEDIA_TYPE.fullmatch(word)] or [JSON]


def _raw(media: str, comment: str) -> Json:
    """Returns the schema of a body that arrives as it is."""
    if media != FORM:
        return {"type": "object"} if media == JSON else {"type": "string"}
    names = [word for word in _QUOTED.findall(comment) if not _MEDIA_TYPE.fullmatch(word)]
    return {"type": "object", "required": names, "properties": {name: {"type": "string"} for name in names}}


def _has_etag(call: _Call) -> bool:
    return call.method.output_type == RAW and "`ETag`" in call.comment


def _conditional(call: _Call) -> list[Json]:
    header = {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}}
    return [header] if _has_etag(call) else []


def _statuses(call: _Call) -> list[int]:
    """Returns the HTTP statuses of the errors that the call can end with."""
    not_here: set[int] = set()
    if call.anonymous:
        not_here |= {401, 403}
    if call.verb == "get":
        not_here |= {409}
    if not call.rule.body:
        not_here |= {413}
    return [status for status in STATUS_CODES if status not in not_here]


def _example(message: Message, without: set[str]) -> Json:
    """Returns a body that the service would accept."""
    if message.name == "Policy":
        return {key: value for key, value in POLICY_EXAMPLE.items() if key not in without}
    chosen = [field for field in message.field if field.name in EXAMPLES and field.name not in without]
    return {
        field.json_name: EXAMPLES[field.name]
        for field in chosen
        if field.name == "duration" or _is(field, field_behavior_pb2.REQUIRED)
    }


def _faults() -> Iterator[tuple[int, str, int, str]]:
    """Yields each error: its HTTP status, reason, google.rpc.Code and meaning."""
    for leaf in leaves(JitError):
        code = next(STATUS[ancestor] for ancestor in leaf.__mro__ if ancestor in STATUS)
        words = (leaf.__doc__ or "").splitlines()[0].partition(" `field` is")[0]
        yield HTTP[code.name], leaf.reason, code.value[0], words
    yield 500, "INTERNAL", 13, INTERNAL_MESSAGE
    for reason, status, words in EDGE:
        yield status, reason, EDGE_CODES[status], words


def _with_problems(responses: Json, *, reads: bool) -> Json:
    """Returns a response for each status that the draft of access requests has a problem (RFC 9457) for.

    All other errors have the usual body, even at the same status.
    """
    made: Json = {}
    for status, title in sorted({(status, title) for _, status, title in PROBLEMS.values()}):
        if reads and str(status) not in responses:
            continue
        known = made.get(str(status), responses.get(str(status), {}))
        content = {JSON: {"schema": {"$ref": "#/components/schemas/Status"}}, PROBLEM: {"schema": _PROBLEM_SCHEMA}}
        words = STATUS_CODES.get(status, title) if "$ref" in known or not known else known["description"]
        made[str(status)] = {"description": words, "content": content}
    return made


def _error_responses() -> Json:
    """Returns a response for each status, with an example for each reason it can have."""
    made: dict[int, Json] = {}
    for status, words in STATUS_CODES.items():
        content = {"schema": {"$ref": "#/components/schemas/Status"}, "examples": {}}
        headers = {"headers": _HEADERS[status]} if status in _HEADERS else {}
        made[status] = {"description": words, **headers, "content": {JSON: content}}
    for status, reason, code, words in sorted(_faults()):
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": DOMAIN, "metadata": {}}
        value = {"code": code, "message": words, "details": [info]}
        made[status]["content"][JSON]["examples"][reason] = {"summary": words, "value": value}
    return {str(status): response for status, response in made.items()}
