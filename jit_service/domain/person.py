"""Who is the same person: by the folded name, or by what their issuer calls them (invariant I29).

Names change with marriages and domains; an issuer's `sub` stays (OpenID Connect Core, 5.7). So whatever forbids, counts
or is owed asks both, and takes two for one person where either says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from jit_service.domain.language import name


class Account(NamedTuple):
    """What an issuer calls somebody: the `iss` and `sub` of its tokens."""

    issuer: str
    subject: str


class Person(NamedTuple):
    """Somebody by name, and by account where a token proved it."""

    principal: str
    account: Account | None = None

    def is_same(self, other: Person) -> bool:
        """Returns whether both are one person to whatever forbids."""
        return self.has_account(other.account) or name.canonical(self.principal) == name.canonical(other.principal)

    def has_account(self, account: Account | None) -> bool:
        """Returns whether the account is the person's: it is then whoever had it before, whatever the name was."""
        return account is not None and account == self.account


def count_distinct(people: Iterable[Person]) -> int:
    """Returns how many there are, each counted once under all names and accounts."""
    found: list[list[Person]] = []
    for person in people:
        known = [one for one in found if any(person.is_same(each) for each in one)]
        others = [one for one in found if one not in known]
        found = [*others, [person, *(each for one in known for each in one)]]
    return len(found)
