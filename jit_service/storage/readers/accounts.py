"""The issuers' accounts of a principal, from grants, reviews and delegations."""

from __future__ import annotations

from sqlalchemy import and_, or_
from sqlmodel import col, select

from jit_service.domain.language import name
from jit_service.domain.person import Account
from jit_service.storage.readers.reading import Reading
from jit_service.storage.tables import DelegationRow, GrantRow, ReviewRow


class AccountReader(Reading):
    """Reads which accounts and other names belong to a principal."""

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
        )
        found: set[Account] = set()
        for issuer, subject, where in places:
            wanted = select(issuer, subject).where(where, col(issuer) != "").distinct()
            found |= {Account(*row) for row in self._session.exec(wanted)}
        accounts = sorted(found)
        named = [
            and_(col(GrantRow.requester_issuer) == issuer, col(GrantRow.requester_issuer_subject) == subject)
            for issuer, subject in accounts
        ]
        names = self._session.exec(select(col(GrantRow.requester)).where(or_(*named)).distinct()) if named else ()
        return accounts, sorted(other for other in names if name.canonical(other) != same)
