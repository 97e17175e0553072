"""Use cases of tokens: issue, verify, introspect, revoke. The store never holds a token, nor do logs and audit.

A token that verifies offline is good until it is over. `verify` asks the store too, so for it a token ends with its
grant, with a deny policy, and when it is revoked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter

from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import JitError, Locked, RoleRequired, TokenNotPossible
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.lock import demand_unlocked
from jit_service.domain.tokens import token as rules
from jit_service.domain.tokens.token import Token, TokenRequest
from jit_service.storage import Snapshot, Store, Transaction
from jit_service.use_cases.delegations import with_delegations
from jit_service.use_cases.grants import read_visible
from jit_service.use_cases.idempotency import answered_before, remember
from jit_service.use_cases.identifiers import new_name
from jit_service.use_cases.signing_keys import Issuing, signing_key
from jitaccess.jose.jws import MAX_TOKEN
from jitaccess.jose.keys import GivenKeys
from jitaccess.jose.refusal import TokenRefused
from jitaccess.jose.tokens import DETAIL, GrantToken, read_token

_TOKENS: Final = TypeAdapter(Token)


@dataclass(frozen=True, kw_only=True)
class IssuedToken:
    """A token with its text, which is shown to nobody but who asked for it."""

    token: Token
    text: str

    def __repr__(self) -> str:
        return f"IssuedToken(token={self.token!r})"


def issue(store: Store, issuing: Issuing, caller: Caller, grant_name: str, wanted: TokenRequest) -> IssuedToken:
    """Issues a token of the caller's own active grant. The same request_id again has one of the same claims.

    Raises NotVisible, GrantNotFound, RequestIdReused, KeysUnavailable, and what `domain.token.issued` raises.
    """
    with store.transaction() as tx:
        grant = read_visible(tx, with_delegations(tx, caller), grant_name)
        rules.demand_holder(grant, caller)
        key = signing_key(tx)
        # Kept are the claims alone: they are nothing without a signature.
        if (earlier := answered_before(tx, caller, _TOKENS)) is not None:
            _demand_carriable(tx, grant, caller)
            return IssuedToken(token=earlier[0], text=issuing.ring.sign(key, claims(earlier[0])))
        token, event = rules.issue(
            grant,
            rules.normalize(wanted, cap=issuing.cap),
            above=tx.ancestors([grant]),
            policies=tx.policies(),
            by=caller,
            issuer=issuing.issuer,
            token_id=new_name("tokens").removeprefix("tokens/"),
            cap=issuing.cap,
            now=tx.now,
            locks=tx.locks,
        )
        text = issuing.ring.sign(key, claims(token))
        if len(text) > MAX_TOKEN:
            raise TokenNotPossible(
                f"{grant.name} names too much for a token of {MAX_TOKEN} characters", grant=grant.name
            )
        tx.save_token(key, expires_at=token.expires_at, event=event)
        remember(tx, caller, _TOKENS, token)
        return IssuedToken(token=token, text=text)


def claims(token: Token) -> dict[str, Any]:
    """Returns what the token says as RFC 9068 and RFC 9396 have it."""
    return {
        "iss": token.issuer,
        "sub": token.subject,
        "aud": list(token.audience),
        "client_id": token.client_id,
        "iat": int(token.issued_at.timestamp()),
        "exp": int(token.expires_at.timestamp()),
        "jti": token.id,
        "authorization_details": [
            {
                "type": DETAIL,
                "grant": token.grant,
                "policy": token.policy,
                "actions": list(token.actions),
                "resources": list(token.resources),
                "chain": list(token.chain),
            }
        ],
    }


def verify_grant_token(store: Store, issuing: Issuing, token: str, *, audience: str | None = None) -> GrantToken:
    """Returns what the token says, where it counts at the store's latest commit, and for the audience if one is given.

    It counts until it is over, it is revoked, its grant or one above that ends, or a deny policy or a lock reaches into
    it. Raises TokenRefused for any that does not, Locked, KeysUnavailable, StoreUnavailable.
    """
    with store.snapshot() as snapshot:
        held = _read(snapshot, issuing, token)
        if audience is not None and audience not in held.audience:
            raise TokenRefused(f"the token is not for {audience}", reason="WRONG_AUDIENCE")
        # Its holder is known, and may not, also where the grant has ended with the lock.
        demand_unlocked(snapshot.locks, held.subject, frozenset())
        _demand_live(snapshot, held)
        return held


def introspect(store: Store, issuing: Issuing, caller: Caller, token: str) -> Mapping[str, Any]:
    """Answers what RFC 7662 says of the token: its claims, or only that it is not active.

    Raises RoleRequired for a caller that is neither a checker nor the subject of a token that this service signed.
    """
    with store.snapshot() as snapshot:
        try:
            held = _read(snapshot, issuing, token)
        except TokenRefused:
            held = None
        if not caller.has(Role.CHECKER) and (held is None or held.subject != caller.principal):
            needed = "asking about a token that is not one's own, and good, needs the role checker"
            raise RoleRequired(f"{needed}, which {caller.principal} does not have", needed=Role.CHECKER)
        if held is None or not _is_live(snapshot, held):
            return {"active": False}
        return {"active": True, "token_type": "Bearer", "username": held.subject} | claims(_token(held))


def revoke(store: Store, issuing: Issuing, caller: Caller, token: str) -> None:
    """Denies a token until it is over (RFC 7009). One that is none, over or revoked is left as it is.

    Raises NotYours for a token of somebody else.
    """
    with store.transaction() as tx:
        try:
            held = _read(tx, issuing, token)
        except TokenRefused:
            return
        event = rules.revocation_event(held.token_id, grant=held.grant, subject=held.subject, by=caller, now=tx.now)
        if not tx.is_denied(held.token_id):
            tx.deny_token(held.token_id, expires_at=held.expire_time, event=event)


def metadata(issuing: Issuing) -> Mapping[str, Any]:
    """Answers where everything is, as RFC 8414 and RFC 9396 have it."""
    return {
        "issuer": issuing.issuer,
        "jwks_uri": f"{issuing.issuer}/.well-known/jwks.json",
        "introspection_endpoint": f"{issuing.issuer}/oauth2/introspect",
        "introspection_endpoint_auth_methods_supported": ["Bearer"],
        "revocation_endpoint": f"{issuing.issuer}/oauth2/revoke",
        "revocation_endpoint_auth_methods_supported": ["Bearer"],
        "response_types_supported": [],
        "grant_types_supported": [],
        "authorization_details_types_supported": [DETAIL],
    }


def _read(snapshot: Snapshot, issuing: Issuing, token: str) -> GrantToken:
    keys = GivenKeys({"keys": [issuing.ring.public(key) for key in snapshot.signing_keys()]})
    return read_token(token, keys, issuer=issuing.issuer, max_lifetime=issuing.cap, now=snapshot.now)


def _demand_live(snapshot: Snapshot, held: GrantToken) -> None:
    over = TokenRefused(f"the token was revoked, or {held.grant} is not live any more", reason="GRANT_OVER")
    grant = None if snapshot.is_denied(held.token_id) else snapshot.grant(held.grant)
    if grant is None or grant.subject != held.subject:
        raise over
    try:
        _demand_carriable(snapshot, grant, None)
    except Locked:
        raise
    except JitError:
        raise over from None


def _is_live(snapshot: Snapshot, held: GrantToken) -> bool:
    try:
        _demand_live(snapshot, held)
    except (JitError, TokenRefused):
        return False
    return True


def _demand_carriable(snapshot: Snapshot | Transaction, grant: Grant, holder: Caller | None) -> None:
    rules.demand_carriable(
        grant,
        above=snapshot.ancestors([grant]),
        policies=snapshot.policies(),
        holder=holder,
        now=snapshot.now,
        locks=snapshot.locks,
    )


def _token(held: GrantToken) -> Token:
    return Token(
        id=held.token_id,
        issuer=held.issuer,
        audience=held.audience,
        subject=held.subject,
        client_id=held.client_id,
        issued_at=held.issue_time,
        expires_at=held.expire_time,
        grant=held.grant,
        policy=held.policy,
        resources=held.resources,
        actions=held.actions,
        chain=held.chain,
    )
