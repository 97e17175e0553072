"""Routes in the settings: where people and groups are told, by which receiver."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from jit_service.domain import routing
from jit_service.domain.errors import InvalidField
from jit_service.domain.language import name
from jit_service.domain.notification import Subscription, interests
from jit_service.domain.policies.policy import PrincipalSet
from jit_service.notifications.receivers import AnyReceiver, EmailReceiver, SlackReceiver, mailbox, slack_address

_SOME_PRINCIPALS: Final = re.compile(r"(?:user|service):\*[^*\s]{0,254}")
_POLICIES: Final = re.compile(r"policies/(?:[a-z][a-z0-9-]{0,62}|[a-z0-9-]{0,62}\*)")
_MOST: Final = 100
_AS_WRITTEN: Final = partial(name.principal, exact=("user:", "service:"))
_WHOLE: Final = ("",)
"""The address of a receiver that is one place itself."""


class Route(BaseModel):
    """Where `groups` and `principals` are told: by the receiver, at the addresses `to` in the form of its kind.

    `user:*@example.com` are all people whose names end so. Without `to` each principal is told at its own name, which
    must be a mail address. `policies`, `labels` and `events` narrow it. Of `must_know` they are told whomever it
    concerns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    receiver: str
    groups: tuple[str, ...] = Field(default=(), max_length=_MOST)
    principals: tuple[str, ...] = Field(default=(), max_length=_MOST)
    to: tuple[str, ...] = Field(default=(), max_length=_MOST)
    policies: tuple[str, ...] = Field(default=(), max_length=_MOST)
    labels: dict[str, str] = Field(default_factory=dict)
    events: tuple[str, ...] = ()
    must_know: tuple[str, ...] = ()

    @field_validator("groups")
    @classmethod
    def _named(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_valid(name.group, text, "groups") for text in given)

    @field_validator("principals")
    @classmethod
    def _people(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            text if _SOME_PRINCIPALS.fullmatch(text) else _valid(_AS_WRITTEN, text, "principals") for text in given
        )

    @field_validator("policies")
    @classmethod
    def _of_policies(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for text in given:
            if not _POLICIES.fullmatch(text):
                raise ValueError("must be names such as policies/orders, or beginnings such as policies/prod-*")
        return given

    @field_validator("labels")
    @classmethod
    def _of_grants(cls, given: dict[str, str]) -> dict[str, str]:
        try:
            return name.labels(given)
        except InvalidField as fault:
            raise ValueError(fault.fault) from None

    @field_validator("events", "must_know")
    @classmethod
    def _known(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        if given:
            interests(given)
        return given

    def leading_to(self, receiver: AnyReceiver) -> routing.Route:
        """Returns the route to the receiver that it names. Raises ValueError, which names the field."""
        if not (self.groups or self.principals or (self.to and self.must_know)):
            raise ValueError("names nobody; give groups or principals")
        return routing.Route(
            receiver=receiver.name,
            addressees=self._addressees(receiver),
            whom=PrincipalSet(principals=self.principals, groups=self.groups),
            policies=self.policies,
            labels=self.labels,
            interests=interests(self.events) if self.events else frozenset(),
            must_know=interests(self.must_know) if self.must_know else frozenset(),
            edits=isinstance(receiver, SlackReceiver) and receiver.url_file is None,
        )

    def _addressees(self, receiver: AnyReceiver) -> tuple[str, ...]:
        judge = _judge_of(receiver)
        if judge is None:
            if self.to:
                raise ValueError(f"to: {receiver.name} is one place, so it has no addresses")
            return _WHOLE
        named = [text for text in self.principals if "*" not in text]
        for field, texts in (("to", self.to), ("principals", () if self.to else named)):
            for text in texts:
                try:
                    judge(text)
                except ValueError as fault:
                    raise ValueError(f"{field}: {fault}") from None
        if not self.to and self.groups:
            raise ValueError("to: is missing; the service does not know who is in a group, so say where it is told")
        return self.to


def routes_of(routes: Sequence[Route], receivers: Sequence[AnyReceiver]) -> list[routing.Route]:
    """Returns the routes of the settings. Raises ValueError, which names the route and the field."""
    by_name = {receiver.name: receiver for receiver in receivers}
    found = []
    for index, route in enumerate(routes):
        receiver = by_name.get(route.receiver)
        try:
            if receiver is None:
                known = ", ".join(by_name) or "none"
                raise ValueError(f"receiver: {route.receiver!a} is no receiver; those are {known}")
            found.append(route.leading_to(receiver))
        except ValueError as fault:
            raise ValueError(f"[{index}] {fault}") from None
    return found


def subscriptions_of(routes: Sequence[Route], receivers: Sequence[AnyReceiver]) -> list[Subscription]:
    """Returns what the receivers are told beside the routes.

    A receiver that a route names tells by routes, and beside that only those that its own `to` names.
    """
    routed = {route.receiver for route in routes}
    return [
        receiver.subscription
        for receiver in receivers
        if receiver.name not in routed or (isinstance(receiver, EmailReceiver | SlackReceiver) and receiver.to)
    ]


def _judge_of(receiver: AnyReceiver) -> Callable[[str], str] | None:
    """Returns what judges an address of the receiver; None where it is one place itself."""
    if isinstance(receiver, EmailReceiver):
        return mailbox
    if isinstance(receiver, SlackReceiver) and receiver.url_file is None:
        return slack_address
    return None


def _valid(judge: Callable[[str, str], str], text: str, field: str) -> str:
    try:
        return judge(text, field)
    except InvalidField as fault:
        raise ValueError(fault.fault) from None
