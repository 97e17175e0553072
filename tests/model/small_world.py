"""Who there is in the model's small world, under which policies, and what may become of those."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from jit_service.domain.policies.assurance import ReviewAssurance
from jit_service.domain.policies.policy import BreakGlassRule, ExtensionRule, PrincipalSet, Step
from tests.domain.factories import ALICE, BOB, BOT, CAROL, ERIN, HOUR, TICK, deny_policy, policy, step
from tests.model.facts import (
    CALM,
    LONG,
    Changes,
)

ALIAS = "user:Alice@example.com"
"""Of an issuer whose letter case counts: somebody else wherever that would permit; alice wherever it would forbid."""
ADMIN = "user:admin@example.com"
OTHER_ADMIN = "user:root@example.com"
AGENT = "service:agent"
GROUPS_AT_FIRST = {
    ALICE: {"engineering"},
    ALIAS: {"engineering", "owners"},
    BOB: {"engineering", "owners"},
    ERIN: {"owners"},
    CAROL: {"security"},
    BOT: set[str](),
    ADMIN: set[str](),
}
GROUPS = ("engineering", "owners", "security", "contractors")
MINUTE = HOUR / 60
OWNERS, SECURITY = PrincipalSet(groups=("owners",)), PrincipalSet(groups=("security",))
ESCALATES = Step(approvers=OWNERS, timeout=HOUR / 2, escalate_to=SECURITY)
LAPSES = Step(approvers=OWNERS, timeout=HOUR / 2)
STEPS = (
    (step("owners"),),
    (step("owners", "security", needed=2),),
    (ESCALATES, step("security", "owners")),
    (replace(ESCALATES, approvals_needed=2, denials_needed=2),),
    (LAPSES, replace(LAPSES, approvers=SECURITY)),
    (step(principals=(CAROL, ERIN, ALIAS), needed=2),),
    (Step(approvers=PrincipalSet(principals=(ALICE,)), timeout=HOUR / 2, escalate_to=PrincipalSet(principals=(BOB,))),),
    (),
    (replace(step("owners"), condition=CALM), step("security", "owners")),
    (replace(step("security"), condition=LONG), replace(step("owners"), condition=CALM)),
    (replace(LAPSES, condition=LONG), replace(ESCALATES, condition=CALM), replace(step("security"), condition=LONG)),
)
STRONG_LOG_IN = ReviewAssurance(acr=("strong",))
STRONG = {ALIAS, BOB, CAROL}
"""Whose tokens say that they logged in so."""
MORE = ExtensionRule(max_extensions=2, max_total_duration=4 * HOUR)
GLASS = BreakGlassRule(eligible=PrincipalSet(groups=("engineering",)), max_duration=HOUR, review_within=HOUR / 2)
FORBIDDEN = "policies/forbidden"
POLICIES = (
    policy(
        name="policies/one", resources=("db/**",), actions=("**",), steps=STEPS[0], extension=MORE, max_child_depth=2
    ),
    policy(
        name="policies/two",
        eligible=PrincipalSet(principals=(BOT,), groups=("engineering",)),
        resources=("db/a/*", "db/b/x"),
        actions=("read", "rows.*"),
        steps=STEPS[2],
        priority=1,
        request_ttl=2 * HOUR,
        idle_timeout=HOUR / 2,
        extension=MORE,
        max_child_depth=1,
    ),
    policy(
        name="policies/self",
        eligible=PrincipalSet(groups=("engineering", "owners")),
        resources=("db/a/*",),
        actions=("**",),
        steps=(replace(step("engineering", "owners", needed=2), denials_needed=2),),
        allow_self_approval=True,
        default_duration=timedelta(),
        extension=MORE,
    ),
    policy(
        name="policies/none",
        resources=("db/a/*",),
        actions=("read", "rows.*"),
        steps=(),
        max_uses=3,
        activation_window=HOUR / 2,
        idle_timeout=HOUR / 4,
        max_child_depth=2,
        extension=MORE,
    ),
    policy(
        name="policies/glass",
        resources=("db/**",),
        actions=("**",),
        steps=STEPS[4],
        break_glass=GLASS,
        max_active_per_subject=2,
        check_condition=CALM,
    ),
    deny_policy(name=FORBIDDEN, eligible=PrincipalSet(groups=("contractors",)), resources=("db/a/*",)),
)
NAMES = tuple(each.name for each in POLICIES if not each.deny)
FOR_ANOTHER = (ALICE, BOT, "db/b/x", "read", "policies/two")
# Asker, holder, resource, action and policy of requests that the policies give at first.
GIVEN = (
    (ALICE, ALICE, "db/a/x", "read", "policies/one"),
    (ALICE, ALICE, "db/a/*", "rows.*", "policies/two"),
    FOR_ANOTHER,
    (BOB, BOB, "db/**", "read", "policies/one"),
    (ALIAS, ALIAS, "db/a/*", "rows.add", "policies/self"),
    (BOB, BOB, "db/a/*", "rows.*", "policies/none"),
    (ALICE, ALICE, "db/a/*", "read", "policies/none"),
    (ALICE, ALICE, "db/a/*", "read", "policies/glass"),
    (ALICE, ALICE, "db/b/x", "rows.add", ""),
)
CHANGES: tuple[dict[str, Any], ...] = (
    *({"steps": steps} for steps in STEPS),
    {"allow_self_approval": True},
    {"allow_self_approval": False},
    {"resources": ("db/a/*",)},
    {"resources": ("db/**",)},
    {"max_duration": HOUR, "default_duration": TICK},
    {"min_duration": HOUR, "max_duration": 4 * HOUR, "default_duration": timedelta()},
    {"min_duration": timedelta(), "max_duration": 4 * HOUR},
    {"actions": ("read",)},
    {"actions": ("**",)},
    {"eligible": PrincipalSet(principals=(ALICE,), groups=("security",))},
    {"eligible": PrincipalSet(principals=(BOT, BOB), groups=("engineering",))},
    {"disabled": True},
    {"disabled": False},
    {"priority": 3},
    {"request_ttl": HOUR},
    {"extension": None},
    {"extension": MORE},
    {"max_uses": 2, "idle_timeout": HOUR / 4},
    {"max_uses": 0, "idle_timeout": timedelta(), "activation_window": timedelta()},
    {"break_glass": None},
    {"break_glass": GLASS},
    {"break_glass": replace(GLASS, max_unreviewed=1)},
    {"forbid_delegation": True},
    {"forbid_delegation": False},
    {"review_assurance": STRONG_LOG_IN},
    {"review_assurance": None},
    {"max_child_depth": 0},
    {"max_child_depth": 2},
    {"max_active_per_subject": 1},
    {"check_condition": CALM},
    {"check_condition": ""},
    {"request_condition": CALM},
    {"request_condition": LONG},
    {"request_condition": ""},
)
EDITS = (
    Changes(),
    Changes(),
    Changes(length=HOUR / 2),
    Changes(length=4 * HOUR),
    Changes(resource="db/a/x"),
    Changes(resource="db/**"),
    Changes(action="rows.add"),
    Changes(length=MINUTE, resource="db/a/x"),
)
ENDS_ACCESS = ("withdraw", "release", "revoke")
ACTS = ("approve", "deny", "counter", "accept", "decline", "extend", "complete", *ENDS_ACCESS)

people = st.sampled_from(sorted(GROUPS_AT_FIRST))
lockable = st.sampled_from(sorted({*GROUPS_AT_FIRST, AGENT} - {ADMIN}))
leads = st.sampled_from((None, None, None, timedelta(), HOUR / 2))
lengths = st.sampled_from((None, None, TICK, HOUR / 2, HOUR, 4 * HOUR, 4 * HOUR + TICK))
spans = st.sampled_from((MINUTE, HOUR / 2, HOUR))
edits = st.sampled_from(EDITS)
