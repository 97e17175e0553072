"""Tokens and their keys, on every database: sealed, rotated once, denied, forgotten."""

from __future__ import annotations

import base64
import os
import stat
import uuid
from collections import Counter
from datetime import timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import text

from jit_service.domain.audit.event import EventType
from jit_service.domain.caller import Origin
from jit_service.domain.errors import JitError, KeysUnavailable, NotYours, RequestIdReused, StoreUnavailable
from jit_service.domain.grants.grant import Grant
from jit_service.domain.tokens.signing_key import KeyState, Rotation
from jit_service.domain.tokens.token import TokenRequest
from jit_service.runtime.service import Service, ServiceError
from jit_service.runtime.sweeper import tend_tokens
from jit_service.settings import Settings
from jit_service.storage import Store
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.use_cases import audit, grants, signing_keys, tokens
from jit_service.use_cases.keyring import KeyFileError, KeyRing, make_key_file, secrets_of
from jit_service.use_cases.signing_keys import Issuing, service_caller
from jitaccess import TokenRefused
from tests.conftest import HOUR, TICK, Clock
from tests.storage.people import ADMIN, ALICE, BOB, GATEWAY, add_policy, approve, ask
from tests.storage.test_races import at_once

DAY = timedelta(days=1)
CAP = timedelta(minutes=15)
ISSUER = "https://jit.example.com"
SECRET = bytes(range(32))


def issuing_with(ring: KeyRing) -> Issuing:
    return Issuing(issuer=ISSUER, ring=ring, rotation=Rotation(every=30 * DAY, ahead=HOUR), cap=CAP)


@pytest.fixture
def issuing(store: Store) -> Issuing:
    made = issuing_with(KeyRing(SealingKeys.of(SECRET)))
    signing_keys.maintain(store, made)
    return made


@pytest.fixture
def grant(store: Store) -> Grant:
    add_policy(store)
    return approve(store, ask(store))


def issue(store: Store, issuing: Issuing, grant: Grant) -> tokens.IssuedToken:
    return tokens.issue(store, issuing, ALICE, grant.name, TokenRequest())


def is_active(store: Store, issuing: Issuing, issued: tokens.IssuedToken) -> bool:
    return bool(tokens.introspect(store, issuing, GATEWAY, issued.text)["active"])


def count(store: Store, table: str) -> int:
    with store.engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def events(store: Store, *types: EventType) -> Counter[EventType]:
    page = audit.list_page(store, ADMIN, filter_text="", order_by="seq", page_size=1000, page_token="")
    return Counter(found.event.type for found in page.events if found.event.type in types)


def test_a_token_lives_until_it_is_revoked(store: Store, issuing: Issuing, grant: Grant) -> None:
    first, second = issue(store, issuing, grant), issue(store, issuing, grant)

    tokens.revoke(store, issuing, ALICE, first.text)

    assert not is_active(store, issuing, first)
    assert is_active(store, issuing, second)
    assert audit.verify(store).first_bad_seq == 0


def test_a_grant_that_is_revoked_takes_its_tokens_along(store: Store, issuing: Issuing, grant: Grant) -> None:
    issued = issue(store, issuing, grant)

    grants.revoke(store, BOB, grant.name, comment="over", etag="")

    assert not is_active(store, issuing, issued)
    with pytest.raises(TokenRefused):
        tokens.verify_grant_token(store, issuing, issued.text)


def test_a_denial_is_forgotten_with_its_token_and_not_before(
    store: Store, issuing: Issuing, grant: Grant, clock: Clock
) -> None:
    issued = issue(store, issuing, grant)
    tokens.revoke(store, issuing, ALICE, issued.text)

    clock.advance(CAP - TICK)
    tend_tokens(store, issuing)
    assert count(store, "token_denial") == 1
    assert not is_active(store, issuing, issued)

    clock.advance(TICK)
    tend_tokens(store, issuing)
    assert count(store, "token_denial") == 0
    assert not is_active(store, issuing, issued)


def test_revoking_at_once_is_one_revocation(store: Store, issuing: Issuing, grant: Grant) -> None:
    issued = issue(store, issuing, grant)

    outcomes = at_once(*[lambda: tokens.revoke(store, issuing, ALICE, issued.text)] * 4)

    assert outcomes == [None] * 4
    assert events(store, EventType.TOKEN_REVOKED) == {EventType.TOKEN_REVOKED: 1}


def test_issuing_while_the_grant_is_revoked_leaves_no_live_token(store: Store, issuing: Issuing) -> None:
    add_policy(store)
    for _ in range(8):
        grant = approve(store, ask(store))

        def revoke(grant: Grant = grant) -> object:
            return grants.revoke(store, BOB, grant.name, comment="over", etag="")

        _, outcome = at_once(revoke, lambda grant=grant: issue(store, issuing, grant))

        assert isinstance(outcome, JitError) or not is_active(store, issuing, outcome)  # type: ignore[arg-type]


def test_a_stranger_leaves_a_token_as_it_is(store: Store, issuing: Issuing, grant: Grant) -> None:
    issued = issue(store, issuing, grant)

    with pytest.raises(NotYours):
        tokens.revoke(store, issuing, BOB, issued.text)

    assert is_active(store, issuing, issued)
    assert count(store, "token_denial") == 0


def test_a_request_sent_again_is_the_same_token_and_another_is_refused(
    store: Store, issuing: Issuing, grant: Grant
) -> None:
    origin = Origin(request_id=str(uuid.uuid4()))
    caller = ALICE._replace(origin=origin, request_digest="d")

    first, again = (tokens.issue(store, issuing, caller, grant.name, TokenRequest()) for _ in range(2))

    assert first.token == again.token
    assert events(store, EventType.TOKEN_ISSUED) == {EventType.TOKEN_ISSUED: 1}
    with store.engine.connect() as connection:
        kept = connection.execute(text("SELECT answer FROM replay")).scalar_one()
    assert first.token.id in kept
    assert not any(part in kept for issued in (first, again) for part in issued.text.split("."))
    with pytest.raises(RequestIdReused):
        tokens.issue(store, issuing, caller._replace(request_digest="e"), grant.name, TokenRequest())


def test_no_private_key_is_in_the_store(store: Store, issuing: Issuing) -> None:
    (key,) = [listed.key for listed in signing_keys.list_all(store)]

    private = issuing.ring._opened(key)
    scalar = private.private_numbers().private_value.to_bytes(32, "big")
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    assert scalar in der
    assert scalar not in key.sealed
    assert "sealed" not in repr(key)


def test_another_key_file_opens_nothing(store: Store, issuing: Issuing, grant: Grant) -> None:
    other = issuing_with(KeyRing(SealingKeys.of(bytes(32))))
    issued = issue(store, issuing, grant)

    for call in (
        lambda: signing_keys.key_set(store, other),
        lambda: issue(store, other, grant),
        lambda: tokens.introspect(store, other, GATEWAY, issued.text),
    ):
        with pytest.raises(KeysUnavailable):
            call()


@pytest.mark.parametrize("sealed", [b"", b"\0" * 8, b"\0" * 200])
def test_a_key_that_was_put_into_the_store_is_no_key(store: Store, issuing: Issuing, sealed: bytes) -> None:
    """Who can write to the store alone can neither sign nor publish a key."""
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE signing_key SET sealed = :sealed"), {"sealed": sealed})

    with pytest.raises(KeysUnavailable):
        signing_keys.key_set(store, issuing_with(KeyRing(SealingKeys.of(SECRET))))


def test_a_sealed_key_under_another_name_is_no_key(store: Store, issuing: Issuing) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE signing_key SET kid = 'other'"))

    with pytest.raises(KeysUnavailable):
        signing_keys.key_set(store, issuing)


def test_hosts_at_once_make_one_first_key(store: Store) -> None:
    hosts = [issuing_with(KeyRing(SealingKeys.of(SECRET))) for _ in range(4)]

    at_once(*[lambda host=host: signing_keys.maintain(store, host) for host in hosts])

    assert len(signing_keys.list_all(store)) == 1
    assert events(store, EventType.SIGNING_KEY_ADDED) == {EventType.SIGNING_KEY_ADDED: 1}


def test_keys_rotate_by_themselves_and_go_with_their_last_token(store: Store, issuing: Issuing, clock: Clock) -> None:
    add_policy(store)
    (first,) = signing_keys.list_all(store)
    clock.advance(30 * DAY - HOUR - TICK)
    tend_tokens(store, issuing)
    assert len(signing_keys.list_all(store)) == 1

    clock.advance(TICK)
    tend_tokens(store, issuing)
    tend_tokens(store, issuing)
    assert [listed.state for listed in signing_keys.list_all(store)] == [KeyState.SIGNING, KeyState.PUBLISHED]

    clock.advance(HOUR - TICK)
    issued = issue(store, issuing, approve(store, ask(store)))
    assert jwt.get_unverified_header(issued.text)["kid"] == first.key.kid
    clock.advance(TICK)
    tend_tokens(store, issuing)
    assert [listed.state for listed in signing_keys.list_all(store)] == [KeyState.RETIRED, KeyState.SIGNING]
    assert is_active(store, issuing, issued)

    clock.advance(CAP)
    tend_tokens(store, issuing)
    (left,) = signing_keys.list_all(store)
    assert (left.state, left.key.kid != first.key.kid) == (KeyState.SIGNING, True)
    assert events(store, EventType.SIGNING_KEY_ADDED, EventType.SIGNING_KEY_REMOVED) == {
        EventType.SIGNING_KEY_ADDED: 2,
        EventType.SIGNING_KEY_REMOVED: 1,
    }


def test_replacing_all_keys_ends_every_token_at_once(store: Store, issuing: Issuing, grant: Grant) -> None:
    issued = issue(store, issuing, grant)
    old = signing_keys.key_set(store, issuing)

    signing_keys.replace_all(store, issuing, by=service_caller())

    assert not is_active(store, issuing, issued)
    assert signing_keys.key_set(store, issuing).etag != old.etag
    assert is_active(store, issuing, issue(store, issuing, grant))


def test_the_key_file_is_made_once_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "token.key"

    for _ in range(2):
        make_key_file(path)
    content = path.read_bytes()
    make_key_file(path)

    assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(base64.b64decode(content)) == 32
    assert [entry.name for entry in tmp_path.iterdir()] == ["token.key"]
    assert secrets_of(path)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 44, base64.b64encode(bytes(31)), b"not base64!" * 4])
def test_a_key_file_of_no_use_is_one_clear_line_without_its_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "k"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(KeyFileError) as fault:
        secrets_of(path)

    assert str(path) in str(fault.value)
    assert not content or content.decode("latin-1") not in str(fault.value)


def test_a_key_file_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k"
    make_key_file(path)
    path.chmod(0o604)

    with pytest.raises(KeyFileError, match="chmod"):
        secrets_of(path)
    path.chmod(0o640)
    assert secrets_of(path)


def test_a_service_with_another_key_file_than_the_store_was_used_with_does_not_start(
    sqlite_url: str, tmp_path: Path, clock: Clock
) -> None:
    def settings(name: str) -> Settings:
        make_key_file(tmp_path / name)
        return Settings.load(data_dir=tmp_path, database_url=sqlite_url, token_issuer=ISSUER, key_file=tmp_path / name)

    Service(settings("one"), clock=clock).store.close()

    with pytest.raises(StoreUnavailable, match=r"sealed with key .*, and this host has only"):
        Service(settings("two"), clock=clock)


def test_a_key_file_that_is_named_is_not_made(sqlite_url: str, tmp_path: Path, clock: Clock) -> None:
    missing = tmp_path / "shared.key"
    settings = Settings.load(data_dir=tmp_path, database_url=sqlite_url, token_issuer=ISSUER, key_file=missing)

    with pytest.raises(ServiceError, match=r"shared\.key"):
        Service(settings, clock=clock)

    assert not os.path.lexists(missing)
