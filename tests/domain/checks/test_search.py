"""Search lists exactly what the decision allows, by names and by patterns with their exceptions."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from jit_service.domain.checks.decision import Question, decide
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.checks.search import SearchMatch, Side, search_names, search_subjects
from jit_service.domain.grants.grant import Grant
from jit_service.domain.policies.policy import Policy, PrincipalSet
from jitaccess.naming.pattern import covers
from tests.domain.factories import ALICE, BOB, NOON
from tests.examples import examples
from tests.replica.test_agreement import ACTIONS, GROUPS, RESOURCES, SUBJECTS, denies, plain, worlds

NAMES = {
    Side.SUBJECT: SUBJECTS,
    Side.ACTION: (*ACTIONS, "write", "rows.write", "rows.write.all"),
    Side.RESOURCE: (*RESOURCES, "database/orders/us", "database/users/eu", "http/x", "database/orders/eu/rows"),
}
SEPARATOR = {Side.ACTION: ".", Side.RESOURCE: "/"}


# Denies that take a part, so that patterns have exceptions; and grants that say nothing but what they give.
partial_denies = st.builds(
    Policy,
    name=st.just("policies/part"),
    eligible=st.builds(PrincipalSet, principals=st.sampled_from(((ALICE,), (BOB,)))),
    resources=st.sampled_from(
        (("database/orders/**",), ("database/*/eu",), ("http/**", "database/users/eu"), ("database/ord*/e*",))
    ),
    actions=st.sampled_from((("**",), ("rows.*",), ("rows.write",), ("rows.w*",))),
    deny=st.just(True),
)
wide = st.builds(
    plain,
    resources=st.sampled_from(
        (("**",), ("database/**", "http/x"), ("database/*/eu", "database/orders/**"), ("database/o*/e*",))
    ),
    actions=st.sampled_from((("**",), ("rows.*", "read"), ("*",), ("rows.w*", "re*"))),
)
held_worlds = worlds | st.tuples(wide) | st.tuples(wide, wide.map(lambda grant: replace(grant, name="grants/h")))


def allowed(question: Question, held: tuple[Grant, ...], evidence: Evidence[Grant]) -> bool:
    return decide(question, grants=held, evidence=evidence).allowed


def lists(found: list[SearchMatch], name: str, side: Side) -> bool:
    """Says whether the name is listed, itself or by a pattern."""
    return any(
        one.name == name
        or (
            one.is_pattern
            and covers(one.name, name, SEPARATOR[side])
            and not any(covers(denied, name, SEPARATOR[side]) for denied in one.excepted)
        )
        for one in found
    )


@settings(
    max_examples=examples(400),
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(
    held=held_worlds,
    policies=st.lists(denies | partial_denies, max_size=2),
    subject=st.sampled_from(SUBJECTS[:1] * 4 + SUBJECTS),
    action=st.sampled_from(ACTIONS),
    resource=st.sampled_from(RESOURCES),
    side=st.sampled_from(list(Side)),
    own_groups=st.none() | st.frozensets(st.sampled_from(GROUPS)),
)
def test_search_lists_what_the_decision_allows_and_nothing_else(
    held: tuple[Grant, ...],
    policies: list[Policy],
    subject: str,
    action: str,
    resource: str,
    side: Side,
    own_groups: frozenset[str] | None,
) -> None:
    evidence = Evidence(policies=policies, now=NOON, above={grant.name: grant for grant in held})
    asked = Question(subject=subject, action=action, resource=resource, groups=own_groups)

    if side is Side.SUBJECT:
        found = search_subjects(((asked._replace(subject=one), held) for one in SUBJECTS), evidence)
    else:
        found = list(search_names(asked._replace(**{side: ""}), side, held, evidence))
        assert [one.name for one in found] == sorted(one.name for one in found)

    for name in NAMES[side]:
        question = asked._replace(**{side: name})
        if lists(found, name, side):
            assert allowed(question, held, evidence), (name, found)
        elif not any(grant.check_condition for grant in held):
            assert not allowed(question, held, evidence), (name, found)


def test_a_condition_on_another_name_of_the_same_letters_is_no_reading_of_the_side() -> None:
    held = (plain(resources=("database/*",), check_condition="!has(context.resource_properties)", claims={}),)
    evidence = Evidence(policies=[], now=NOON)
    asked = Question(subject=held[0].subject, action="read", resource="")

    (found,) = search_names(asked, Side.RESOURCE, held, evidence)

    assert found.name == "database/*"


def test_a_condition_that_reads_each_name_says_nothing_of_the_pattern() -> None:
    held = (plain(resources=("database/*",), check_condition='resource != "database/secret"', claims={}),)
    evidence = Evidence(policies=[], now=NOON)

    asked = Question(subject=held[0].subject, action="read", resource="")
    assert not list(search_names(asked, Side.RESOURCE, held, evidence))


def test_a_name_that_is_denied_is_not_listed() -> None:
    held = plain(resources=("database/x", "database/y"))
    eligible = PrincipalSet(principals=(held.subject,))
    deny = Policy(name="policies/no", eligible=eligible, resources=("database/x",), actions=("**",), deny=True)

    assert [one.name for one in resources(held, policies=(deny,))] == ["database/y"]


def test_a_pattern_that_is_denied_altogether_is_not_listed() -> None:
    held = (plain(resources=("database/*",)),)
    eligible = PrincipalSet(principals=(held[0].subject,))
    deny = Policy(name="policies/no", eligible=eligible, resources=("database/**",), actions=("**",), deny=True)
    evidence = Evidence(policies=[deny], now=NOON)

    asked = Question(subject=held[0].subject, action="read", resource="")
    assert not list(search_names(asked, Side.RESOURCE, held, evidence))


def test_of_grants_with_the_same_pattern_the_one_that_lasts_longest_is_named() -> None:
    short = plain(name="grants/short", resources=("database/*",))
    long = replace(short, name="grants/long", expires_at=NOON.replace(year=2030))
    evidence = Evidence(policies=[], now=NOON)
    asked = Question(subject=short.subject, action="read", resource="")

    assert [one.grant.name for one in search_names(asked, Side.RESOURCE, (short, long), evidence)] == ["grants/long"]


def test_a_deny_of_whoever_passed_it_on_is_an_exception_of_a_pattern() -> None:
    above = replace(plain(resources=("database/**",), actions=("read",)), name="grants/a", subject=BOB)
    child = replace(plain(resources=("database/**",), actions=("read",)), chain=("grants/a",), subject=ALICE)
    of_bob = Policy(
        name="policies/part",
        eligible=PrincipalSet(principals=(BOB,)),
        resources=("database/orders/**",),
        actions=("read",),
        deny=True,
    )

    def found(*policies: Policy) -> list[SearchMatch]:
        evidence = Evidence(policies=policies, now=NOON, above={"grants/a": above})
        return list(search_names(Question(ALICE, "read", ""), Side.RESOURCE, grants=[child], evidence=evidence))

    assert [(one.name, one.excepted) for one in found(of_bob)] == [("database/**", ("database/orders/**",))]
    assert [(one.name, one.excepted) for one in found()] == [("database/**", ())]


def subjects(*held: Grant) -> list[SearchMatch]:
    question = Question(subject=held[0].subject, action="read", resource="database/x")
    return search_subjects([(question, held)], Evidence(policies=[], now=NOON))


def resources(*held: Grant, policies: tuple[Policy, ...] = (), above: tuple[Grant, ...] = ()) -> list[SearchMatch]:
    evidence = Evidence(policies=policies, now=NOON, above={grant.name: grant for grant in above})
    return list(search_names(Question(held[0].subject, "read", ""), Side.RESOURCE, held, evidence))


def test_what_is_found_names_the_grant_that_allows_it() -> None:
    held = plain(resources=("database/x",), actions=("read",))

    assert subjects(held) == [SearchMatch(name=held.subject, grant=held)]
    assert resources(held) == [SearchMatch(name="database/x", grant=held)]


def test_a_name_is_judged_by_the_grants_whose_patterns_match_it_too() -> None:
    short = plain(name="grants/short", resources=("database/x",))
    long = replace(short, name="grants/long", resources=("database/*",), expires_at=NOON.replace(year=2030))

    assert [(one.name, one.grant.name) for one in resources(short, long)] == [
        ("database/*", "grants/long"),
        ("database/x", "grants/long"),
    ]


def test_only_wanted_names_are_found_and_by_patterns_that_are_not_wanted_too() -> None:
    over = plain(name="grants/over", resources=("database/x", "database/y"), expires_at=NOON)
    wide = replace(over, name="grants/wide", resources=("database/*",), expires_at=NOON.replace(year=2030))
    asked, evidence = Question(over.subject, "read", ""), Evidence(policies=[], now=NOON)

    found = list(search_names(asked, Side.RESOURCE, (over, wide), evidence, wants="database/x".__eq__))

    assert [(one.name, one.grant.name) for one in found] == [("database/x", "grants/wide")]


def test_a_grant_that_cannot_give_a_pattern_does_not_hide_the_next() -> None:
    conditional = plain(name="grants/a", resources=("database/*",), check_condition='resource != "x"', claims={})
    denied = plain(name="grants/a", resources=("database/*",), requester_groups=frozenset({"contractors"}))
    allowing = plain(name="grants/b", resources=("database/*",))
    contractors = PrincipalSet(groups=("contractors",))
    deny = Policy(name="policies/no", eligible=contractors, resources=("database/**",), actions=("**",), deny=True)
    over = replace(allowing, name="grants/a", expires_at=NOON)

    assert [one.grant.name for one in resources(conditional, allowing)] == ["grants/b"]
    assert [one.grant.name for one in resources(denied, allowing, policies=(deny,))] == ["grants/b"]
    assert [one.grant.name for one in resources(over, allowing)] == ["grants/b"]


def test_a_pattern_whose_every_name_is_denied_by_another_pattern_is_not_listed() -> None:
    eligible = PrincipalSet(principals=(ALICE,))
    deny = Policy(name="policies/no", eligible=eligible, resources=("*/*",), actions=("**",), deny=True)

    assert resources(plain(resources=("database/*",)), policies=(deny,)) == []


def test_a_group_that_whoever_passed_it_on_proved_not_to_be_in_is_no_exception() -> None:
    above = plain(name="grants/a", requester=BOB, subject=BOB, resources=("database/**",))
    child = plain(name="grants/b", chain=("grants/a",), resources=("database/**",))
    contractors = PrincipalSet(groups=("contractors",))
    deny = Policy(name="policies/no", eligible=contractors, resources=("database/x/**",), actions=("**",), deny=True)

    assert [one.excepted for one in resources(child, policies=(deny,), above=(above,))] == [()]
