"""People, policies and grants that the domain's tests share. Each builder's defaults make one valid, ordinary case.

Grants come about as in the service: judged, requested, reviewed. No test writes a state that no transition leads to,
except where it says that the facts are broken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from jit_service.domain.caller import Caller, Origin, Right, Role
from jit_service.domain.checks.decision import Question
from jit_service.domain.grants import approval, more_time, request, terms
from jit_service.domain.grants import grant as rules
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.more_time import MoreTime
from jit_service.domain.grants.request import Ask
from jit_service.domain.grants.terms import Edits
from jit_service.domain.policies.policy import BreakGlassRule, ExtensionRule, Policy, PrincipalSet, Step

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)

ALICE = "user:alice@example.com"
BOB = "user:bob@example.com"
ERIN = "user:erin@example.com"
CAROL = "user:carol@example.com"
DAVE = "user:dave@example.com"
BOT = "service:build-bot"


def caller(principal: str, *groups: str, roles: Iterable[Role] = ()) -> Caller:
    origin = Origin(method="test", source_address="192.0.2.7", trace_id="7")
    return Caller(principal=principal, groups=frozenset(groups), roles=frozenset(roles), origin=origin)


def alice() -> Caller:
    """May ask."""
    return caller(ALICE, "engineering")


def bob() -> Caller:
    """May ask, and approves the first step."""
    return caller(BOB, "engineering", "owners")


def erin() -> Caller:
    """Approves the first step too."""
    return caller(ERIN, "owners")


def carol() -> Caller:
    """Approves the second step, where there is one."""
    return caller(CAROL, "security")


def dave() -> Caller:
    """Nobody in particular."""
    return caller(DAVE)


def admin() -> Caller:
    return caller("user:admin@example.com", roles=[Role.ADMIN])


def auditor() -> Caller:
    return caller("user:auditor@example.com", roles=[Role.AUDITOR])


def step(*groups: str, principals: tuple[str, ...] = (), needed: int = 1) -> Step:
    return Step(approvers=PrincipalSet(principals=principals, groups=groups), approvals_needed=needed)


def policy(**changes: Any) -> Policy:
    """Engineers may ask for an hour by default and four at most; one owner approves within eight hours."""
    facts: dict[str, Any] = {
        "name": "policies/orders",
        "eligible": PrincipalSet(groups=("engineering",)),
        "resources": ("database/orders/**",),
        "actions": ("read", "rows.*"),
        "max_duration": 4 * HOUR,
        "default_duration": HOUR,
        "request_ttl": 8 * HOUR,
        "steps": (step("owners"),),
        "revision": 3,
    }
    return Policy(**(facts | changes))


def deny_policy(**changes: Any) -> Policy:
    """Forbids databases to contractors."""
    facts: dict[str, Any] = {
        "name": "policies/no-contractors",
        "eligible": PrincipalSet(groups=("contractors",)),
        "resources": ("database/**",),
        "actions": ("**",),
        "deny": True,
        "revision": 4,
    }
    return Policy(**(facts | changes))


def ask(**changes: Any) -> Ask:
    facts: dict[str, Any] = {"subject": ALICE, "resources": ("database/orders/eu",), "actions": ("read",)}
    return Ask(**(facts | changes))


def pending(under: Policy | None = None, *, by: Caller | None = None, at: datetime = NOON, **asked: Any) -> Grant:
    """A request under a policy; approved at once where the policy has no steps."""
    by = by or alice()
    wanted = ask(**({"subject": by.principal} | asked))
    judged = request.judge_request(wanted, policies=[under or policy()], by=by, grant_name="grants/g7", now=at)
    return approval.open_request(judged, by=by, now=at)[0]


def approved(*, at: datetime = NOON, ttl: timedelta = HOUR, **asked: Any) -> Grant:
    """A request that bob approved in the same instant: ACTIVE, or SCHEDULED for a later `start_at`."""
    return approve(pending(at=at, duration=ttl, **asked), at=at)


def approve(
    grant: Grant, *, by: Caller | None = None, under: Policy | None = None, at: datetime = NOON, comment: str = ""
) -> Grant:
    return approval.approve(grant, policy=under or policy(), by=by or bob(), comment=comment, now=at)[0]


def deny(grant: Grant, *, by: Caller | None = None, at: datetime = NOON) -> Grant:
    return approval.deny(grant, policy=policy(), by=by or bob(), comment="no", now=at)[0]


def withdraw(grant: Grant, *, by: Caller | None = None, at: datetime = NOON) -> Grant:
    return approval.withdraw(grant, by=by or alice(), comment="", now=at)[0]


def release(grant: Grant, *, by: Caller | None = None, at: datetime = NOON) -> Grant:
    return rules.release(grant, by=by or alice(), comment="", now=at)[0]


def revoke(grant: Grant, *, by: Caller | None = None, at: datetime = NOON, comment: str = "over") -> Grant:
    return approval.revoke(grant, policy=policy(), by=by or bob(), comment=comment, now=at)[0]


def in_place_of(by: Caller, *holders: Caller, policies: Iterable[str] = ()) -> Caller:
    """The caller with the rights to review that the holders have put into its hands, the newest last."""
    rights = tuple(
        Right(
            holder=holder.principal,
            groups=holder.groups,
            delegation=f"delegations/d{index}",
            policies=frozenset(policies),
        )
        for index, holder in enumerate(holders)
    )
    return by._replace(delegated=rights)


def edited(
    grant: Grant, *, by: Caller | None = None, under: Policy | None = None, at: datetime = NOON, **edits: Any
) -> Grant:
    """An approval with other terms."""
    given = terms.apply_edits(grant, Edits(**edits), policy=under or policy(), now=at)
    changed = terms.changed_terms(grant, given)
    return approval.approve(given, policy=under or policy(), by=by or bob(), comment="", now=at, given=changed)[0]


def countered(
    grant: Grant, *, by: Caller | None = None, under: Policy | None = None, at: datetime = NOON, **edits: Any
) -> Grant:
    return approval.counter(grant, Edits(**edits), policy=under or policy(), by=by or bob(), comment="", now=at)[0]


def accepted(
    grant: Grant,
    *,
    by: Caller | None = None,
    under: Policy | None = None,
    at: datetime = NOON,
    delegations: Collection[str] = (),
) -> Grant:
    by, under = by or alice(), under or policy()
    taken = approval.with_offered_terms(grant, by=by, now=at)
    return approval.accept(taken, policy=under, by=by, comment="", now=at, delegations=delegations)[0]


def extending(*, max_extensions: int = 2, most: timedelta = 4 * HOUR, **changes: Any) -> Policy:
    """The ordinary policy, under which grants may get more time."""
    return policy(extension=ExtensionRule(max_extensions=max_extensions, max_total_duration=most), **changes)


def extension(
    grant: Grant, more: timedelta = HOUR, *, by: Caller | None = None, under: Policy | None = None, at: datetime = NOON
) -> Grant:
    """A request for more time; given at once where the policy has no steps."""
    by, under = by or alice(), under or extending()
    wanted = more_time.with_extension(grant, MoreTime(duration=more), policy=under, by=by, now=at)
    judged = request.judge_extension(wanted, policy=under, policies=[under], now=at)
    return approval.open_extension(judged, policy=under, by=by, now=at)[0]


def breakable(**changes: Any) -> Policy:
    """The ordinary policy, whose glass the on-call group may break for two hours, reviewed within a day."""
    facts: dict[str, Any] = {
        "break_glass": BreakGlassRule(
            eligible=PrincipalSet(groups=("on-call",)), max_duration=2 * HOUR, review_within=24 * HOUR
        )
    }
    return policy(**(facts | changes))


def named(grant: Grant, name: str) -> Grant:
    return replace(grant, name=name)


def question(**changes: Any) -> Question:
    facts: dict[str, Any] = {"subject": ALICE, "action": "read", "resource": "database/orders/eu"}
    return Question(**(facts | changes))
