"""Of a requester's token the store has the claims that conditions read, or those that the settings name; no others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from jit_service.check import GrantCache
from jit_service.domain.caller import Caller
from jit_service.domain.errors import ConditionError, InvalidField, PolicyNoLongerAllows
from jit_service.domain.policies.diff import PolicyDraft
from jit_service.storage import Store
from jit_service.use_cases import grants, policies
from tests.storage.people import ADMIN, ALICE, BOB, add_policy, ask, policy

TOKEN = {"department": "db", "phone_number": "+49 30 1234567", "suspended": True}
READING = 'claims.department == "db"'


def alice(*stored: str) -> Caller:
    return ALICE._replace(claims=TOKEN, stored_claims=frozenset(stored) if stored else None)


def everything(store: Store) -> Iterator[str]:
    """Yields each value of the tables that know of a request."""
    with store.engine.begin() as connection:
        for table in ("access_grant", "grant_change", "audit_event", "replay", "review"):
            for row in connection.execute(text(f"SELECT * FROM {table}")):
                yield from (
                    bytes(each).decode(errors="replace") if isinstance(each, bytes | memoryview) else str(each)
                    for each in row
                )


def has(store: Store, value: str) -> bool:
    return any(value in each for each in everything(store))


@pytest.mark.parametrize(
    ("stored", "there", "gone"),
    [
        ((), ("department", "db"), ("phone_number", "+49 30 1234567", "suspended")),
        (("phone_number", "department"), ("db", "+49 30 1234567"), ("suspended",)),
    ],
)
def test_the_store_has_no_other_claims(
    store: Store, stored: tuple[str, ...], there: tuple[str, ...], gone: tuple[str, ...]
) -> None:
    add_policy(store, check_condition=READING)

    granted = ask(store, caller=alice(*stored))
    grants.approve(store, BOB, granted.name, comment="", etag="")

    for value in there:
        assert has(store, value), value
    for value in gone:
        assert not has(store, value), value


def test_what_check_keeps_of_the_claims_is_as_it_was_sealed(store: Store) -> None:
    add_policy(store, check_condition=READING, steps=())
    ask(store, caller=alice())
    cache = GrantCache(store, clock=store.clock, bound=timedelta(seconds=1))

    cache.start()

    try:
        cache.strong([ALICE.principal])
        assert cache.size == 1
    finally:
        cache.stop()


def test_a_policy_that_comes_to_read_another_claim_refuses_the_requests_that_wait(store: Store) -> None:
    add_policy(store, check_condition=READING)
    waiting = ask(store, caller=alice())

    policies.update(
        store, ADMIN, "policies/orders", etag="", change=lambda _: policy(check_condition="!has(claims.suspended)")
    )

    with pytest.raises(PolicyNoLongerAllows, match=r"reads claims\.suspended, which was not kept"):
        grants.approve(store, BOB, waiting.name, comment="", etag="")


def test_a_request_whose_condition_reads_what_is_not_stored_is_refused(store: Store) -> None:
    add_policy(store, check_condition=READING)

    with pytest.raises(ConditionError, match=r"reads claims\.department, which was not kept"):
        ask(store, caller=alice("phone_number"))


@pytest.mark.parametrize("apply", [True, False])
def test_a_policy_that_reads_what_is_not_stored_is_refused(store: Store, apply: bool) -> None:
    admin, wanted = ADMIN._replace(stored_claims=frozenset({"phone_number"})), policy(check_condition=READING)

    def write() -> Any:
        if apply:
            return policies.apply(store, admin, [PolicyDraft(policy=wanted)], prune=False)
        return policies.create(store, admin, wanted)

    with pytest.raises(InvalidField, match=r"check_condition: reads claims\.department, which this service does not"):
        write()
