"""Tokens of grants: of which there can be one, for whom, until when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import DeniedByPolicy, InvalidField, Locked, NotYours, TokenNotPossible, WrongState
from jit_service.domain.grants.grant import Grant, Limits
from jit_service.domain.grants.lock import NO_LOCKS, Lock, Locks, Target
from jit_service.domain.policies.policy import Policy, PrincipalSet
from jit_service.domain.tokens import token as rules
from jit_service.domain.tokens.token import Token, TokenRequest
from tests.domain.factories import (
    ALICE,
    BOB,
    BOT,
    HOUR,
    NOON,
    TICK,
    admin,
    alice,
    approved,
    bob,
    caller,
    deny_policy,
    named,
    release,
)

ISSUER = "https://jit.example.com"
CAP = timedelta(minutes=15)
SECOND = timedelta(seconds=1)


def issued(
    grant: Grant,
    *,
    by: Caller | None = None,
    at: datetime = NOON,
    above: Sequence[Grant] = (),
    policies: Sequence[Policy] = (),
    **wanted: Any,
) -> tuple[Token, Event]:
    return rules.issue(
        grant,
        rules.normalize(TokenRequest(**wanted), cap=CAP),
        above={held.name: held for held in above},
        policies=policies,
        by=by or alice(),
        issuer=ISSUER,
        token_id="t1",
        cap=CAP,
        now=at,
    )


def test_a_token_says_what_the_grant_gives() -> None:
    grant = approved()

    token, event = issued(grant, audience=("https://a.example.com",))

    assert (token.grant, token.subject, token.policy) == (grant.name, grant.subject, grant.policy)
    assert (token.resources, token.actions, token.chain) == (grant.resources, grant.actions, ())
    assert (token.audience, token.issuer, token.id) == (("https://a.example.com",), ISSUER, "t1")
    assert (event.type, event.token_id, event.grant) == (EventType.TOKEN_ISSUED, "t1", grant.name)
    assert (event.decision, event.duration) == ("ISSUED", CAP)


def test_a_token_for_nobody_in_particular_is_for_the_services_own_gateway() -> None:
    assert issued(approved())[0].audience == (ISSUER,)


def test_a_token_names_the_client_that_its_caller_came_by() -> None:
    plain, through = alice(), alice()._replace(claims={"azp": "portal"})

    assert issued(approved())[0].client_id == plain.principal
    assert issued(approved(), by=through)[0].client_id == "portal"


def test_a_token_lives_no_longer_than_the_cap() -> None:
    assert issued(approved(ttl=HOUR))[0].expires_at == NOON + CAP


def test_a_token_never_outlives_its_grant() -> None:
    grant = approved(ttl=HOUR)

    late = issued(grant, at=NOON + HOUR - 2 * SECOND)[0]

    assert late.expires_at == grant.expires_at


def test_a_token_never_outlives_what_its_grant_was_passed_on_from() -> None:
    parent = named(approved(ttl=HOUR), "grants/p")
    child = replace(approved(ttl=HOUR), chain=("grants/p",))
    sooner = replace(parent, expires_at=NOON + 60 * SECOND)

    assert issued(child, above=[sooner])[0].expires_at == NOON + 60 * SECOND
    assert issued(child, above=[parent])[0].chain == ("grants/p",)


def test_a_token_ends_on_a_whole_second_before_the_end() -> None:
    grant = replace(approved(), expires_at=NOON + 90 * SECOND + TICK)

    assert issued(grant, at=NOON + TICK)[0].expires_at == NOON + 90 * SECOND
    with pytest.raises(TokenNotPossible):
        issued(grant, at=NOON + 90 * SECOND)


@pytest.mark.parametrize("ttl", [timedelta(), -SECOND, TICK, SECOND + TICK, CAP + SECOND])
def test_a_ttl_that_no_token_has_is_refused(ttl: timedelta) -> None:
    with pytest.raises(InvalidField) as fault:
        issued(approved(), ttl=ttl)

    assert fault.value.field == "ttl"


@pytest.mark.parametrize("ttl", [SECOND, CAP])
def test_a_ttl_within_bounds_is_what_it_gets(ttl: timedelta) -> None:
    token, _ = issued(approved(), ttl=ttl)

    assert token.expires_at - token.issued_at == ttl


def test_a_ttl_beyond_the_grant_is_refused_and_not_cut() -> None:
    grant = approved(ttl=timedelta(minutes=10))

    assert issued(grant, ttl=timedelta(minutes=10))[0].expires_at == grant.expires_at
    with pytest.raises(InvalidField, match="lasts 599s more"):
        issued(grant, at=NOON + SECOND, ttl=timedelta(minutes=10))


@pytest.mark.parametrize("audience", [("",), ("a b",), ("é",), ("a", "a"), ("a\n",), tuple("abcdefghi"), ("a" * 257,)])
def test_an_audience_that_could_be_taken_for_another_is_refused(audience: tuple[str, ...]) -> None:
    with pytest.raises(InvalidField):
        issued(approved(), audience=audience)


def test_only_the_holder_has_a_token() -> None:
    for other in (bob(), admin(), caller("service:portal", roles=Role)):
        with pytest.raises(NotYours):
            issued(approved(), by=other)


def test_only_an_active_grant_has_a_token() -> None:
    grant = approved()

    with pytest.raises(WrongState):
        issued(grant, at=NOON + HOUR)
    with pytest.raises(WrongState):
        issued(release(grant))


def test_a_grant_whose_parent_is_over_or_gone_has_no_token() -> None:
    parent = named(approved(), "grants/p")
    child = replace(approved(), chain=("grants/p",))

    with pytest.raises(WrongState):
        issued(child, above=[release(parent)])
    with pytest.raises(TokenNotPossible):
        issued(child, above=[])


METERS = [
    Limits(max_uses=1),
    Limits(idle_timeout=HOUR),
    Limits(activation_window=HOUR),
]


@pytest.mark.parametrize("limits", METERS)
def test_what_each_use_counts_for_cannot_be_carried(limits: Limits) -> None:
    with pytest.raises(TokenNotPossible, match="CheckAccess"):
        issued(replace(approved(), limits=limits))


def test_what_is_passed_on_from_a_counted_grant_cannot_be_carried() -> None:
    parent = replace(named(approved(), "grants/p"), limits=Limits(max_uses=3))

    with pytest.raises(TokenNotPossible):
        issued(replace(approved(), chain=("grants/p",)), above=[parent])


def test_a_condition_that_is_asked_at_every_check_cannot_be_carried() -> None:
    with pytest.raises(TokenNotPossible, match="check_condition"):
        issued(replace(approved(), check_condition="signals.incident == 'on'"))


@pytest.mark.parametrize(
    "resources",
    [
        ("database/orders/eu",),
        ("database/**",),
        ("database/*/eu",),
        ("**",),
        ("database/orders/*",),
        ("database/ord*/*",),
    ],
)
def test_a_deny_that_reaches_into_a_part_denies_the_token(resources: tuple[str, ...]) -> None:
    grant = replace(approved(), resources=("database/orders/**",))
    deny = deny_policy(resources=resources, actions=("**",), eligible=PrincipalSet(principals=(grant.subject,)))

    with pytest.raises(DeniedByPolicy):
        issued(grant, policies=[deny])


@pytest.mark.parametrize("resources", [("database/users/**",), ("http/**",), ("database/*",)])
def test_a_deny_of_something_else_does_not(resources: tuple[str, ...]) -> None:
    grant = replace(approved(), resources=("database/orders/**",))
    deny = deny_policy(resources=resources, actions=("**",), eligible=PrincipalSet(principals=(grant.subject,)))

    assert issued(grant, policies=[deny])


def test_a_deny_for_a_group_that_the_holder_is_in_now_counts() -> None:
    deny = deny_policy(resources=("**",), actions=("**",), eligible=PrincipalSet(groups=("suspended",)))

    assert issued(approved(), policies=[deny])
    with pytest.raises(DeniedByPolicy):
        issued(approved(), by=alice()._replace(groups=frozenset({"suspended"})), policies=[deny])


def test_a_deny_for_any_group_counts_where_nobody_proved_the_holders() -> None:
    deny = deny_policy(resources=("**",), actions=("**",), eligible=PrincipalSet(groups=("suspended",)))
    grant = replace(approved(), subject=BOT)

    with pytest.raises(DeniedByPolicy):
        issued(grant, by=caller(BOT), policies=[deny])


def test_a_deny_for_whoever_passed_it_on_counts() -> None:
    parent = named(approved(), "grants/p")
    child = replace(approved(), subject=BOT, requester=BOT, chain=("grants/p",))
    deny = deny_policy(resources=("**",), actions=("**",), eligible=PrincipalSet(principals=(parent.subject,)))

    assert issued(child, by=caller(BOT), above=[parent])
    with pytest.raises(DeniedByPolicy):
        issued(child, by=caller(BOT), above=[parent], policies=[deny])


def test_its_subject_and_an_admin_may_revoke_a_token() -> None:
    for by in (alice(), admin()):
        event = rules.revocation_event("t1", grant="grants/g", subject=alice().principal, by=by, now=NOON)
        assert (event.type, event.token_id, event.grant) == (EventType.TOKEN_REVOKED, "t1", "grants/g")

    for other in (bob(), caller("service:gateway", roles=[Role.CHECKER, Role.AUDITOR])):
        with pytest.raises(NotYours):
            rules.revocation_event("t1", grant="grants/g", subject=alice().principal, by=other, now=NOON)


OF_ALICE = PrincipalSet(principals=(alice().principal,))


def test_only_a_deny_in_force_that_is_one_denies_a_token() -> None:
    allows = deny_policy(deny=False, resources=("**",), eligible=OF_ALICE)
    off = deny_policy(disabled=True, resources=("**",), eligible=OF_ALICE)

    assert issued(approved(), policies=[allows, off])


def test_a_deny_of_other_actions_or_other_people_does_not() -> None:
    for deny in (
        deny_policy(actions=("write", "rows.**"), eligible=OF_ALICE),
        deny_policy(eligible=PrincipalSet(principals=(bob().principal,), groups=("contractors",))),
    ):
        assert issued(approved(), policies=[deny])


def test_a_deny_by_name_counts_where_nobody_proved_the_holders_groups() -> None:
    grant = replace(approved(), subject=BOT)

    with pytest.raises(DeniedByPolicy, match=f"denies {BOT} a part of what grants/g7 gives"):
        issued(grant, by=caller(BOT), policies=[deny_policy(eligible=PrincipalSet(principals=(BOT,)))])
    assert issued(grant, by=caller(BOT), policies=[deny_policy(eligible=OF_ALICE)])


def test_a_revocation_is_recorded_with_whose_token_of_what_it_was() -> None:
    event = rules.revocation_event("t1", grant="grants/g", subject=alice().principal, by=admin(), now=NOON)

    assert (event.at, event.principal, event.origin) == (NOON, admin().principal, admin().origin)
    assert (event.subject, event.decision) == (alice().principal, "REVOKED")


@pytest.mark.parametrize(
    ("claims", "client"),
    [
        ({"client_id": "portal", "azp": "other"}, "portal"),
        ({"client_id": "a b", "azp": "other"}, "other"),
        ({"client_id": ["portal"]}, None),
        ({"azp": ""}, None),
        ({"sub": "portal"}, None),
    ],
)
def test_the_client_is_what_a_well_formed_claim_says_or_the_caller(claims: dict[str, Any], client: str | None) -> None:
    by = alice()._replace(claims=claims)

    assert issued(approved(), by=by)[0].client_id == (client or by.principal)


def test_a_grant_without_its_end_has_no_token() -> None:
    """Facts that are broken decide nothing."""
    with pytest.raises((AssertionError, WrongState)):
        issued(replace(approved(), expires_at=None))
    with pytest.raises(AssertionError, match="without its end"):
        rules._sure(None)


def test_a_token_is_for_eight_audiences_at_most() -> None:
    audiences = tuple(f"https://{index}.example.com" for index in range(rules.MAX_AUDIENCES))

    assert rules.normalize(TokenRequest(audience=audiences), cap=CAP).audience == audiences
    with pytest.raises(InvalidField):
        rules.normalize(TokenRequest(audience=(*audiences, "https://more.example.com")), cap=CAP)


def test_an_audience_that_is_none_is_told() -> None:
    with pytest.raises(InvalidField) as refused:
        rules.normalize(TokenRequest(audience=("a b",)), cap=CAP)

    assert refused.value.message == "audience[0]: must be 1 to 256 printable ASCII characters without spaces"


def test_no_token_is_issued_to_the_locked() -> None:
    new = Lock(name="locks/l1", target=Target(principal=ALICE), comment="left", creator="user:rita", created_at=NOON)

    def issue(on: Locks) -> Token:
        return rules.issue(
            approved(),
            TokenRequest(),
            above={},
            policies=(),
            by=alice(),
            issuer=ISSUER,
            token_id="t1",
            cap=CAP,
            now=NOON,
            locks=on,
        )[0]

    assert issue(NO_LOCKS)
    with pytest.raises(Locked):
        issue(Locks([new]))


def test_groups_of_the_holders_call_are_not_those_of_whom_it_came_from() -> None:
    parent = named(replace(approved(), subject=BOB, requester=BOB), "grants/p")
    child = replace(approved(), chain=("grants/p",))
    contractor = caller(ALICE, "engineering", "contractors")
    of_bob = deny_policy(eligible=PrincipalSet(groups=("on-call",)))

    assert issued(child, above=[parent], by=alice(), policies=[of_bob])
    assert issued(child, above=[parent], by=caller(ALICE, "engineering"), policies=[deny_policy()])
    with pytest.raises(DeniedByPolicy):
        issued(child, above=[parent], by=contractor, policies=[deny_policy()])
    lock = Lock(name="locks/l1", target=Target(group="on-call"), comment="", creator="user:rita", created_at=NOON)
    rules.demand_carriable(
        child, above={"grants/p": parent}, policies=(), now=NOON, holder=alice(), locks=Locks([lock])
    )


def test_a_refusal_tells_programs_the_grant_and_people_why() -> None:
    limited = replace(approved(), limits=Limits(max_uses=1))
    deny = deny_policy(eligible=PrincipalSet(principals=(ALICE,)))

    with pytest.raises(NotYours) as not_yours:
        issued(approved(), by=bob())
    with pytest.raises(TokenNotPossible) as not_possible:
        issued(limited)
    with pytest.raises(DeniedByPolicy) as denied:
        issued(approved(), policies=[deny])

    assert not_yours.value.metadata == not_possible.value.metadata == {"grant": "grants/g7"}
    assert denied.value.metadata == {"grant": "grants/g7", "policy": "policies/no-contractors"}
    assert not_possible.value.message == (
        "no token can carry grants/g7: grants/g7 ends by how it is used (max_uses, idle_timeout or "
        "activation_window); use CheckAccess"
    )


def test_the_subject_admins_and_responders_revoke_a_token() -> None:
    responder = caller("user:rita@example.com", roles=[Role.RESPONDER])

    for by in (alice(), admin(), responder):
        told = rules.revocation_event("t1", grant="grants/g7", subject=ALICE, by=by, now=NOON)
        assert (told.principal, told.token_id) == (by.principal, "t1")
    with pytest.raises(NotYours, match="token t1 is"):
        rules.revocation_event("t1", grant="grants/g7", subject=ALICE, by=bob(), now=NOON)


def test_a_deny_of_part_of_an_action_reaches_into_a_pattern_of_the_grant() -> None:
    grant = replace(approved(), actions=("rows.*",))
    eligible = PrincipalSet(principals=(ALICE,))

    with pytest.raises(DeniedByPolicy):
        issued(grant, policies=[deny_policy(eligible=eligible, actions=("*.add",))])
    assert issued(grant, policies=[deny_policy(eligible=eligible, actions=("*.add.all",))])


def test_the_record_of_a_token_says_for_whom_it_is_and_not_how_long_access_was_held() -> None:
    _, event = issued(approved(), audience=("https://a.example.com", "https://b.example.com"))

    assert event.message == "for https://a.example.com https://b.example.com"
    assert event.held is None
