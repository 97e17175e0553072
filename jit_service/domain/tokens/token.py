"""Tokens of grants: who may have one, what it says, and until when.

Whoever verifies a token does not ask the service, so it is issued only for what needs no asking: an active grant with
no condition, no count of uses and no end that its use moves, of which no deny policy forbids any part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import DeniedByPolicy, InvalidField, NotYours, TokenNotPossible
from jit_service.domain.grants.grant import Grant, GrantState, demand_state, event
from jit_service.domain.grants.lock import NO_LOCKS, Locks, demand_unlocked
from jit_service.domain.policies.policy import Policy
from jitaccess.naming.pattern import overlap

MAX_AUDIENCES: Final = 8
_AUDIENCE: Final = re.compile(r"[\x21-\x7e]{1,256}")
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class TokenRequest:
    """What is asked for. No audience: the service's own gateway. No ttl: as long as may be."""

    audience: tuple[str, ...] = ()
    ttl: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class Token:
    """What a token says. Instants are whole seconds; it is over when now >= expires_at."""

    id: str
    issuer: str
    audience: tuple[str, ...]
    subject: str
    client_id: str
    issued_at: datetime
    expires_at: datetime
    grant: str
    policy: str
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    chain: tuple[str, ...]


def normalize(wanted: TokenRequest, *, cap: timedelta) -> TokenRequest:
    """Returns what is asked for, or raises InvalidField where no grant could have that."""
    if len(wanted.audience) > MAX_AUDIENCES:
        raise InvalidField("audience", f"has {len(wanted.audience)} entries; at most {MAX_AUDIENCES} are allowed")
    for index, audience in enumerate(wanted.audience):
        if not _AUDIENCE.fullmatch(audience):
            raise InvalidField(f"audience[{index}]", "must be 1 to 256 printable ASCII characters without spaces")
    if len(set(wanted.audience)) < len(wanted.audience):
        raise InvalidField("audience", "has the same entry twice")
    if wanted.ttl is not None and (wanted.ttl < _SECOND or wanted.ttl > cap or wanted.ttl % _SECOND):
        raise InvalidField("ttl", f"is {_seconds(wanted.ttl)}; whole seconds from 1s to {_seconds(cap)} are allowed")
    return wanted


def issue(
    grant: Grant,
    wanted: TokenRequest,
    *,
    above: Mapping[str, Grant],
    policies: Sequence[Policy],
    by: Caller,
    issuer: str,
    token_id: str,
    cap: timedelta,
    now: datetime,
    locks: Locks = NO_LOCKS,
) -> tuple[Token, Event]:
    """Returns a token of the caller's own grant, with its event.

    It ends with the grant and with what that was passed on from at the latest, and after `cap`. Raises NotYours,
    WrongState, TokenNotPossible, DeniedByPolicy, Locked, InvalidField.
    """
    demand_holder(grant, by)
    demand_carriable(grant, above=above, policies=policies, holder=by, now=now, locks=locks)
    ends = min(_sure(held.expires_at) for held in (grant, *above.values()))
    if wanted.ttl is not None and now + wanted.ttl > ends:
        raise InvalidField("ttl", f"is {_seconds(wanted.ttl)}; {grant.name} lasts {_seconds(ends - now)} more")
    expires = _whole(min(ends, now + (wanted.ttl or cap)))
    if expires <= now:
        raise TokenNotPossible(f"{grant.name} ends in less than a second", grant=grant.name)
    token = Token(
        id=token_id,
        issuer=issuer,
        audience=wanted.audience or (issuer,),
        subject=grant.subject,
        client_id=_client_id(by),
        issued_at=_whole(now),
        expires_at=expires,
        grant=grant.name,
        policy=grant.policy,
        resources=grant.resources,
        actions=grant.actions,
        chain=grant.chain,
    )
    return token, _issue_event(token, grant, by=by, now=now)


def demand_holder(grant: Grant, by: Caller) -> None:
    """Raises NotYours unless the caller holds the grant: a token of it proves its bearer's access."""
    if by.principal != grant.subject:
        raise NotYours(f"{grant.name} is held by {grant.subject}, not by {by.principal}", grant=grant.name)


def demand_carriable(
    grant: Grant,
    *,
    above: Mapping[str, Grant],
    policies: Sequence[Policy],
    now: datetime,
    holder: Caller | None = None,
    locks: Locks = NO_LOCKS,
) -> None:
    """Raises unless the grant allows all that it names at `now`, whatever else is so.

    `above` must hold every grant it was passed on from. `holder` is its holder, where that has just proved who it is.
    Raises WrongState, TokenNotPossible, DeniedByPolicy, Locked.
    """
    for name in grant.chain:
        if name not in above:
            raise TokenNotPossible(f"{grant.name} came from {name}, which is gone", grant=grant.name)
    for held in (grant, *above.values()):
        demand_state(held, now, GrantState.ACTIVE)
        _demand_unconditional(grant, held)
        known = _known_groups(held, holder if held is grant else None)
        demand_unlocked(locks, held.subject, known)
        _demand_undenied(grant, held, policies, known)


def demand_may_revoke(token_id: str, *, subject: str, by: Caller) -> None:
    """Raises NotYours unless the caller is the token's subject, an admin or a responder."""
    if by.principal != subject and not by.has(Role.ADMIN, Role.RESPONDER):
        raise NotYours(
            f"token {token_id} is {subject}'s, not {by.principal}'s; an admin or responder may revoke it too"
        )


def revocation_event(token_id: str, *, grant: str, subject: str, by: Caller, now: datetime) -> Event:
    """Returns the event of a token that is revoked. Raises NotYours."""
    demand_may_revoke(token_id, subject=subject, by=by)
    return Event(
        type=EventType.TOKEN_REVOKED,
        at=now,
        principal=by.principal,
        origin=by.origin,
        subject=subject,
        decision="REVOKED",
        grant=grant,
        token_id=token_id,
    )


def _demand_unconditional(grant: Grant, held: Grant) -> None:
    limits = held.limits
    if limits.max_uses or limits.idle_timeout or limits.activation_window:
        fault = f"{held.name} ends by how it is used (max_uses, idle_timeout or activation_window)"
    elif held.check_condition:
        fault = f"the check_condition of {held.name} is asked at every check"
    else:
        return
    raise TokenNotPossible(f"no token can carry {grant.name}: {fault}; use CheckAccess", grant=grant.name)


def _known_groups(held: Grant, holder: Caller | None) -> frozenset[str] | None:
    """Groups that the grant does not know stay unknown, as for whoever asks about its holder: what is issued must
    count."""
    known = held.subject_groups
    if holder is None or known is None:
        return known
    return None if holder.groups is None else known | holder.groups


def _demand_undenied(grant: Grant, held: Grant, policies: Sequence[Policy], groups: frozenset[str] | None) -> None:
    """A deny that reaches into any part of the grant: whoever verifies the token does not know of it."""
    for policy in policies:
        if _denies_part(policy, grant, subject=held.subject, groups=groups):
            raise DeniedByPolicy(
                f"{policy.name} denies {held.subject} a part of what {grant.name} gives, and a token cannot say which",
                policy=policy.name,
                grant=grant.name,
            )


def _denies_part(policy: Policy, grant: Grant, *, subject: str, groups: frozenset[str] | None) -> bool:
    if not (policy.deny and policy.in_force):
        return False
    reaches = any(overlap(deny, given, "/") for deny in policy.resources for given in grant.resources) and any(
        overlap(deny, given, ".") for deny in policy.actions for given in grant.actions
    )
    if not reaches:
        return False
    return policy.eligible.forbids(subject, groups)


def _issue_event(token: Token, grant: Grant, *, by: Caller, now: datetime) -> Event:
    told = event(EventType.TOKEN_ISSUED, grant, by=by, now=now, message=f"for {' '.join(token.audience)}")
    lasts = token.expires_at - token.issued_at
    return replace(told, decision="ISSUED", duration=lasts, held=None, token_id=token.id)


def _client_id(by: Caller) -> str:
    """RFC 9068 demands one: what the caller's own token names, else the caller."""
    for claim in ("client_id", "azp"):
        value = by.claims.get(claim)
        if isinstance(value, str) and _AUDIENCE.fullmatch(value):
            return value
    return by.principal


def _whole(instant: datetime) -> datetime:
    return instant.replace(microsecond=0)


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():g}s"


def _sure(instant: datetime | None) -> datetime:
    if instant is None:
        raise AssertionError("an active grant without its end")
    return instant
