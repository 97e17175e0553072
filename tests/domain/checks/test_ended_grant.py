"""A grant that is over explains a no in the same words after it was shortened, and is never judged as a live one."""

from __future__ import annotations

from datetime import datetime

import pytest

from jit_service.domain.checks.decision import Decision, decide
from jit_service.domain.checks.ended_grant import shorten
from jit_service.domain.checks.evidence import Candidate, Evidence
from jit_service.domain.grants.grant import Grant
from tests.domain.factories import HOUR, NOON, TICK, approved, deny_policy, pending, question, release, revoke

LATER = NOON + 2 * HOUR
ENDED = [
    pytest.param(approved(ttl=HOUR), id="expired"),
    pytest.param(revoke(approved()), id="revoked"),
    pytest.param(release(approved(), at=NOON + TICK), id="released"),
    pytest.param(revoke(approved(start_at=NOON + HOUR)), id="revoked before its start"),
]


def decision(grant: Candidate, *, at: datetime = LATER) -> Decision:
    return decide(question(), grants=[grant], evidence=Evidence([deny_policy()], at))


@pytest.mark.parametrize("grant", ENDED)
def test_it_explains_in_the_same_words(grant: Grant) -> None:
    whole, short = decision(grant), decision(shorten(grant))

    assert not short.allowed
    assert short[:2] == whole[:2]
    assert [finding[:3] for finding in short.findings] == [finding[:3] for finding in whole.findings]
    assert short.grant is not None
    assert (short.grant.name, short.grant.policy) == (grant.name, grant.policy)
    assert (short.grant.policy_revision, short.grant.chain) == (grant.policy_revision, grant.chain)


@pytest.mark.parametrize("at", [NOON - HOUR, NOON, NOON + TICK, LATER])
@pytest.mark.parametrize("grant", ENDED)
def test_it_allows_at_no_instant(grant: Grant, at: datetime) -> None:
    """A view may be of an instant before the one at which the store was asked."""
    assert not decision(shorten(grant), at=at).allowed


def test_what_was_never_given_cannot_be_shortened() -> None:
    with pytest.raises(AssertionError, match="explains nothing"):
        shorten(pending())
