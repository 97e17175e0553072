"""Which claims a condition can read is found in its syntax tree; where it cannot be told, it is any claim."""

from __future__ import annotations

import pytest

from jit_service.domain.conditions.condition import claims_read


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("subject == principal", set()),
        ('context.claims.team == "a"', set()),
        ('reviewer.claims.team == "a"', set()),
        ('claims.team == "a"', {"team"}),
        (".claims.team == 'a'", {"team"}),
        ("claims // of the token\n .team == 'a'", {"team"}),
        ("has(claims.address.country)", {"address"}),
        ("!has(claims.suspended)", {"suspended"}),
        ('claims["https://example.com/team"] == 1.5 && 2.0 < 3.0', {"https://example.com/team"}),
        ('claims[""] == "a"', {""}),
        ('claims["straße"] == "a"', {"straße"}),
        ('!("suspended" in claims)', {"suspended"}),
        ('"mfa" in claims.amr ? claims.level > 1 : size(claims.team) == 3', {"amr", "level", "team"}),
        ("[1, 2].exists(n, claims.level == n)", {"level"}),
        ("[claims.a][0] == {'k': claims.b, claims.c: 1}.k", {"a", "b", "c"}),
        ('context.source_ip.inCidr(claims.network) && ["x"].all(c, c in claims.teams)', {"network", "teams"}),
    ],
)
def test_a_condition_reads_the_claims_that_it_names(text: str, names: set[str]) -> None:
    assert claims_read(text) == names


@pytest.mark.parametrize(
    "text",
    [
        "claims == {}",
        "size(claims) > 3",
        "claims[subject] == 1",
        'claims["te" + "am"] == 1',
        "subject in claims",
        "claims.all(name, name != 'suspended')",
        "{'all': claims}.all.team == 'a'",
        "[claims].exists(each, has(each.suspended))",
        '["a"].all(claims, claims != "b")',
        'claims.team == "a" || claims.exists(name, name == "b")',
    ],
)
def test_a_condition_that_uses_the_claims_as_a_whole_can_read_any(text: str) -> None:
    assert claims_read(text) is None
