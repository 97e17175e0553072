"""The issuers' accounts of a principal, from grants, reviews, delegations, and what is known of forgotten ones."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, or_
from sqlmodel import col, select

from jit_service.domain.language import name
from jit_service.domain.person import Account, Person
from jit_service.storage import prepared
from jit_service.storage.forgotten import KnownNameRow
from jit_service.storage.readers.reading import Reading
from jit_service.storage.tables import DelegationRow, GrantRow, ReviewRow


class AccountReader(Reading):
    """Reads which accounts and other names belong to a principal."""

    def requesters_of(self, person: Person) -> list[str]:
        """Returns the other names under which the person's account requested grants."""
        if person.account is None:
            return []
        asked = self._distinct(
            GrantRow.requester, GrantRow.requester_issuer, GrantRow.requester_issuer_subject, person.account
        )
        return [other for other in asked if other != person.principal]

    def reviewers_of(self, person: Person) -> list[str]:
        """Returns the folded names under which the person, or its account, may have reviewed grants."""
        own = {name.canonical(person.principal)}
        if person.account is not None:
            own |= set(
                self._distinct(ReviewRow.reviewer_key, ReviewRow.issuer, ReviewRow.issuer_subject, person.account)
            )
        return sorted(own)

    def _distinct(self, named: Any, issuer: Any, subject: Any, account: Account) -> list[str]:
        """Returns the names of the account, by a step of the index each: an account may have many rows of one name."""
        following, found = prepared.name_after(named, issuer, subject), [""]
        while True:
            after = {"issuer": account.issuer, "subject": account.subject, "last": found[-1]}
            [next_one] = following.rows(self._connection, **after)
            if next_one.name is None:
                return found[1:]
            found.append(next_one.name)

    def known_as(self, principal: str) -> tuple[list[Account], list[str]]:
        """Returns the principal's accounts, and the other names that those accounts had."""
        same = name.canonical(principal)
        holds = and_(col(GrantRow.subject_key) == same, col(GrantRow.subject) == col(GrantRow.requester))
        asked = or_(holds, col(GrantRow.requester) == principal)
        places = (
            (GrantRow.requester_issuer, GrantRow.requester_issuer_subject, asked),
            (ReviewRow.issuer, ReviewRow.issuer_subject, col(ReviewRow.reviewer_key) == same),
            (
                DelegationRow.delegator_issuer,
                DelegationRow.delegator_issuer_subject,
                col(DelegationRow.delegator) == principal,
            ),
            (KnownNameRow.issuer, KnownNameRow.issuer_subject, col(KnownNameRow.principal_key) == same),
        )
        found: set[Account] = set()
        for issuer, subject, where in places:
            wanted = select(issuer, subject).where(where, col(issuer) != "").distinct()
            found |= {Account(*row) for row in self._session.exec(wanted)}
        accounts = sorted(found)
        names = {
            other
            for named, issuer, subject in (
                (GrantRow.requester, GrantRow.requester_issuer, GrantRow.requester_issuer_subject),
                (KnownNameRow.principal, KnownNameRow.issuer, KnownNameRow.issuer_subject),
            )
            for account in accounts
            for other in self._distinct(named, issuer, subject, account)
        }
        return accounts, sorted(other for other in names if name.canonical(other) != same)
