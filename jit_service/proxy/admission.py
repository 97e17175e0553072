"""The use case of a proxy: decides whether an HTTP request may pass, by an identity token or by a grant's token."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from jit_service.check import questions
from jit_service.check.checker import Checker
from jit_service.check.questions import RefusedItem
from jit_service.check.recording import CheckResult
from jit_service.domain.audit.refusal import About
from jit_service.domain.caller import Caller
from jit_service.domain.checks.http_request import HttpRequest, Route, Stream, stream_end
from jit_service.domain.errors import JitError, TokenInvalid, TokenNotCovering
from jit_service.storage import Store
from jit_service.use_cases import tokens
from jit_service.use_cases.signing_keys import Issuing
from jitaccess.jose.refusal import TokenRefused
from jitaccess.jose.tokens import GrantToken


@dataclass(frozen=True, kw_only=True)
class Admission:
    """The answer to a proxy. Only a yes has `ends_at`, when the access ends, and `lasts`, how long `stream` may run."""

    checked: CheckResult
    ends_at: datetime | None = None
    lasts: timedelta = timedelta()
    stream: Stream | None = None


def grant_token_caller(
    store: Store, issuing: Issuing, caller: Caller, token: str, *, audience: str
) -> tuple[Caller, GrantToken]:
    """Returns the caller that the grant's token proves, and the verified token.

    Raises TokenInvalid, Locked, KeysUnavailable, StoreUnavailable.
    """
    try:
        held = tokens.verify_grant_token(store, issuing, token, audience=audience)
    except TokenRefused as fault:
        raise TokenInvalid(str(fault), why=str(fault.reason)) from None
    return caller._replace(principal=held.subject, proved_until=held.expire_time), held


def admit(checker: Checker, caller: Caller, request: HttpRequest, route: Route, held: GrantToken | None) -> Admission:
    """Decides whether the caller's request may pass, and records the answer with the endpoint.

    A request with a grant's token needs both the token and a live grant to allow it. Raises InvalidField for a request
    that maps to no resource or action, which is recorded too; RouteMisconfigured, StoreUnavailable.
    """
    asserted = {"endpoint": request.endpoint()} | ({"token_id": held.token_id} if held is not None else {})
    try:
        resource, action = request.resource(route), request.action(route)
        if held is not None and not held.covers(action, resource):
            raise TokenNotCovering(f"the token's {held.grant} does not let {held.subject} {action} on {resource}")
        asked = questions.question(
            caller, subject=caller.principal, action=action, resource=resource, asserted=dict(asserted)
        )
    except JitError as refusal:
        about = About(subject=caller.principal, context=dict(asserted))
        checker.check_many(caller, [RefusedItem(error=refusal, about=about)])
        raise
    if held is not None:
        # A grant's token proves its subject, but no groups.
        asked = asked._replace(groups=None, groups_left_out=False)
    checked = checker.check(caller, asked)
    grant = checked.decision.grant
    if not checked.decision.allowed or grant is None or grant.expires_at is None:
        return Admission(checked=checked)
    ends_at = grant.expires_at if held is None else min(grant.expires_at, held.expire_time)
    stream_ends_at, ends_by = stream_end(
        now=checked.at, ends_at=grant.expires_at, proved_until=caller.proved_until, at_most=route.max_stream
    )
    stream = Stream(
        asked=asked,
        grant=grant.name,
        ends_at=stream_ends_at,
        ends_by=ends_by,
        revision=checked.revision,
        token_id=caller.token_id,
    )
    return Admission(checked=checked, ends_at=ends_at, lasts=stream_ends_at - checked.at, stream=stream)
