"""Reads principal, groups and roles from a token's claims, by the settings of its issuer (docs/guides/identity.md).

Every fault names the setting that would accept the token. It shows no value from the token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from jit_service.domain.caller import Role
from jit_service.domain.conditions.condition import Verdict, judge_claims
from jit_service.domain.errors import InvalidField, TokenInvalid
from jit_service.domain.language import name
from jit_service.issuers import Issuer, PrincipalRule

Claims = Mapping[str, Any]
_ABSENT: Final = object()
_SPACED: Final = ("scope", "scp")
_EMAIL: Final = "email"


def claim(payload: Claims, named: str) -> Any:
    """Returns the claim of that exact name, or else the one at that path; `_ABSENT` if there is none."""
    if named in payload:
        return payload[named]
    for place, character in enumerate(named):
        inner = payload.get(named[:place]) if character == "." else None
        if isinstance(inner, dict) and (found := claim(inner, named[place + 1 :])) is not _ABSENT:
            return found
    return _ABSENT


def demand_required(payload: Claims, issuer: Issuer) -> None:
    """Raises TokenInvalid unless the token has the claims that its issuer's settings require."""
    for named, allowed in issuer.required_claims.items():
        # Types are compared too, since in Python True equals 1.
        wanted = {(type(value), value) for value in allowed}
        if wanted.isdisjoint((type(value), value) for value in _values(payload, named) if _is_plain(value)):
            raise TokenInvalid(f"the token's {named} is missing or not what `required_claims` of its issuer demands")


def demand_audience(payload: Claims, issuer: Issuer) -> None:
    """Raises TokenInvalid unless the token is for this service, by its aud or, if it has none, by `audience_claim`."""
    named = "aud" if "aud" in payload else issuer.audience_claim
    given = claim(payload, named)
    if given is _ABSENT:
        instead = ", or `audience_claim` a claim that names whom it is for, such as client_id" if named == "aud" else ""
        raise TokenInvalid(
            f"the token has no {named}; its issuer must put one of `audience` there{instead}",
            audience=", ".join(issuer.audience),
        )
    audiences = given if isinstance(given, list) else [given]
    if not any(isinstance(text, str) and text in issuer.audience for text in audiences):
        raise TokenInvalid(
            f"the token's {named} is not this service; `audience` of its issuer says what is",
            audience=", ".join(issuer.audience),
        )


def principal(payload: Claims, issuer: Issuer) -> str:
    """Returns the principal, by the first rule that applies. Raises TokenInvalid."""
    place, rule = _rule(payload, issuer)
    setting = f"principal_rules[{place}]" if issuer.principal_rules else "principal_claim"
    values = {named: _principal_value(payload, named, setting) for named in rule.claims}
    try:
        return name.principal(rule.principal(values), "principal", exact=issuer.exact_principals)
    except InvalidField:
        fault = (
            "gives no principal: user:NAME or service:NAME, of at most 256 printable characters without *, and not the "
            f"service itself, {name.SERVICE}"
        )
    except ValueError:
        fault = "has a template whose fixed text stands in a claim too, so that another token could give the same"
    raise TokenInvalid(f"`{setting}` of the token's issuer, made of {', '.join(rule.claims)}, {fault}")


def groups(payload: Claims, issuer: Issuer) -> frozenset[str] | None:
    """Returns the groups; None if the provider left them out because they are too many. Raises TokenInvalid."""
    named = issuer.groups_claim
    if _is_left_out(payload, named) or (_last_segment(named) == "groups" and _is_true(payload.get("hasgroups", False))):
        return None
    return frozenset(filter(None, map(_group, _texts(payload, named, "groups_claim"))))


def roles(payload: Claims, issuer: Issuer) -> frozenset[Role]:
    """Returns the API roles; none if the provider left out the claim that gives them. Raises TokenInvalid."""
    if _is_left_out(payload, issuer.roles_claim):
        return frozenset()
    values = _texts(payload, issuer.roles_claim, "roles_claim")
    return frozenset(role for role, giving in issuer.roles.items() if not values.isdisjoint(giving))


def _rule(payload: Claims, issuer: Issuer) -> tuple[int, PrincipalRule]:
    for place, rule in enumerate(issuer.rules):
        verdict = judge_claims(rule.when, payload)
        if verdict is Verdict.MET:
            return place, rule
        if verdict is not Verdict.NOT_MET:
            # The next rule is only for tokens to which this one does not apply, and that is not known here.
            raise TokenInvalid(
                f"`when` of `principal_rules[{place}]` of the token's issuer cannot be judged; ask has(claims.NAME) "
                "first for a claim that may be missing"
            )
    raise TokenInvalid("none of `principal_rules` of the token's issuer applies to it")


def _principal_value(payload: Claims, named: str, setting: str) -> str:
    value = claim(payload, named)
    if not isinstance(value, str) or not value:
        raise TokenInvalid(
            f"the token's {named}, from which `{setting}` of its issuer makes the principal, is missing or not text"
        )
    if _last_segment(named) == _EMAIL and not all(map(_may_be_verified, _verified_claims(payload, named))):
        raise TokenInvalid(
            f"the token says that its {named} is not verified, so it may be another's, and `{setting}` of its issuer "
            "cannot make the principal from it; name a claim that its holder cannot choose"
        )
    return value


def _verified_claims(payload: Claims, named: str) -> Iterator[Any]:
    """Yields the two claims that may say whether the address is verified: the one beside it and the general one."""
    yield claim(payload, f"{named}_verified")
    yield claim(payload, f"{_EMAIL}_verified")


def _may_be_verified(value: object) -> bool:
    """Returns whether the address counts as verified: some providers leave the claim out, some send "true" as text."""
    return value is _ABSENT or _is_true(value)


def _is_true(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _last_segment(named: str) -> str:
    """Returns the last segment of a claim's name: `groups` for `https://example.com/groups`."""
    return re.split("[./:]", named)[-1]


def _is_left_out(payload: Claims, named: str) -> bool:
    """Returns whether the token only refers to the claim: a distributed claim (OpenID Connect Core, 5.6.2)."""
    names, sources = payload.get("_claim_names"), payload.get("_claim_sources")
    value = claim(payload, named)
    if isinstance(sources, dict) and isinstance(value, str) and value in sources:
        return True
    return isinstance(names, dict) and not names.keys().isdisjoint((named, *_above(named)))


def _above(named: str) -> Sequence[str]:
    """Returns the paths of the objects that may contain the claim."""
    return [named[:place] for place, character in enumerate(named) if character == "."]


def _texts(payload: Claims, named: str, setting: str) -> set[str]:
    values = _values(payload, named)
    if not all(isinstance(text, str) for text in values):
        raise TokenInvalid(f"the token's {named}, which `{setting}` of its issuer names, is not a list of texts")
    return set(values)


def _values(payload: Claims, named: str) -> list[Any]:
    """Returns the claim as a list; null is empty, and a scope is split at its spaces (RFC 6749, 3.3)."""
    value = claim(payload, named)
    if value is _ABSENT or value is None:
        return []
    if isinstance(value, str) and _last_segment(named) in _SPACED:
        return value.split()
    return value if isinstance(value, list) else [value]


def _is_plain(value: object) -> bool:
    return isinstance(value, bool | int | str)


def _group(text: str) -> str:
    """Returns the group; an empty text for a name that no policy could contain, so that it matches nothing."""
    try:
        return name.group(text, "groups")
    except InvalidField:
        return ""
