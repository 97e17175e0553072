"""Asking for what was denied over AuthZEN: the denial's binding, the request, and what an approval is worth later.

Access Request and Approval Profile 1.0, draft 1 of 2026-06-03; experimental. A task is a grant from its request on, and
an approval is the same grant: whether it allows anything is for Check alone to say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from jit_service.check.recording import CheckResult
from jit_service.domain.bounds import Bounds
from jit_service.domain.caller import Caller
from jit_service.domain.checks.decision import Reason, covers
from jit_service.domain.errors import DenialNotBound, DenialOver, InvalidField, TokensOff
from jit_service.domain.grants.grant import Grant, GrantState
from jit_service.domain.grants.request import Ask
from jit_service.domain.language import name
from jit_service.storage import Snapshot, Store
from jit_service.use_cases import grants, signing_keys
from jit_service.use_cases.grants import GrantAnswer
from jit_service.use_cases.signing_keys import Issuing
from jitaccess.jose import jws
from jitaccess.jose.jws import BadToken
from jitaccess.jose.keys import GivenKeys
from jitaccess.naming.json_numbers import with_whole_numbers

BINDING_TYPE: Final = "jit-denial+jwt"
BINDING_LIFETIME: Final = timedelta(minutes=10)
"""How long after a denial it can be requested."""
_SIDES: Final = ("subject", "resource", "action")
# States of an approval's grant that does not allow the evaluation.
_OVER: Final = (GrantState.EXPIRED, GrantState.REVOKED, GrantState.RELEASED)
_WAITS: Final = (GrantState.PENDING, GrantState.SCHEDULED)
_MAX_PAUSE: Final = 60


@dataclass(frozen=True, kw_only=True)
class DeniedEvaluation:
    """A denied evaluation in AuthZEN's own objects; `context` has the members that its binding covers."""

    subject: Mapping[str, Any]
    resource: Mapping[str, Any]
    action: Mapping[str, Any]
    context: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RequestHint:
    """How to request what was denied: until when, and the token that proves the denial."""

    expires_at: datetime
    binding_token: str


@dataclass(frozen=True, kw_only=True)
class ApprovalStatus:
    """How an approval counted in an evaluation. Without a reason the evaluation was allowed; `pause` is in seconds."""

    approved_until: datetime | None = None
    reason: str = ""
    next_action: str = ""
    pause: int = 0


class AccessRequests:
    """Requests for what an AuthZEN evaluation denied. Without `issuing` no denial can be signed."""

    def __init__(self, store: Store, issuing: Issuing | None, bounds: Bounds) -> None:
        self._bounds = bounds
        self._store = store
        self._issuing = issuing

    @property
    def is_on(self) -> bool:
        """Whether denials can be asked about at all."""
        return self._issuing is not None

    def hint(self, denied: DeniedEvaluation, checked: CheckResult) -> RequestHint | None:
        """Returns how to ask about a denial; None where no policy covers it, or it says too much to be carried."""
        if self._issuing is None or checked.decision.allowed or not checked.requestable:
            return None
        expires_at = checked.at.replace(microsecond=0) + BINDING_LIFETIME
        with self._store.snapshot() as snapshot:
            key = signing_keys.signing_key(snapshot)
        claims = {
            "iss": self._issuing.issuer,
            "aud": self._audience,
            "iat": int(checked.at.timestamp()),
            "exp": int(expires_at.timestamp()),
            "jti": checked.decision_id,
            "evaluation_id": checked.decision_id,
            "binding_context_members": sorted(denied.context),
            **{side: getattr(denied, side) for side in _SIDES},
            "context": denied.context,
        }
        token = self._issuing.ring.sign(key, claims, typ=BINDING_TYPE)
        return RequestHint(expires_at=expires_at, binding_token=token) if len(token) <= jws.MAX_TOKEN else None

    def ask(
        self, caller: Caller, denied: DeniedEvaluation, ask: Ask, *, token: str, until: datetime | None
    ) -> GrantAnswer:
        """Asks for what was denied, or answers what already covers it; the same `request_id` has the same answer.

        `until` is when the access shall end. Raises DenialNotBound, DenialOver, and what `grants.ensure` raises.
        """
        with self._store.snapshot() as snapshot:
            self._demand_bound(snapshot, denied, token)
            now = snapshot.now
        if until is not None:
            if until <= now:
                raise InvalidField("requested_access.requested_until", "is over already")
            ask = _with_duration(ask, until - now)
        return grants.ensure(self._store, caller, ask, bounds=self._bounds)

    def get(self, caller: Caller, task: str) -> GrantAnswer:
        """Answers the task's grant. Raises NotVisible, GrantNotFound."""
        return grants.get(self._store, caller, _grant(task))

    def cancel(self, caller: Caller, task: str, *, comment: str) -> GrantAnswer:
        """Takes the request back. Raises what `grants.withdraw` raises."""
        return grants.withdraw(self._store, caller, _grant(task), comment=comment, etag="")

    def approval_status(self, approval_id: str, checked: CheckResult) -> ApprovalStatus:
        """Returns how an approval counted in the decision. The decision does not read it: the grant itself decides."""
        with self._store.snapshot() as snapshot:
            grant = _find_grant(snapshot, approval_id)
        if grant is None or grant.subject != checked.question.subject:
            return ApprovalStatus(reason="approval_unverifiable", next_action="none")
        if checked.decision.allowed:
            rests_on = checked.decision.grant
            return ApprovalStatus(approved_until=rests_on.expires_at if rests_on is not None else None)
        state = grant.state(checked.at)
        if state in _OVER:
            return ApprovalStatus(reason="approval_expired", next_action="request")
        if not covers(grant, checked.question):
            return ApprovalStatus(reason="out_of_scope", next_action="request")
        if state in _WAITS:
            starts_in = (grant.starts_at or checked.at) - checked.at
            pause = min(max(int(starts_in.total_seconds()), 1), _MAX_PAUSE)
            return ApprovalStatus(reason="grant_pending", next_action="retry", pause=pause)
        is_used_up = checked.decision.reason is Reason.USES_EXHAUSTED
        return ApprovalStatus(
            reason="approval_expired" if is_used_up else "policy_denied",
            next_action="request" if is_used_up else "none",
        )

    @property
    def _audience(self) -> str:
        return f"{self._required.issuer}/access/v1/requests"

    @property
    def _required(self) -> Issuing:
        if self._issuing is None:
            raise TokensOff("nothing can be asked for over AuthZEN: no token_issuer is set")
        return self._issuing

    def _demand_bound(self, snapshot: Snapshot, denied: DeniedEvaluation, token: str) -> None:
        claims = self._claims(snapshot, token)
        members = claims["binding_context_members"]
        context = {member: denied.context[member] for member in members if member in denied.context}
        given = {side: getattr(denied, side) for side in _SIDES} | {"context": context}
        if _same({side: claims.get(side) for side in given}) != _same(given):
            raise DenialNotBound("the denial is of another subject, resource, action or context than what is asked for")
        ends_at = datetime.fromtimestamp(jws.instant(claims, "exp"), UTC)
        if snapshot.now >= ends_at:
            raise DenialOver(f"the denial could be asked about until {ends_at.isoformat()}; evaluate again")

    def _claims(self, snapshot: Snapshot, token: str) -> dict[str, Any]:
        """Returns what the binding token says, whenever it was signed. Raises DenialNotBound."""
        issuing = self._required
        keys = GivenKeys({"keys": [issuing.ring.public(key) for key in snapshot.signing_keys()]})
        try:
            header, claims = jws.decoded(token)
            if header.get("alg") != "ES256" or header.get("typ") != BINDING_TYPE or "crit" in header or "b64" in header:
                raise BadToken("not a binding token")
            kid = header.get("kid")
            key = keys.key(kid) if isinstance(kid, str) else None
            if key is None:
                raise BadToken("signed by no key of this service")
            jws.check_signature(token, key, "ES256")
            jws.instant(claims, "exp")
        except BadToken:
            raise DenialNotBound("denial.binding_token is not one that this service gave") from None
        if (claims.get("iss"), claims.get("aud")) != (issuing.issuer, self._audience):
            raise DenialNotBound("denial.binding_token is not for this service")
        return claims


def _find_grant(snapshot: Snapshot, approval_id: str) -> Grant | None:
    try:
        return snapshot.grant(_grant(approval_id))
    except InvalidField:
        return None


def _grant(task: str) -> str:
    return name.grant_name(f"grants/{task}", "id")


def _with_duration(ask: Ask, duration: timedelta) -> Ask:
    return replace(ask, duration=timedelta(seconds=int(duration.total_seconds())))


def _same(value: Mapping[str, Any]) -> str:
    """Returns the text by which two JSON values are the same: `1` and `1.0` are, `1` and `true` are not."""
    return json.dumps(with_whole_numbers(dict(value)), sort_keys=True)
