"""Principals whose letter case counts stay as they are wherever a policy names them."""

from __future__ import annotations

from jit_service.domain.policies import diff
from jit_service.domain.policies.diff import ChangeType, PolicyChange, PolicyDraft
from jit_service.domain.policies.policy import BreakGlassRule, Policy, PrincipalSet, Step, normalize
from tests.domain.factories import HOUR, policy

PEOPLE = PrincipalSet(principals=("user:Dave@corp.example.com",))
FOLDED = PrincipalSet(principals=("user:dave@corp.example.com",))
EXACT = ("user:Dave",)


def naming(people: PrincipalSet) -> Policy:
    return policy(
        eligible=people,
        steps=(Step(approvers=people, timeout=HOUR, escalate_to=people),),
        break_glass=BreakGlassRule(eligible=people, max_duration=HOUR, review_within=HOUR),
        revision=0,
    )


def test_a_policy_names_them_as_they_are_wherever_it_names_people() -> None:
    assert normalize(naming(PEOPLE), exact=EXACT) == normalize(naming(PEOPLE), exact=("user:",))
    assert normalize(naming(PEOPLE), exact=EXACT).steps == naming(PEOPLE).steps
    assert normalize(naming(PEOPLE), exact=EXACT).break_glass == naming(PEOPLE).break_glass
    assert normalize(naming(PEOPLE)) == normalize(naming(FOLDED))


def test_a_set_of_policies_names_them_as_they_are() -> None:
    draft = PolicyDraft(policy=naming(PEOPLE))

    (change,) = diff.difference([], [draft], prune=False, exact=EXACT)

    wanted = normalize(naming(PEOPLE), exact=EXACT)
    assert change == PolicyChange(name=wanted.name, type=ChangeType.CREATED, before=None, after=wanted)
