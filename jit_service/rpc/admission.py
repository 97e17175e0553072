"""Admits calls, on both transports, by one order of steps: identify the caller, count the call, check the request.

A step that fails raises a JitError, and the call goes no further.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from jit_service.domain.caller import Caller
from jit_service.domain.errors import MalformedMessage, ProxyRequired
from jit_service.domain.frozen import replace
from jit_service.domain.language import name
from jit_service.rpc import strictness
from jit_service.rpc.authentication import Authenticator, Identity
from jit_service.rpc.authorization import RULES, Rule, demand
from jit_service.rpc.origins import Metadata, Origins, last_value, text, with_token
from jit_service.rpc.quota import Quota
from jitaccess.v1.access_pb2 import CheckAccessRequest, SearchAccessRequest

PAST_WEIGHT: Final = 100
"""How many checks a question about the past counts as, since it is answered by reading the store."""
# A proxy sends this when it asks for a client. The edge strips x-jit-* from what clients send, so a client cannot send
# it through Envoy (envoy/envoy.yaml).
_PROXY_METADATA: Final = ("x-jit-proxy", "ext-authz")


class MalformedRequest:
    """A request whose bytes do not decode to its message."""


class Admission:
    """The admission of calls at one address. `trusted_proxies` are the peers that may name their client's address."""

    def __init__(self, authenticator: Authenticator, quota: Quota, trusted_proxies: Sequence[str]) -> None:
        self._authenticator = authenticator
        self._quota = quota
        self._origins = Origins(trusted_proxies)

    def unauthenticated(self, method: str, metadata: Metadata, peer: str) -> Caller:
        """Returns the caller before it is identified: where the call comes from, and nothing that a token proves."""
        return Caller(principal="", origin=self._origins.of(method, metadata, peer))

    def identify(self, rule: Rule | None, caller: Caller, metadata: Metadata, peer: str) -> Caller:
        """Returns the caller that the call's token proves, or the proxy as it is. Raises JitError."""
        if rule is not None and rule.proxy:
            self.demand_proxy(caller.origin.method, metadata, peer)
        elif rule is None or not rule.anonymous:
            return with_identity(caller, self._authenticator.identify(_authorization(metadata)))
        return caller

    def identify_in_batch(
        self, method: str, metadata: Metadata, peer: str, identified: dict[tuple[str, ...], Identity]
    ) -> Caller:
        """Returns the caller of a call that is answered in a batch. Raises JitError, and records nothing.

        No key is fetched for it, since all of the batch would wait. `identified` has the identities already found for
        the batch, by their authorization headers.
        """
        rule = RULES.get(method)
        if rule is None or rule.public or rule.anonymous or rule.proxy:
            raise AssertionError(f"{method} is not for callers who prove who they are")
        authorization = _authorization(metadata)
        if (identity := identified.get(authorization)) is None:
            identity = identified[authorization] = self._authenticator.identify_at_once(authorization)
        return with_identity(self.unauthenticated(method, metadata, peer), identity)

    def count(self, rule: Rule | None, caller: Caller, request: Message | MalformedRequest) -> None:
        """Counts a call of an identified caller, a batch by its items. Raises RateExceeded."""
        if rule is None or not (rule.proxy or rule.anonymous):
            self._quota.demand(caller, writes=rule is not None and rule.writes, weight=_count_questions(request))

    def count_in_batch(self, caller: Caller) -> None:
        """Counts a check that is answered in a batch. Raises RateExceeded."""
        self._quota.demand(caller, writes=False)

    def check_in_batch(self, caller: Caller, request: Message, metadata: Metadata) -> None:
        """Raises JitError unless the caller may make the call, and its message is sound."""
        if check_request(RULES.get(caller.origin.method), caller, request, metadata) is not caller:
            raise AssertionError(f"{caller.origin.method} is one that may be sent again")

    def demand_proxy(self, method: str, metadata: Metadata, peer: str) -> None:
        """Raises ProxyRequired unless a trusted proxy asks for a client."""
        key, value = _PROXY_METADATA
        if not self._origins.trusts(peer) or last_value(metadata, key) != value:
            raise ProxyRequired(f"{method} is for trusted proxies, with the metadata {key}: {value}")


def check_request(rule: Rule | None, caller: Caller, request: Message | MalformedRequest, metadata: Metadata) -> Caller:
    """Returns the caller with the request's id and digest. Raises JitError unless it may make this sound call."""
    method = caller.origin.method
    demand(rule, caller, request)
    caller = _with_request_id(caller, request)
    if isinstance(request, MalformedRequest):
        raise MalformedMessage(f"the request is not the message of {method}")
    if rule is None or not rule.proxy:
        strictness.check_message(request)
    path, names = edge_metadata(metadata)
    if path is not None:
        strictness.check_path(method, path, request)
        strictness.check_json(method, names, request)
    return caller


def edge_metadata(metadata: Metadata) -> tuple[str | None, str | None]:
    """Returns the path of a transcoded call and the names in its JSON; None for what the edge does not send."""
    path = names = None
    for key, value in metadata:
        if key == "x-envoy-original-path":
            path = text(value)
        elif key == "x-jit-json-names":
            names = text(value)
    return path, names


def decode_request(decode: Callable[[bytes], Any], data: bytes) -> Any:
    """Returns the message, or a MalformedRequest, which `check_request` refuses."""
    try:
        return decode(data)
    except (DecodeError, ValueError):
        return MalformedRequest()


def with_identity(caller: Caller, identity: Identity) -> Caller:
    """Returns the caller with the identity that its token proves."""
    return Caller(
        identity.principal,
        identity.groups,
        identity.roles,
        with_token(caller.origin, identity.issuer, identity.issuer_subject, identity.token_id),
        claims=identity.claims,
        proved_until=identity.expires_at,
        exact=identity.exact,
    )


def _count_questions(request: Message | MalformedRequest) -> int:
    """Returns how many calls it counts as: a batch one for each item, and PAST_WEIGHT where it is about the past."""
    if isinstance(request, CheckAccessRequest | SearchAccessRequest) and request.HasField("read_time"):
        return PAST_WEIGHT
    return max(1, len(getattr(request, "items", ())))


def _authorization(metadata: Metadata) -> tuple[str, ...]:
    return tuple([text(value) for key, value in metadata if key == "authorization"])


def _with_request_id(caller: Caller, request: Message | MalformedRequest) -> Caller:
    """Adds what identifies a repeated request: its request_id, and a digest of the whole request."""
    if isinstance(request, MalformedRequest) or not _has_request_id(request.DESCRIPTOR):
        return caller
    request_id = name.request_id(getattr(request, "request_id", ""))
    digest = hashlib.sha256(caller.origin.method.encode() + b"\0" + request.SerializeToString(deterministic=True))
    origin = replace(caller.origin, request_id=request_id)
    return caller._replace(origin=origin, request_digest=digest.hexdigest())


@cache
def _has_request_id(message: Descriptor) -> bool:
    return "request_id" in message.fields_by_name
