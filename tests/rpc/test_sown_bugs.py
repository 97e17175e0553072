"""Vulnerable twins: who a caller is, with one bug sown into how that is found out. All must be caught."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jit_service.domain.conditions import condition
from jit_service.issuers import PrincipalRule
from jit_service.rpc import authentication, authorization, claims
from jitaccess.jose import fetching, keys
from jitaccess.naming import names
from tests.domain.language import test_name
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.rpc import test_authentication, test_authorization, test_claims, test_keys
from tests.rpc.providers import provider
from tests.rpc.tokens import Forge

_Test = Callable[..., None]


def with_token(test: _Test, *given: Any) -> Callable[[], None]:
    """A test of claims, with what says who a token is."""

    def caught_by() -> None:
        with tempfile.TemporaryDirectory() as directory:
            test(test_claims.asked(Forge(Path(directory))), *given)

    return caught_by


def with_forge(test: _Test, *given: Any) -> Callable[[], None]:
    def caught_by() -> None:
        with tempfile.TemporaryDirectory() as directory:
            test(Forge(Path(directory)), *given)

    return caught_by


def with_provider(test: _Test, *given: Any, clock: bool = False) -> Callable[[], None]:
    """A test of keys, with an issuer that is soon given up."""

    def caught_by() -> None:
        with tempfile.TemporaryDirectory() as directory, provider() as idp, pytest.MonkeyPatch.context() as patch:
            patch.setattr(test_keys, "LONG", 3)
            forge = Forge(Path(directory))
            idp.publish(forge.path)
            test(forge, idp, *([test_keys.Monotonic()] if clock else []), *given)

    return caught_by


def the_token_of_a_cluster_stays_there() -> None:
    with tempfile.TemporaryDirectory() as directory, provider(Path(directory)) as cluster:
        test_keys.test_the_token_goes_to_the_issuer_and_to_nobody_that_it_names(
            Forge(Path(directory)), cluster, Path(directory)
        )


TWINS = [
    Twin(
        "an auditor who writes policies",
        authorization._is_dry_run,
        'getattr(request, "validate_only", False) is True',
        "True",
        test_authorization.test_an_auditor_may_ask_what_policies_would_change_and_not_change_them,
    ),
    Twin(
        "an address that its holder has made up",
        claims._may_be_verified,
        "value is _ABSENT or _is_true(value)",
        "True",
        with_token(test_claims.test_an_address_that_is_not_verified_is_nobody, False, test_claims.PEOPLE),
    ),
    Twin(
        "an address that is not verified, as text",
        claims._is_true,
        'value.lower() == "true"',
        "bool(value)",
        with_token(test_claims.test_an_address_that_is_not_verified_is_nobody, "false", test_claims.PEOPLE),
    ),
    Twin(
        "required claims that are not",
        claims.demand_required,
        "if wanted.isdisjoint(",
        "if False and wanted.isdisjoint(",
        with_token(
            test_claims.test_a_token_that_does_not_say_what_is_required_is_refused, {"tid": "t-1"}, {"tid": "t-2"}
        ),
    ),
    Twin(
        "groups that are left out as none",
        claims.groups,
        "return None",
        "return frozenset()",
        with_token(test_claims.test_groups_that_are_left_out_are_not_none, test_claims.OVERAGE["a pointer"]),
    ),
    Twin(
        "a sign of too many groups overlooked",
        claims.groups,
        '(_last_segment(named) == "groups" and _is_true(payload.get("hasgroups", False)))',
        "False",
        with_token(test_claims.test_groups_that_are_left_out_are_not_none, test_claims.OVERAGE["a sign"]),
    ),
    Twin(
        "roles that are left out, by the name of where they are",
        claims.roles,
        "if _is_left_out(payload, issuer.roles_claim):",
        "if False:",
        with_token(test_claims.test_roles_that_are_left_out_give_nothing),
    ),
    Twin(
        "a token for nobody",
        claims.demand_audience,
        "if given is _ABSENT:",
        "if given is _ABSENT:\n        return\n    if False:",
        with_token(test_claims.test_a_token_for_nobody_or_for_another_is_refused, {"aud": test_claims.DROP}),
    ),
    Twin(
        "a token for another, by another claim",
        claims.demand_audience,
        '"aud" if "aud" in payload else issuer.audience_claim',
        "issuer.audience_claim",
        with_token(
            test_claims.test_a_token_for_nobody_or_for_another_is_refused, {"aud": "other", "client_id": "client-1"}
        ),
    ),
    Twin(
        "a rule that is passed over where it cannot be judged",
        claims._rule,
        "if verdict is not Verdict.NOT_MET:",
        "if False:",
        with_token(test_claims.test_a_rule_that_cannot_be_judged_is_not_passed_over),
    ),
    Twin(
        "a condition on claims that cannot be judged as met",
        condition.judge_claims,
        "if value is False else Verdict.ERROR",
        "if value is False else Verdict.MET",
        with_token(test_claims.test_a_rule_that_cannot_be_judged_is_not_passed_over),
    ),
    Twin(
        "two tokens of one principal",
        PrincipalRule.principal,
        "(value + after).index(after) != len(value)",
        "False",
        with_token(test_claims.test_two_tokens_never_give_one_principal, "{a}:{b}", ("x:y", "z"), ("x", "y:z")),
    ),
    Twin(
        "two tokens of one principal, by the end of a claim",
        PrincipalRule.principal,
        "(value + after).index(after) != len(value)",
        "after in value",
        with_token(test_claims.test_two_tokens_never_give_one_principal, "{a}::{b}", ("x:", "y"), ("x", ":y")),
    ),
    Twin(
        "a principal that looks like a pattern",
        names.principal,
        'if "*" in rest:',
        "if False:",
        lambda: test_name.test_what_is_no_principal("user:ext-*"),
    ),
    Twin(
        "a token of another purpose",
        authentication._check_header,
        "jws.plain_type(typ) not in map(",
        "False and typ not in map(",
        with_forge(test_authentication.test_a_token_with_a_wrong_header_is_refused, {"typ": "jit-denial+jwt"}),
    ),
    Twin(
        "the token of a grant",
        authentication.Authenticator._check_claims,
        "if is_of_grant(payload):",
        "if False:",
        with_forge(test_authentication.test_a_grants_token_used_as_an_identity_token, [test_authentication.DETAIL]),
    ),
    Twin(
        "the token of a log-out",
        authentication.Authenticator._check_claims,
        'if "events" in payload:',
        "if False:",
        with_forge(
            test_authentication.test_a_token_that_says_something_wrong_is_refused,
            test_authentication.BAD_CLAIMS["the event of a log-out"],
        ),
    ),
    Twin(
        "any of two keys for a token without kid",
        keys.KeySet.only,
        "if len(fitting) == 1 else None",
        "if fitting else None",
        with_forge(test_keys.test_the_only_key_that_fits_is_found_without_its_name, ["a", "b"], False),
    ),
    Twin(
        "a fetch that is waited for under the lock",
        keys.UrlKeys._fetching,
        "self._fetch.start()",
        "self._fetch.start(); self._fetch.join()",
        with_provider(test_keys.test_known_keys_do_not_wait_for_those_that_are_fetched, clock=True),
    ),
    Twin(
        "a known key that waits for a fetch",
        keys.UrlKeys.find,
        "(found is None or forgotten)",
        "True",
        with_provider(test_keys.test_known_keys_do_not_wait_for_those_that_are_fetched, clock=True),
    ),
    Twin(
        "a fetch for each made-up kid",
        keys.UrlKeys._fetching,
        " or tried <= pause",
        "",
        with_provider(test_keys.test_made_up_kids_do_not_flood_the_issuer, clock=True),
    ),
    Twin(
        "many fetches at a time",
        keys.UrlKeys._fetching,
        "if self._fetch is not None and self._fetch.is_alive():",
        "if False:",
        with_provider(test_keys.test_one_fetch_is_under_way_at_a_time, clock=True),
    ),
    Twin(
        "a fetch without end",
        fetching.Documents._deadline.__wrapped__,  # type: ignore[attr-defined]
        "end.start()",
        "pass",
        with_provider(test_keys.test_an_issuer_that_drips_is_cut_off),
    ),
    Twin(
        "keys that were never had as a bad token",
        keys.UrlKeys.find,
        "if found is None and not self._is_sure():",
        "if False:",
        with_provider(test_keys.test_keys_that_were_never_had_are_no_fault_of_the_token),
    ),
    Twin(
        "keys for ever, once they were had",
        keys._found,
        "now - state.fetched_at <= _STALE_SECONDS",
        "state.sure or True",
        with_provider(test_keys.test_while_the_issuer_is_away_known_keys_serve_for_an_hour, clock=True),
    ),
    Twin(
        "another issuer's discovery document",
        fetching.discovered,
        'document.get("issuer") != issuer',
        "False",
        with_provider(
            test_keys.test_a_document_that_is_anothers_or_leads_astray_has_no_keys,
            {"issuer": "https://other.example.com"},
        ),
    ),
    Twin(
        "keys by plain http",
        fetching._request,
        "if not is_safe_url(url):",
        "if False:",
        with_provider(test_keys.test_keys_by_plain_http_from_elsewhere_are_not_fetched),
    ),
    Twin(
        "a token for whomever the issuer names",
        fetching.Documents._read,
        " and _origin_of(url) == self._origin",
        "",
        the_token_of_a_cluster_stays_there,
    ),
]


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_no_twin_survives(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    demand_caught(twin, monkeypatch)


def test_each_twin_has_its_own_bug() -> None:
    assert len({(twin.function, twin.sound, twin.bug) for twin in TWINS}) == len(TWINS)


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_what_catches_a_twin_passes_without_it(twin: Twin) -> None:
    twin.caught_by()
