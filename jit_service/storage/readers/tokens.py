"""Keys that sign tokens, and tokens that were revoked."""

from __future__ import annotations

from sqlmodel import col, select

from jit_service.domain.tokens.signing_key import SigningKey
from jit_service.storage import rows
from jit_service.storage.readers.reading import Reading
from jit_service.storage.tables import SigningKeyRow, TokenDenialRow


class TokenReader(Reading):
    """Reads signing keys and denials of tokens."""

    def signing_keys(self) -> list[SigningKey]:
        """Returns every key that tokens are or were signed with, in the order in which they sign."""
        wanted = select(SigningKeyRow).order_by(col(SigningKeyRow.signs_at), col(SigningKeyRow.kid))
        return [rows.signing_key_of(row, sealing_key=self.sealing_key) for row in self._session.exec(wanted)]

    def is_denied(self, token_id: str) -> bool:
        """Whether the token was revoked."""
        return self._session.get(TokenDenialRow, token_id) is not None

    def has_old_denials(self) -> bool:
        """Whether a denial can go, since its token has expired."""
        old = select(TokenDenialRow.token_id).where(col(TokenDenialRow.expires_at) <= self.now).limit(1)
        return self._session.exec(old).first() is not None
