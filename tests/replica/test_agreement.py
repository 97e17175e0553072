"""A replica says yes only where the service's own decision does, and no only where it does not.

Grants, deny policies and questions are drawn from few names, so that they meet; each grant goes through the service's
messages.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from jit_service.domain.checks.decision import Question, decide
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.errors import InvalidField
from jit_service.domain.grants.grant import End, Grant, GrantState, Justification, Limits, Usage
from jit_service.domain.grants.lock import Lock, Locks, Target
from jit_service.domain.language import name
from jit_service.domain.policies.policy import Policy, PrincipalSet
from jitaccess.contract.model import CheckReason
from jitaccess.replica.decision import LocalReason, is_plain
from tests.domain.factories import ALICE, BOB, NOON, TICK
from tests.examples import examples
from tests.replica.feeding import GATEWAY, SECOND, answer, current, fed

SUBJECTS = (ALICE, BOB, GATEWAY.principal)
GROUPS = ("engineering", "contractors")
RESOURCES = ("database/orders/eu", "database/orders", "http/orders/eu")
ODD = ("database/orders/..", "database//eu", "database/orders/*", "database/orders/e\u0301", "Database/orders/eu", "")
PATTERNS = (
    *("database/**", "database/*/eu", "database/orders/*", "**", "database/orders/**"),
    *("database/ord*", "database/ord*/eu", "database/orders/e*", "data*/**"),
)
ACTIONS = ("read", "rows.read")
ACTION_PATTERNS = ("rows.*", "**", "*", "re*", "rows.re*")

groups = st.frozensets(st.sampled_from(GROUPS))
STARTS = (timedelta(hours=-1), timedelta(hours=-1), timedelta(hours=-1), timedelta(), TICK, timedelta(seconds=2))
ENDS = (timedelta(hours=1), timedelta(hours=1), timedelta(seconds=2), TICK, timedelta(), -TICK)
patterns = st.lists(st.sampled_from(RESOURCES + PATTERNS), min_size=1, max_size=2, unique=True).map(tuple)
action_patterns = st.lists(st.sampled_from(ACTIONS + ACTION_PATTERNS), min_size=1, max_size=2, unique=True).map(tuple)
ends = st.sampled_from([GrantState.REVOKED, GrantState.RELEASED]).map(
    lambda state: End(state=state, at=NOON - TICK, by=BOB, comment="")
)


@st.composite
def grants(draw: st.DrawFn, index: int) -> Grant:
    """A grant whose facts may be anything that a grant's can be; most are plain and live."""
    subject = draw(st.sampled_from(SUBJECTS[:1] * 6 + SUBJECTS))
    start = NOON + draw(st.sampled_from(STARTS))
    expire = max(start + TICK, NOON + draw(st.sampled_from(ENDS)))
    return Grant(
        name=f"grants/g{index}",
        requester=draw(st.sampled_from((subject, subject, BOB))),
        requester_groups=draw(groups),
        subject=subject,
        policy="policies/p",
        policy_revision=1,
        steps=(),
        resources=draw(patterns),
        actions=draw(action_patterns),
        duration=expire - start,
        justification=Justification(),
        created_at=NOON - timedelta(hours=2),
        request_expires_at=NOON + timedelta(hours=2),
        approved_at=start,
        starts_at=start if draw(st.integers(0, 9)) else None,
        expires_at=expire,
        end=draw(st.none() | st.none() | st.none() | ends),
        check_condition=draw(st.sampled_from(("", "", "", "context.ok == true"))),
        limits=draw(st.sampled_from((Limits(), Limits(), Limits(max_uses=1)))),
        usage=Usage(count=draw(st.integers(0, 1))),
        chain=draw(st.sampled_from(((), (), ("grants/above",)))),
    )


denies = st.builds(
    Policy,
    name=st.just("policies/no"),
    eligible=st.builds(
        PrincipalSet,
        principals=st.sampled_from(((), (ALICE,), (BOB,))),
        groups=st.sampled_from(((), ("contractors",), ("engineering",))),
    ),
    resources=patterns,
    actions=action_patterns,
    deny=st.sampled_from((True, True, False)),
    disabled=st.sampled_from((False, False, True)),
)
names = st.sampled_from((*RESOURCES[:1] * 6, *RESOURCES, *ODD))
worlds = st.integers(1, 2).flatmap(lambda count: st.tuples(*(grants(index) for index in range(count))))
PLAIN = {
    "requester": ALICE, "requester_groups": frozenset(), "subject": ALICE, "policy": "policies/p", "policy_revision": 1,
    "steps": (), "resources": ("database/**",), "actions": ("read",), "duration": timedelta(hours=1),
    "justification": Justification(), "created_at": NOON, "request_expires_at": NOON + timedelta(hours=2),
    "approved_at": NOON, "starts_at": NOON, "expires_at": NOON + timedelta(hours=1),
}  # fmt: skip


def plain(**changes: Any) -> Grant:
    """A grant of alice's that a replica can judge, for an hour from noon."""
    facts: dict[str, Any] = {"name": "grants/g", **PLAIN, **changes}
    return Grant(**facts)


def no_contractors() -> Policy:
    """A deny for everything."""
    eligible = PrincipalSet(groups=("contractors",))
    return Policy(name="policies/no", eligible=eligible, resources=("**",), actions=("**",), deny=True)


locks = st.builds(
    Lock,
    name=st.just("locks/l"),
    target=st.sampled_from(
        (Target(principal=ALICE.upper().replace("USER", "user")), Target(principal=BOB), Target(group="contractors"))
    ),
    comment=st.just("left"),
    creator=st.just("user:rita"),
    created_at=st.just(NOON - timedelta(hours=1)),
    expires_at=st.sampled_from((None, NOON, NOON + TICK, NOON + timedelta(seconds=2))),
)


def service_allows(
    question: Question, held: tuple[Grant, ...], policies: list[Policy], standing: list[Lock], at: datetime
) -> bool:
    """What the service says: a name that it refuses is a no."""
    try:
        canonical = Question(
            subject=name.principal(question.subject, "subject"),
            action=name.action(question.action, "action"),
            resource=name.resource(question.resource, "resource"),
            groups=question.groups,
        )
    except InvalidField:
        return False
    return decide(
        canonical, grants=held, evidence=Evidence(policies=policies, now=at, locks=Locks(standing).at(at))
    ).allowed


@settings(
    max_examples=examples(120),
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(
    held=worlds,
    policies=st.lists(denies, max_size=2),
    standing=st.lists(locks, max_size=1),
    subject=st.sampled_from(SUBJECTS[:1] * 6 + SUBJECTS),
    action=st.sampled_from((*ACTIONS[:1] * 4, *ACTIONS, "rows..read", "read.*")),
    resource=names,
    own_groups=groups,
    age=st.sampled_from((0, 2000, 3 * SECOND)),
    late=st.sampled_from((0, 1, 2)),
)
@example(
    held=(plain(),), policies=[], standing=[], subject=ALICE, action="read", resource="database/..",
    own_groups=frozenset(), age=0, late=0,
)  # fmt: skip
@example(
    held=(plain(subject=GATEWAY.principal, requester=GATEWAY.principal),),
    policies=[no_contractors()], standing=[],
    subject=GATEWAY.principal, action="read", resource="database/x", own_groups=frozenset({"contractors"}),
    age=0, late=0,
)  # fmt: skip
@example(
    held=(plain(requester_groups=frozenset({"contractors"})),), policies=[no_contractors()], standing=[], subject=ALICE,
    action="read", resource="database/x", own_groups=frozenset(), age=0, late=0,
)  # fmt: skip
def test_a_replica_says_nothing_that_the_service_would_not(
    held: tuple[Grant, ...],
    policies: list[Policy],
    standing: list[Lock],
    subject: str,
    action: str,
    resource: str,
    own_groups: frozenset[str],
    age: int,
    late: int,
) -> None:
    replica = fed(current(*held, denies=policies, locks=standing))
    # The service's clock then is anywhere between what it showed and all of the time that has passed.
    at = NOON + timedelta(microseconds=age // 1000 * late // 2)
    groups = own_groups if subject == GATEWAY.principal else None

    local = answer(replica, subject, action, resource, after=age)

    allowed = service_allows(
        Question(subject=subject, action=action, resource=resource, groups=groups), held, policies, standing, at
    )
    if local.reason is CheckReason.ALLOWED:
        assert allowed
    elif local.reason is not LocalReason.NEEDS_CHECK:
        assert not allowed


@settings(
    max_examples=examples(60),
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(held=worlds, policies=st.lists(denies, max_size=2), resource=st.sampled_from(RESOURCES))
def test_what_is_plain_is_answered_here(held: tuple[Grant, ...], policies: list[Policy], resource: str) -> None:
    """So that a replica that leaves everything to the service is no good either."""
    alone = tuple(
        grant
        for grant in held
        if not (grant.check_condition or grant.is_metered or grant.chain)
        and grant.starts_at not in (NOON, NOON + TICK)
        and grant.expires_at not in (NOON, NOON + TICK)
    )
    replica = fed(current(*alone, denies=policies))

    local = answer(replica, ALICE, "read", resource)

    question = Question(subject=ALICE, action="read", resource=resource)
    assert local.reason is not LocalReason.NEEDS_CHECK
    assert (local.reason is CheckReason.ALLOWED) == service_allows(question, alone, policies, [], NOON)


CHARACTERS = st.characters(codec="ascii") | st.sampled_from("./*:-_aА\u0301\u200b ")


@settings(max_examples=examples(100), derandomize=True, deadline=None, database=None)
@given(text=st.text(CHARACTERS, max_size=12) | st.from_regex(r"[a-z]+(/[a-z.]{1,3}){0,3}", fullmatch=True))
def test_the_service_takes_each_plain_name_as_it_is(text: str) -> None:
    if is_plain(text, "/"):
        assert name.resource(text, "resource") == text
    if is_plain(text, "."):
        assert name.action(text, "action") == text


def test_a_name_that_is_too_long_is_not_plain() -> None:
    assert is_plain("d/" + "a" * 1022, "/")
    assert not is_plain("d/" + "a" * 1023, "/")
    assert is_plain("d" + "/a" * 63, "/")
    assert not is_plain("d" + "/a" * 64, "/")
    assert is_plain("a" * 256, ".")
    assert not is_plain("a" * 257, ".")
    assert not is_plain("a" + ".a" * 64, ".")
