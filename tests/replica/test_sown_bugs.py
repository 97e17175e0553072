"""Vulnerable twins: each has one bug that would let a replica say yes where the service says no. All must be caught."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import jit_service.feeds.replica
from jit_service.domain.grants.grant import Limits
from jitaccess.naming import names, pattern
from jitaccess.replica import decision, state
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.replica import test_agreement, test_replica

AGREE = test_agreement.test_a_replica_says_nothing_that_the_service_would_not

TWINS = [
    Twin(
        "an inclusive expiry",
        decision._finding,
        "latest >= grant.expire",
        "latest > grant.expire",
        test_replica.test_the_first_instant_after_access_is_not_access,
    ),
    Twin(
        "an expiry by the earliest that it may be",
        decision._finding,
        "latest >= grant.expire",
        "earliest >= grant.expire",
        test_replica.test_access_ends_by_the_services_clock_at_the_latest,
    ),
    Twin(
        "a start by the latest that it may be",
        decision._finding,
        "earliest < grant.start or",
        "",
        test_replica.test_access_begins_by_the_services_clock_at_the_earliest,
    ),
    Twin(
        "no start at all",
        decision._finding,
        "if latest < grant.start:",
        "if False:",
        test_replica.test_access_begins_by_the_services_clock_at_the_earliest,
    ),
    Twin(
        "a lock that nobody asks for",
        decision.judge,
        "if locks and (locked :=",
        "if False and (locked :=",
        test_replica.test_the_locked_have_no_yes_in_any_letter_case,
    ),
    Twin(
        "a lock on one spelling of a principal",
        decision.Locks._on,
        "canonical(principal)",
        "principal",
        test_replica.test_the_locked_have_no_yes_in_any_letter_case,
    ),
    Twin(
        "a locked group that the grant's groups are not asked for",
        decision._finding,
        "locks.on(grant.subject, grant.groups,",
        "locks.on(grant.subject, frozenset(),",
        test_replica.test_a_locked_group_is_asked_for_the_grants_groups,
    ),
    Twin(
        "a lock that is over by the latest that it may be",
        decision.Locks.on,
        "if earliest < lock.until:",
        "if False:",
        test_replica.test_a_lock_ends_by_the_services_clock,
    ),
    Twin(
        "a lock that is never over",
        decision.Locks.on,
        "lock.until is None or latest < lock.until",
        "True",
        test_replica.test_a_lock_ends_by_the_services_clock,
    ),
    Twin(
        "locks that are not taken over",
        state.Replica._settle,
        "self._locks = self._staged_locks",
        "pass",
        test_replica.test_locks_hold_from_their_heartbeat_until_the_next_that_tells_of_none,
    ),
    Twin(
        "a token of the locked",
        decision.is_live,
        "if locks and (locked :=",
        "if False and (locked :=",
        test_replica.test_a_token_of_the_locked_counts_no_more,
    ),
    Twin("a condition that is ignored", decision._finding, "grant.needs_check or", "", AGREE),
    Twin("a deny that is ignored", decision._finding, "denies.against(grant, action, resource)", '""', AGREE),
    Twin(
        "a name that nobody vouches for",
        decision._finding,
        "if not (_is_sound(grant.actions",
        "if False and not (_is_sound(grant.actions",
        AGREE,
    ),
    Twin(
        "a resource that nobody asks about",
        decision.judge,
        "grant.resources.match(resource)",
        "True",
        lambda: test_replica.test_a_pattern_covers_what_the_services_does(("database/a",), "database/b", False),
    ),
    Twin(
        "an action that nobody asks about",
        decision.judge,
        "grant.actions.match(action)",
        "True",
        test_replica.test_an_action_is_covered_too,
    ),
    Twin(
        "a no that hides what the service may allow",
        decision._best_explanation,
        "min(",
        "max(",
        test_replica.test_a_no_is_none_where_the_service_may_allow_it,
    ),
    Twin(
        "groups that nobody proved and that count as none",
        decision.Deny._names,
        "bool(self.groups) if grant.groups is None else",
        "False if grant.groups is None else",
        test_replica.test_groups_that_nobody_proved_may_be_any,
    ),
    Twin(
        "a deny by name that is ignored",
        decision.Deny._names,
        "return True",
        "return False",
        test_replica.test_a_deny_is_for_what_it_covers,
    ),
    Twin(
        "a deny of some groups that looks away too soon",
        decision.Denies.against,
        " and grant.key not in self._principals",
        "",
        test_replica.test_a_deny_is_for_what_it_covers,
    ),
    Twin(
        "unproved groups that no deny is asked about",
        decision.Denies.against,
        "groups is not None and self._groups.isdisjoint(groups)",
        "(groups is None or self._groups.isdisjoint(groups))",
        test_replica.test_groups_that_nobody_proved_may_be_any,
    ),
    Twin(
        "a * for any number of segments",
        pattern._covers,
        "if len(outer) != len(inner)",
        "if len(outer) > len(inner)",
        lambda: test_replica.test_a_pattern_covers_what_the_services_does(("database/*",), "database/a/b", False),
    ),
    Twin(
        "a beginning of a segment that covers nothing",
        pattern._each_covers,
        'left.endswith("*") and right.startswith(left[:-1])',
        "False",
        lambda: test_replica.test_a_pattern_covers_what_the_services_does(("k8s/prod-*",), "k8s/prod-eu", True),
    ),
    Twin(
        "a beginning of a segment that goes on beyond it",
        pattern._covers,
        "if len(outer) != len(inner)",
        'if len(outer) != len(inner) and not (len(outer) < len(inner) and outer[-1].endswith("-*"))',
        lambda: test_replica.test_a_pattern_covers_what_the_services_does(("k8s/prod-*",), "k8s/prod-eu/x", False),
    ),
    Twin(
        "a ** for no segment",
        pattern.Patterns.__init__,
        'removesuffix("**") for',
        'removesuffix("/**") for',
        lambda: test_replica.test_a_pattern_covers_what_the_services_does(("database/a/**",), "database/a", False),
    ),
    Twin(
        "a name with a dot-dot in it",
        decision.is_plain,
        '(is_resource(name) if separator == "/" else is_action(name))',
        "True",
        AGREE,
    ),
    Twin(
        "a name of any length",
        names.resource,
        "len(text) <= MAX_RESOURCE and",
        "",
        test_agreement.test_a_name_that_is_too_long_is_not_plain,
    ),
    Twin(
        "staleness that is ignored",
        state.Replica.judge,
        "if age >= self._max_age:",
        "if False:",
        test_replica.test_a_replica_is_stale_exactly_at_its_bound,
    ),
    Twin(
        "a replica without a state that says yes or no",
        state.Replica.is_fresh,
        "< self._max_age",
        "<= self._max_age",
        test_replica.test_a_replica_is_stale_exactly_at_its_bound,
    ),
    Twin(
        "an age from when the heartbeat came",
        state._Mark.age,
        "- self.elapsed",
        "- since",
        test_replica.test_a_heartbeat_that_lay_in_a_buffer_is_as_old_as_it_says,
    ),
    Twin(
        "clocks that never drift",
        state._Mark.age,
        "+ since // _DRIFT",
        "",
        test_replica.test_a_heartbeat_that_lay_in_a_buffer_is_as_old_as_it_says,
    ),
    Twin(
        "the service's clock as it was",
        state.Replica.judge,
        "latest=mark.read + age // 1000 + 1",
        "latest=mark.read",
        test_replica.test_access_ends_by_the_services_clock_at_the_latest,
    ),
    Twin(
        "updates that count one by one",
        state.Replica.take,
        "self._staged_denies = Denies(",
        "self._denies = self._staged_denies = Denies(",
        test_replica.test_a_revocation_and_the_end_of_a_deny_come_together,
    ),
    Twin(
        "a broken stream's half of a state",
        state.Replica._open_at,
        "self._staged = []",
        "pass",
        test_replica.test_what_a_broken_stream_told_without_a_heartbeat_is_dropped,
    ),
    Twin(
        "a new beginning that keeps the old",
        state.Replica._settle,
        "self._mark is None or self._begin_anew",
        "self._mark is None",
        test_replica.test_a_replica_that_begins_anew_keeps_nothing_of_before,
    ),
    Twin(
        "what ended stays",
        state.Replica._put,
        "message.state in _LIVE",
        "True",
        lambda: test_replica.test_what_ended_is_gone(test_replica.GrantState.REVOKED),
    ),
    Twin(
        "what changed stays as well",
        state.Replica._put,
        "if known is not None:",
        "if False:",
        test_replica.test_a_change_takes_the_place_of_what_was,
    ),
    Twin(
        "an ended grant that is loaded",
        state._loaded,
        "if message.state in _LIVE",
        "",
        test_replica.test_what_is_over_is_not_loaded,
    ),
    Twin(
        "deny policies that never came",
        state.Replica._settle,
        "self._denies_told = self._denies_told or self._staged_denies is not None",
        "self._denies_told = True",
        test_replica.test_a_service_that_tells_no_deny_policies_feeds_no_replica,
    ),
    Twin(
        "a condition that is not told of",
        jit_service.feeds.replica._needs_check,
        "grant.check_condition or",
        "",
        lambda: test_replica.test_what_depends_on_more_than_is_told_is_left_to_the_service(
            {"check_condition": "context.build == 1"}
        ),
    ),
    Twin(
        "limits that are not told of",
        jit_service.feeds.replica._needs_check,
        "grant.is_metered or",
        "",
        lambda: test_replica.test_what_depends_on_more_than_is_told_is_left_to_the_service(
            {"limits": Limits(max_uses=2)}
        ),
    ),
    Twin(
        "what was passed on as if it were not",
        jit_service.feeds.replica._needs_check,
        "grant.chain or",
        "",
        lambda: test_replica.test_what_depends_on_more_than_is_told_is_left_to_the_service(
            {"chain": ("grants/above",)}
        ),
    ),
    Twin(
        "the asker's own groups forgotten",
        jit_service.feeds.replica._needs_check,
        "or grant.subject == caller.principal",
        "",
        AGREE,
    ),
    Twin(
        "groups of whoever asked for another",
        jit_service.feeds.replica.checkable,
        "groups=grant.subject_groups",
        "groups=grant.requester_groups",
        test_replica.test_groups_that_nobody_proved_may_be_any,
    ),
]


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_no_twin_survives(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    demand_caught(twin, monkeypatch)


def test_each_twin_has_its_own_bug() -> None:
    assert len({(twin.function, twin.sound, twin.bug) for twin in TWINS}) == len(TWINS)


@pytest.mark.parametrize("caught_by", dict.fromkeys(twin.caught_by for twin in TWINS))
def test_what_catches_a_twin_passes_without_it(caught_by: Callable[[], None]) -> None:
    caught_by()
