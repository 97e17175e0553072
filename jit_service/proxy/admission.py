"""The use case of a proxy that asks whether a request may pass: on the word of an identity token, or of a grant's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from jit_service.check import questions
from jit_service.check.checker import Checker
from jit_service.check.questions import RefusedItem
from jit_service.check.recording import CheckResult
from jit_service.domain.audit.refusal import About
from jit_service.domain.caller import Caller
from jit_service.domain.checks.http_request import HttpRequest, Route, Stream, lasting
from jit_service.domain.errors import JitError, TokenInvalid, TokenNotCovering
from jit_service.storage import Store
from jit_service.use_cases import tokens
from jit_service.use_cases.signing_keys import Issuing
from jitaccess.jose.refusal import TokenRefused
from jitaccess.jose.tokens import GrantToken


@dataclass(frozen=True, kw_only=True)
class Admission:
    """An answer. For a yes alone: `ends_at` is when the access is over, `lasts` how long `stream` may run."""

    checked: CheckResult
    ends_at: datetime | None = None
    lasts: timedelta = timedelta()
    stream: Stream | None = None


def grant_token_caller(
    store: Store, issuing: Issuing, caller: Caller, token: str, *, audience: str
) -> tuple[Caller, GrantToken]:
    """Returns whom the grant's token proves, with what it says.

    Raises TokenInvalid, Locked, KeysUnavailable, StoreUnavailable.
    """
    try:
        held = tokens.verify_grant_token(store, issuing, token, audience=audience)
    except TokenRefused as fault:
        raise TokenInvalid(str(fault), why=str(fault.reason)) from None
    return caller._replace(principal=held.subject, proved_until=held.expire_time), held


def admit(checker: Checker, caller: Caller, request: HttpRequest, route: Route, held: GrantToken | None) -> Admission:
    """Answers whether the caller's request may pass, and records the answer with the endpoint.

    With a grant's token both must allow it, the token and what is live now. Raises InvalidField for a request that has
    no names, which is recorded too; RouteMisconfigured, StoreUnavailable.
    """
    told = {"endpoint": request.endpoint()} | ({"token_id": held.token_id} if held is not None else {})
    try:
        resource, action = request.resource(route), request.action(route)
        if held is not None and not held.covers(action, resource):
            raise TokenNotCovering(f"the token's {held.grant} does not let {held.subject} {action} on {resource}")
        asked = questions.question(
            caller, subject=caller.principal, action=action, resource=resource, asserted=dict(told)
        )
    except JitError as refusal:
        about = About(subject=caller.principal, context=dict(told))
        checker.check_many(caller, [RefusedItem(error=refusal, about=about)])
        raise
    if held is not None:
        # A grant's token proves who holds it, and no groups.
        asked = asked._replace(groups=None, groups_left_out=False)
    checked = checker.check(caller, asked)
    grant = checked.decision.grant
    if not checked.decision.allowed or grant is None or grant.expires_at is None:
        return Admission(checked=checked)
    ends_at = grant.expires_at if held is None else min(grant.expires_at, held.expire_time)
    lasts = lasting(now=checked.at, ends_at=ends_at, proved_until=caller.proved_until, at_most=route.max_stream)
    stream = Stream(
        asked=asked,
        grant=grant.name,
        ends_at=checked.at + lasts,
        revision=checked.revision,
        token_id=caller.token_id,
    )
    return Admission(checked=checked, ends_at=ends_at, lasts=lasts, stream=stream)
