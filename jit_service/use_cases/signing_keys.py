"""Use cases of the keys that tokens are signed with: published, rotated, removed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from jit_service.domain.audit.event import SERVICE
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.errors import KeysUnavailable, TokensOff
from jit_service.domain.tokens import signing_key as rules
from jit_service.domain.tokens.signing_key import KeyState, Rotation, SigningKey
from jit_service.storage import Snapshot, Store, Transaction
from jit_service.use_cases.keyring import KeyRing

MAX_CACHED = timedelta(minutes=5)
"""How long a verifier may keep the key set; a key is published longer than that before it signs."""


@dataclass(frozen=True, kw_only=True)
class Issuing:
    """How tokens are issued: in whose name, with which keys, for how long at most."""

    issuer: str
    ring: KeyRing
    rotation: Rotation
    cap: timedelta


class KeySet(NamedTuple):
    """A JWK set as it is served. The etag is quoted, as in the header."""

    body: bytes
    etag: str


class ListedKey(NamedTuple):
    """A key and what it is for now."""

    key: SigningKey
    state: KeyState


def demand_issuing(issuing: Issuing | None) -> Issuing:
    """Returns how tokens are issued. Raises TokensOff where they are not."""
    if issuing is None:
        raise TokensOff("this service issues no tokens: no token_issuer is set")
    return issuing


def key_set(store: Store, issuing: Issuing) -> KeySet:
    """Answers the keys that tokens verify by: those that sign, will, or did for tokens that are not over."""
    with store.snapshot() as snapshot:
        return _key_set(snapshot.signing_keys(), issuing)


def list_all(store: Store) -> list[ListedKey]:
    """Answers every key, in the order in which they sign."""
    with store.snapshot() as snapshot:
        keys = snapshot.signing_keys()
        return [ListedKey(key, rules.state(key, keys, snapshot.now)) for key in keys]


def signing_key(snapshot: Snapshot) -> SigningKey:
    """Returns the key that signs now. Raises KeysUnavailable."""
    key = rules.signing(snapshot.signing_keys(), snapshot.now)
    if key is None:
        raise KeysUnavailable("there is no key to sign tokens with yet; try again")
    return key


def maintain(store: Store, issuing: Issuing) -> None:
    """Makes the next key where one is due, and removes those of which no token is valid any more."""
    with store.snapshot() as snapshot:
        if not _needs_tending(snapshot, issuing.rotation):
            return
    with store.transaction() as tx:
        signs_at = rules.next_signs_at(tx.signing_keys(), issuing.rotation, tx.now)
        if signs_at is not None:
            _add(tx, issuing.ring, signs_at, by=service_caller())
        for key in rules.over(tx.signing_keys(), tx.now):
            tx.remove_signing_key(
                key, rules.removed_event(key, why="its last token is over", by=service_caller(), now=tx.now)
            )


def rotate(store: Store, issuing: Issuing, *, by: Caller) -> SigningKey:
    """Adds a key that signs once every verifier can know it."""
    with store.transaction() as tx:
        return _add(tx, issuing.ring, tx.now + issuing.rotation.ahead, by=by)


def replace_all(store: Store, issuing: Issuing, *, by: Caller) -> SigningKey:
    """Removes every key at once and signs with a new one: what they signed counts no more."""
    with store.transaction() as tx:
        for key in tx.signing_keys():
            tx.remove_signing_key(key, rules.removed_event(key, why="it was compromised", by=by, now=tx.now))
        return _add(tx, issuing.ring, tx.now, by=by)


def _needs_tending(snapshot: Snapshot, rotation: Rotation) -> bool:
    keys = snapshot.signing_keys()
    due = rules.next_signs_at(keys, rotation, snapshot.now) is not None
    return due or bool(rules.over(keys, snapshot.now))


def _add(tx: Transaction, ring: KeyRing, signs_at: datetime, *, by: Caller) -> SigningKey:
    key = ring.new(now=tx.now, signs_at=signs_at, under=tx.sealing_key)
    tx.add_signing_key(key, rules.added_event(key, by=by, now=tx.now))
    return key


def _key_set(keys: list[SigningKey], issuing: Issuing) -> KeySet:
    body = json.dumps({"keys": [issuing.ring.public(key) for key in keys]}).encode()
    return KeySet(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def service_caller() -> Caller:
    """Returns the service as the caller of what it does by itself."""
    return Caller(principal=SERVICE, origin=Origin(method="keys"))
