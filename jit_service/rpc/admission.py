"""Admits calls, on both transports, by one order of steps: identify the caller, count the call, check the request.

A step that fails raises a JitError, and the call goes no further.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from jit_service.domain.caller import Caller
from jit_service.domain.errors import CertificateMismatch, MalformedMessage, ProxyRequired, TokenMissing
from jit_service.domain.frozen import replace
from jit_service.domain.language import name
from jit_service.rpc import strictness
from jit_service.rpc.authentication import Authenticator
from jit_service.rpc.authorization import RULES, Rule, demand
from jit_service.rpc.client_certificates import NOTHING_SHOWN, ClientCertificates, Shown, shown_by
from jit_service.rpc.identity import Identity
from jit_service.rpc.origins import Metadata, Origins, is_passed_on, last_value, text, with_proof
from jit_service.rpc.quota import Quota
from jitaccess.v1.access_pb2 import CheckAccessRequest, SearchAccessRequest

PAST_WEIGHT: Final = 100
"""How many checks a question about the past counts as, since it is answered by reading the store."""
# A proxy sends this when it asks for a client. The edge strips x-jit-* from what clients send, so a client cannot send
# it through Envoy (envoy/envoy.yaml).
_PROXY_METADATA: Final = ("x-jit-proxy", "ext-authz")


Proof = tuple[str, ...]
"""The authorization headers of a call."""


class Call(NamedTuple):
    """A unary call as it came, with the client certificate of its connection."""

    payload: bytes
    metadata: Metadata
    peer: str
    shown: Shown = NOTHING_SHOWN


class MalformedRequest:
    """A request whose bytes do not decode to its message."""


class Admission:
    """The admission of calls at one address. `trusted_proxies` are the peers that may name their client's address.

    Without `certificates`, no client certificate proves a caller.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        quota: Quota,
        trusted_proxies: Sequence[str],
        certificates: ClientCertificates | None = None,
        *,
        stored_claims: frozenset[str] | None = None,
    ) -> None:
        self._stored_claims = stored_claims
        self._certificates = certificates
        self._authenticator = authenticator
        self._quota = quota
        self._origins = Origins(trusted_proxies)

    def unauthenticated(self, method: str, metadata: Metadata, peer: str) -> Caller:
        """Returns the caller before it is identified: where the call comes from, and nothing that a token proves."""
        return Caller(principal="", origin=self._origins.of(method, metadata, peer), stored_claims=self._stored_claims)

    def shown(self, context: grpc.ServicerContext) -> Shown:
        """Returns the client certificate of the call's connection, nothing where none could prove a caller."""
        return NOTHING_SHOWN if self._certificates is None else shown_by(context)

    def identify(
        self, rule: Rule | None, caller: Caller, metadata: Metadata, peer: str, shown: Shown = NOTHING_SHOWN
    ) -> Caller:
        """Returns the caller that its token or certificate proves, or the proxy as it is. Raises JitError."""
        if rule is not None and rule.proxy:
            self.demand_proxy(caller.origin.method, metadata, peer)
        elif rule is None or not rule.anonymous:
            identified = self._identity(self._authenticator.identify, metadata, peer, shown)
            return with_identity(caller, identified)
        return caller

    def identify_in_batch(self, method: str, call: Call, identified: dict[Proof, Identity]) -> Caller:
        """Returns the caller of a call that is answered in a batch. Raises JitError, and records nothing.

        No key is fetched for it, since all of the batch would wait. `identified` has the identities already found for
        the batch, by what proves them.
        """
        rule = RULES.get(method)
        if rule is None or rule.public or rule.anonymous or rule.proxy:
            raise AssertionError(f"{method} is not for callers who prove who they are")
        _, metadata, peer, shown = call
        caller = self.unauthenticated(method, metadata, peer)
        if shown.leaf:
            # Whether a certificate counts depends on the peer and on all of the metadata, so it is looked at each time.
            return with_identity(caller, self._identity(self._authenticator.identify_at_once, metadata, peer, shown))
        authorization = _authorization(metadata)
        if (identity := identified.get(authorization)) is None:
            identity = identified[authorization] = self._authenticator.identify_at_once(authorization)
        return with_identity(caller, identity)

    def _identity(
        self, identify: Callable[[Sequence[str]], Identity], metadata: Metadata, peer: str, shown: Shown
    ) -> Identity:
        """Returns whom token and certificate prove together (docs/adr/0061-tls-at-the-service.md). Raises JitError.

        The certificate of a connection by which others' calls are passed on is the proxy's, and proves no caller.
        """
        authorization = _authorization(metadata)
        if self._certificates is None or not shown.leaf or self._origins.trusts(peer) or is_passed_on(metadata):
            return identify(authorization)
        proved = self._certificates.identity(shown)
        if proved is None:
            if not authorization:
                raise TokenMissing(
                    "no token; send `authorization: Bearer TOKEN`, or a client certificate listed in JIT_TLS_PRINCIPALS"
                )
            return identify(authorization)
        if not authorization:
            return proved
        identity = identify(authorization)
        if identity.principal != proved.principal:
            raise CertificateMismatch(
                f"the token proves {identity.principal}, but the client certificate {proved.certificate} is of "
                f"{proved.principal}; send a token of its own, or none"
            )
        return dataclasses.replace(
            identity,
            expires_at=min(identity.expires_at, proved.expires_at),
            certificate=proved.certificate,
            certificate_sha256=proved.certificate_sha256,
        )

    def count(self, rule: Rule | None, caller: Caller, request: Message | MalformedRequest) -> None:
        """Counts a call of an identified caller, a batch by its items. Raises RateExceeded."""
        if rule is None or not (rule.proxy or rule.anonymous):
            self._quota.demand(caller, writes=rule is not None and rule.writes, weight=_count_questions(request))

    def is_bounded_in_batch(self, caller: Caller) -> bool:
        """Returns whether the caller's checks that are answered in a batch must be counted."""
        return self._quota.is_bounded(caller, writes=False)

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
    """Returns the caller with the identity that was proved."""
    return Caller(
        identity.principal,
        identity.groups,
        identity.roles,
        with_proof(
            caller.origin,
            issuer=identity.issuer,
            issuer_subject=identity.issuer_subject,
            token_id=identity.token_id,
            client_certificate=identity.certificate,
            client_certificate_sha256=identity.certificate_sha256,
        ),
        claims=identity.claims,
        proved_until=identity.expires_at,
        exact=identity.exact,
        stored_claims=caller.stored_claims,
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
