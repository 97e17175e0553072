"""Reads the JSON of AuthZEN's Authorization API 1.0 strictly, and maps it to the names of this service.

Strictly means: required members are present, each member has its type, and the text is I-JSON (RFC 7493). Unknown
members are ignored, as section "JSON Serialization" demands. A name that nothing here can have is not a fault of the
request: the decision about it is no. An id may be a URL or a path; an empty part between its slashes becomes `%`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from google.api.httpbody_pb2 import HttpBody

from jit_service.domain.audit.refusal import About
from jit_service.domain.errors import DenialNotBound, InvalidField
from jit_service.domain.language import name
from jit_service.rpc.authzen.i_json import Object, object_of
from jit_service.rpc.media_types import JSON
from jit_service.use_cases.authzen_requests import DeniedEvaluation
from jitaccess.naming import rfc3339
from jitaccess.naming.json_numbers import with_whole_numbers

SEMANTICS: Final = ("execute_all", "deny_on_first_deny", "permit_on_first_permit")
_KINDS: Final = {str: "text", dict: "an object", list: "an array", int: "a whole number"}
# Members of the context that have a meaning in the Access Request and Approval Profile. Conditions do not see them.
_PROFILE_MEMBERS: Final = ("access_request", "approval", "evaluated_at", "evaluation_id", "reason")

# A denial is not bound to these members: they change with time, or only explain the request.
_UNBOUND: Final = frozenset({*_PROFILE_MEMBERS, "time", "business_justification", "ticket"})

# The type that COAZ-MCP gives to the subject of a token's `sub`.
_IDENTITY: Final = "identity"
# It stands in a name for an empty part of an id: no segment of a name may be empty, and no URL has a part "%".
_EMPTY: Final = "%"


@dataclass(frozen=True, kw_only=True)
class Entity:
    """A subject or a resource. `id` is empty only for the entity that a search looks for."""

    type: str
    id: str
    properties: Object = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """Its name as a subject: `user:ID`. Raises InvalidField for a type with a colon."""
        if ":" in self.type:
            raise InvalidField("subject", f"its type {self.type[:80]!a} has a colon; it must be user or service")
        return f"{'user' if self.type == _IDENTITY else self.type}:{self.id}"

    @property
    def resource(self) -> str:
        """Its name as a resource: `type/id`. Raises InvalidField for a type with a slash.

        No two ids may have the same name, so an id with a part `%` is refused too.
        """
        if "/" in self.type:
            raise InvalidField("resource", f"its type {self.type[:80]!a} has a slash; the type is the first segment")
        parts = self.id.split("/") if self.id else []
        if _EMPTY in parts:
            raise InvalidField("resource", "its id has a part that is just %, which stands for an empty one")
        return f"{self.type}/{'/'.join(part or _EMPTY for part in parts)}"

    def subject_of(self, name: str) -> Object:
        """Returns the subject of this type with the name."""
        return {"type": self.type, "id": name.removeprefix(self.subject)}

    def resource_of(self, name: str) -> Object:
        """Returns the resource of this type with the name."""
        parts = name.removeprefix(self.resource).split("/")
        return {"type": self.type, "id": "/".join("" if part == _EMPTY else part for part in parts)}


@dataclass(frozen=True, kw_only=True)
class Action:
    """An action."""

    name: str
    properties: Object = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A question. In a search, the subject or resource that it looks for has no id, and the action no name."""

    subject: Entity
    resource: Entity
    action: Action
    context: Object = field(default_factory=dict)

    @property
    def asserted(self) -> Object:
        """The context that conditions read, with the properties of the entities as `subject_properties` and so on.

        Raises InvalidField for a context that already has one of these names.
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
    def about(self) -> About:
        """What the record of a refusal says about it: the names as the caller gave them."""
        return About(
            subject=f"{self.subject.type}:{self.subject.id}",
            resources=(f"{self.resource.type}/{self.resource.id}",),
            actions=(self.action.name,) if self.action.name else (),
        )

    @property
    def denied(self) -> DeniedEvaluation:
        """What a denial is bound to: all that the decision rests on, so neither `time` nor what explains a request."""
        subject = {key: value for key, value in self.subject.properties.items() if key != "act"}
        return DeniedEvaluation(
            subject=_with_properties({"type": self.subject.type, "id": self.subject.id}, subject),
            resource=_with_properties({"type": self.resource.type, "id": self.resource.id}, self.resource.properties),
            action=_with_properties({"name": self.action.name}, self.action.properties),
            context={key: value for key, value in self.context.items() if key not in _UNBOUND},
        )

    @property
    def approval_id(self) -> str | None:
        """The id of the approval that the caller sends, empty if that has no id; None without an approval."""
        if "approval" not in self.context:
            return None
        approval = self.context["approval"]
        identifier = approval.get("id") if isinstance(approval, dict) else None
        return identifier if isinstance(identifier, str) else ""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """An access request after a denial."""

    evaluation: Evaluation
    binding_token: str
    until: datetime | None
    emergency: bool
    justification: str
    ticket: str


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Several questions in order. In the place of an invalid one stands its fault."""

    items: tuple[Evaluation | InvalidField, ...]
    semantic: str


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """Which page of a search is wanted. With limit 0 the service chooses, or the limit of the page before holds."""

    token: str = ""
    limit: int = 0


def evaluation(given: Object) -> Evaluation:
    """Returns the question. Raises InvalidField for a member that is missing or has a wrong type."""
    return _evaluation(given)


def batch(given: Object, *, limit: int) -> Batch | Evaluation:
    """Returns the questions; a single one if `evaluations` is missing or empty.

    An evaluation has its own subject, resource, action and context, or each of them as a whole from the top level.
    Raises InvalidField for faults of the whole body.
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
    """Returns the search; an id of the subject is ignored. Raises InvalidField."""
    return _evaluation(given, subject=_entity_without_id)


def resource_search(given: Object) -> Evaluation:
    """Returns the search; an id of the resource is ignored. Raises InvalidField."""
    return _evaluation(given, resource=_entity_without_id)


def action_search(given: Object) -> Evaluation:
    """Returns the search; an action is ignored. Raises InvalidField."""
    return _evaluation(given, action=lambda _: Action(name=""))


def submission(given: Object) -> Submission:
    """Returns the access request. Raises InvalidField, and DenialNotBound for a denial without a binding token."""
    if "items" in given:
        raise InvalidField("items", "is not supported; send one request for each")
    asked = evaluation(given)
    denial = _typed(given, "denial", dict, "denial")
    wanted = _optional_object(given, "requested_access", "requested_access")
    token = _optional_text(denial, "binding_token", "denial.binding_token")
    if not token:
        raise DenialNotBound("denial.binding_token is required; copy it from the evaluation")
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
    return _optional_text(object_of(body), "comment", "comment") if body.data else ""


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


def _evaluation(
    given: Object,
    *,
    subject: Callable[[Object, str], Entity] | None = None,
    resource: Callable[[Object, str], Entity] | None = None,
    action: Callable[[Object], Action] | None = None,
) -> Evaluation:
    return Evaluation(
        subject=(subject or _entity)(given, "subject"),
        action=(action or _action)(given),
        resource=(resource or _entity)(given, "resource"),
        context=_optional_object(given, "context", "context"),
    )


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
    """Returns the entity without its id, which is ignored, as the Search API demands."""
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
    instant = rfc3339.parse(text)
    if instant is None:
        raise InvalidField(path, "must be an instant such as 2026-05-01T00:15:00Z")
    return instant
