"""The JSON of AuthZEN's Authorization API 1.0, read strictly and mapped to our names.

Strictly: what is required is there, what is there has its type, the text is I-JSON (RFC 7493). Unknown members are
passed over, as section "JSON Serialization" demands. A name that nothing of ours can have is no fault of the request:
the answer about it is no. An id may be a URL, or a path: what is empty between its slashes stands as `%` in the name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from google.api.httpbody_pb2 import HttpBody

from jit_service.domain.errors import DenialNotBound, InvalidField
from jit_service.domain.language import name
from jit_service.use_cases.authzen_requests import Denied
from jitaccess.naming.json_numbers import with_whole_numbers

JSON: Final = "application/json"
_JSON_TYPE: Final = re.compile(rf'{re.escape(JSON)} *(; *charset=("?)utf-8\2 *)?', re.IGNORECASE | re.ASCII)
_MAX_BODY: Final = 1 << 20
_MAX_DEPTH: Final = 32
_MAX_EXACT: Final = 2**53
SEMANTICS: Final = ("execute_all", "deny_on_first_deny", "permit_on_first_permit")
_KINDS: Final = {str: "text", dict: "an object", list: "an array", int: "a whole number"}
# Members of the context that the Access Request and Approval Profile gives a meaning; conditions do not see them.
_PROFILE_MEMBERS: Final = ("access_request", "approval", "evaluated_at", "evaluation_id", "reason")

# What a denial is not bound to: what passes, and what only explains the request.
_UNBOUND: Final = frozenset({*_PROFILE_MEMBERS, "time", "business_justification", "ticket"})
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)

# What COAZ-MCP calls whoever a token's `sub` names.
_IDENTITY: Final = "identity"
# In a name, what is empty between two slashes of an id: no segment may be empty, and no URL has such a part.
_EMPTY: Final = "%"

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Entity:
    """A subject or a resource; `id` is empty only for one that is sought."""

    type: str
    id: str
    properties: Object = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """Its name as a subject: `user:ID`. Raises InvalidField for a type that has a colon, and so is more."""
        if ":" in self.type:
            raise InvalidField("subject", f"its type {self.type[:80]!a} has a colon; it must be user or service")
        return f"{'user' if self.type == _IDENTITY else self.type}:{self.id}"

    @property
    def resource(self) -> str:
        """Its name as a resource: `type/id`. Raises InvalidField for a type that is more than the first segment.

        No two ids have the same name, so an id with a part that is just `%` has none.
        """
        if "/" in self.type:
            raise InvalidField("resource", f"its type {self.type[:80]!a} has a slash; the type is the first segment")
        parts = self.id.split("/") if self.id else []
        if _EMPTY in parts:
            raise InvalidField("resource", "its id has a part that is just %, which stands for an empty one")
        return f"{self.type}/{'/'.join(part or _EMPTY for part in parts)}"

    def subject_of(self, name: str) -> Object:
        """Returns the subject of its type that has the name."""
        return {"type": self.type, "id": name.removeprefix(self.subject)}

    def resource_of(self, name: str) -> Object:
        """Returns the resource of its type that has the name."""
        parts = name.removeprefix(self.resource).split("/")
        return {"type": self.type, "id": "/".join("" if part == _EMPTY else part for part in parts)}


@dataclass(frozen=True, kw_only=True)
class Action:
    """An action."""

    name: str
    properties: Object = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A question. In a search the side that is sought has no id, or is None."""

    subject: Entity
    resource: Entity
    action: Action
    context: Object = field(default_factory=dict)

    @property
    def asserted(self) -> Object:
        """What conditions read: the context, and the properties as `subject_properties` and so on.

        Raises InvalidField for a context that has one of these names itself.
        """
        properties = {
            "subject_properties": self.subject.properties,
            "action_properties": self.action.properties,
            "resource_properties": self.resource.properties,
        }
        if taken := sorted(properties.keys() & self.context.keys()):
            raise InvalidField(f"context.{taken[0]}", "cannot be given: it holds the properties of that entity")
        own = {key: value for key, value in self.context.items() if key not in _PROFILE_MEMBERS}
        return dict(with_whole_numbers({**own, **properties}))

    @property
    def denied(self) -> Denied:
        """What a denial of it is bound to: `time` and what only explains a request are no part of what was judged."""
        subject = {key: value for key, value in self.subject.properties.items() if key != "act"}
        return Denied(
            subject=_with_properties({"type": self.subject.type, "id": self.subject.id}, subject),
            resource=_with_properties({"type": self.resource.type, "id": self.resource.id}, self.resource.properties),
            action=_with_properties({"name": self.action.name}, self.action.properties),
            context={key: value for key, value in self.context.items() if key not in _UNBOUND},
        )

    @property
    def approval_id(self) -> str | None:
        """The id of the approval that the caller brings along, empty where it has none; None without an approval."""
        if "approval" not in self.context:
            return None
        approval = self.context["approval"]
        identifier = approval.get("id") if isinstance(approval, dict) else None
        return identifier if isinstance(identifier, str) else ""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What is asked for after a denial."""

    evaluation: Evaluation
    binding_token: str
    until: datetime | None
    emergency: bool
    justification: str
    ticket: str


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Several questions, in order; one that is faulty is its fault."""

    items: tuple[Evaluation | InvalidField, ...]
    semantic: str


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """Which page of a search; limit 0 leaves it to the service, or to the page before."""

    token: str = ""
    limit: int = 0


def json_of(body: HttpBody) -> Object:
    """Returns the object in the body. Raises InvalidField for another content type, and for what is not I-JSON."""
    if not _JSON_TYPE.fullmatch(body.content_type):
        raise InvalidField("content-type", f"is {name.harmless(body.content_type, 100)!a}; it must be {JSON}, in UTF-8")
    if body.extensions:
        raise InvalidField("body.extensions", "must be empty")
    if len(body.data) > _MAX_BODY:
        raise InvalidField("body", f"has {len(body.data)} bytes; at most {_MAX_BODY} are allowed")
    try:
        value = json.loads(
            body.data.decode(),
            object_pairs_hook=_object_of_pairs,
            parse_constant=_refuse_constant,
            parse_int=_whole_number,
        )
    except _NotIJson as fault:
        raise InvalidField("body", str(fault)) from None
    except (ValueError, RecursionError):
        raise InvalidField("body", "is not JSON in UTF-8") from None
    _check_i_json(value, 0)
    if not isinstance(value, dict):
        raise InvalidField("body", "must be a JSON object")
    return value


def evaluation(given: Object) -> Evaluation:
    """Returns the question. Raises InvalidField for what is missing or mistyped."""
    return Evaluation(
        subject=_entity(given, "subject"),
        action=_action(given),
        resource=_entity(given, "resource"),
        context=_optional_object(given, "context", "context"),
    )


def batch(given: Object, *, limit: int) -> Batch | Evaluation:
    """Returns the questions; one that stands alone where there is no `evaluations`, or it is empty.

    An evaluation has each entity itself, or all of it from the top. Raises InvalidField for faults of the whole.
    """
    options = _optional_object(given, "options", "options")
    semantic = options.get("evaluations_semantic", SEMANTICS[0])
    if semantic not in SEMANTICS:
        shown = name.harmless(semantic, 80) if isinstance(semantic, str) else type(semantic).__name__
        raise InvalidField("options.evaluations_semantic", f"is {shown!a}; one of {', '.join(SEMANTICS)} is allowed")
    items = _typed(given, "evaluations", list, "evaluations") if "evaluations" in given else []
    if not items:
        return evaluation(given)
    if len(items) > limit:
        raise InvalidField("evaluations", f"has {len(items)} items; at most {limit} are allowed")
    defaults: Object = {key: given[key] for key in ("subject", "action", "resource", "context") if key in given}
    _check_defaults(defaults)
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise InvalidField(f"evaluations[{index}]", "must be an object")
    return Batch(
        items=tuple(_batch_item(index, defaults | item) for index, item in enumerate(items)), semantic=semantic
    )


def subject_search(given: Object) -> Evaluation:
    """Returns what is sought. Raises InvalidField."""
    return Evaluation(
        subject=_entity_without_id(given, "subject"),
        action=_action(given),
        resource=_entity(given, "resource"),
        context=_optional_object(given, "context", "context"),
    )


def resource_search(given: Object) -> Evaluation:
    """Returns what is sought. Raises InvalidField."""
    return Evaluation(
        subject=_entity(given, "subject"),
        action=_action(given),
        resource=_entity_without_id(given, "resource"),
        context=_optional_object(given, "context", "context"),
    )


def action_search(given: Object) -> Evaluation:
    """Returns what is sought; an action is passed over. Raises InvalidField."""
    return Evaluation(
        subject=_entity(given, "subject"),
        action=Action(name=""),
        resource=_entity(given, "resource"),
        context=_optional_object(given, "context", "context"),
    )


def submission(given: Object) -> Submission:
    """Returns what is asked for. Raises InvalidField, and DenialNotBound for a denial that nothing proves."""
    if "items" in given:
        raise InvalidField("items", "is not served; ask for each by itself")
    asked = evaluation(given)
    denial = _typed(given, "denial", dict, "denial")
    wanted = _optional_object(given, "requested_access", "requested_access")
    token = _optional_text(denial, "binding_token", "denial.binding_token")
    if not token:
        raise DenialNotBound("denial.binding_token is required: as the evaluation gave it")
    emergency = wanted.get("emergency", False)
    if not isinstance(emergency, bool):
        raise InvalidField("requested_access.emergency", "must be true or false")
    until = _optional_text(wanted, "requested_until", "requested_access.requested_until")
    return Submission(
        evaluation=asked,
        binding_token=token,
        until=_instant(until, "requested_access.requested_until") if until else None,
        emergency=emergency,
        justification=_optional_text(asked.context, "business_justification", "context.business_justification"),
        ticket=_optional_text(asked.context, "ticket", "context.ticket"),
    )


def comment(body: HttpBody) -> str:
    """Returns the comment of a cancellation, empty without one. Raises InvalidField."""
    return _optional_text(json_of(body), "comment", "comment") if body.data else ""


def page(given: Object) -> PageRequest:
    """Returns which page of a search is wanted. Raises InvalidField."""
    wanted = _optional_object(given, "page", "page")
    limit = _typed(wanted, "limit", int, "page.limit") if "limit" in wanted else 0
    if limit < 0:
        raise InvalidField("page.limit", f"is {limit}; it must not be negative")
    return PageRequest(token=_optional_text(wanted, "token", "page.token"), limit=limit)


def body_of(value: Mapping[str, Any], content_type: str = JSON) -> HttpBody:
    """Returns the answer's body."""
    return HttpBody(content_type=content_type, data=json.dumps(value).encode())


def _batch_item(index: int, given: Object) -> Evaluation | InvalidField:
    try:
        return evaluation(given)
    except InvalidField as fault:
        return InvalidField(f"evaluations[{index}].{fault.field}", fault.fault)


def _check_defaults(defaults: Object) -> None:
    if "subject" in defaults:
        _entity(defaults, "subject")
    if "resource" in defaults:
        _entity(defaults, "resource")
    if "action" in defaults:
        _action(defaults)
    _optional_object(defaults, "context", "context")


def _entity(given: Object, key: str) -> Entity:
    value = _typed(given, key, dict, key)
    return Entity(
        type=_text(value, "type", f"{key}.type"),
        id=_text(value, "id", f"{key}.id"),
        properties=_optional_object(value, "properties", f"{key}.properties"),
    )


def _entity_without_id(given: Object, key: str) -> Entity:
    """An id is passed over, whatever it is, as the Search API demands."""
    value = _typed(given, key, dict, key)
    return Entity(
        type=_text(value, "type", f"{key}.type"),
        id="",
        properties=_optional_object(value, "properties", f"{key}.properties"),
    )


def _action(given: Object) -> Action:
    value = _typed(given, "action", dict, "action")
    return Action(
        name=_text(value, "name", "action.name"),
        properties=_optional_object(value, "properties", "action.properties"),
    )


def _text(given: Object, key: str, path: str) -> str:
    text: str = _typed(given, key, str, path)
    if not text:
        raise InvalidField(path, "must not be empty")
    return text


def _optional_text(given: Object, key: str, path: str) -> str:
    return _typed(given, key, str, path) if key in given else ""


def _optional_object(given: Object, key: str, path: str) -> Object:
    return _typed(given, key, dict, path) if key in given else {}


def _typed(given: Object, key: str, kind: type[Any], path: str) -> Any:
    if key not in given:
        raise InvalidField(path, "is required")
    value = given[key]
    # In Python a bool is an int; in JSON it is not.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InvalidField(path, f"must be {_KINDS[kind]}")
    return value


def _with_properties(entity: Object, properties: Object) -> Object:
    return entity | ({"properties": properties} if properties else {})


def _instant(text: str, path: str) -> datetime:
    if not _RFC3339.fullmatch(text):
        raise InvalidField(path, "must be an instant such as 2026-05-01T00:15:00Z")
    try:
        return datetime.fromisoformat(text.upper().replace("Z", "+00:00")).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidField(path, "must be an instant such as 2026-05-01T00:15:00Z") from None


class _NotIJson(Exception):
    """What JSON allows and I-JSON does not."""


def _object_of_pairs(pairs: list[tuple[str, Any]]) -> Object:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key in found if sum(key == other for other, _ in pairs) > 1)
        raise _NotIJson(f"has the name {name.harmless(twice, 80)!a} twice in one object")
    return found


def _refuse_constant(text: str) -> None:
    raise _NotIJson(f"has {text}, which is not JSON")


def _whole_number(text: str) -> int:
    number = int(text) if len(text) <= 20 else _MAX_EXACT + 1
    if abs(number) > _MAX_EXACT:
        raise _NotIJson("has a whole number beyond 2^53, which not every reader has exactly")
    return number


def _check_i_json(value: Any, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise InvalidField("body", f"is nested more than {_MAX_DEPTH} deep")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_text(key)
            _check_i_json(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_i_json(inner, depth + 1)
    elif isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidField("body", "has a number that no double can hold")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidField("body", "has half of a surrogate pair") from None
