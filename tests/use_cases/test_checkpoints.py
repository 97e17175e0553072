"""Checkpoints kept elsewhere: whatever is done to the log behind the service's back, one of them finds it (I5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
import pytest
from sqlalchemy import text

from jit_service.domain.audit import checkpoint as rules
from jit_service.domain.audit.chain import GENESIS, link
from jit_service.domain.errors import InvalidField, KeysUnavailable, TokensOff
from jit_service.storage import Store
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.use_cases import audit, checkpoints, long_work, signing_keys, tokens
from jit_service.use_cases.audit import LogVerification
from jit_service.use_cases.checkpoints import IssuedCheckpoint, SignatureState, VerifyProgress, VerifyResult
from jit_service.use_cases.keyring import KeyRing
from jit_service.use_cases.signing_keys import Issuing, service_caller
from jitaccess import SignedCheckpoint, TokenRefused, verify_checkpoint
from jitaccess.jose import checkpoints as signed
from tests.conftest import TICK, Clock
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.people import GATEWAY, add_policy, ask
from tests.use_cases.test_tokens import DAY, ISSUER, SECRET, issuing_with


@pytest.fixture
def issuing(store: Store) -> Issuing:
    made = issuing_with(KeyRing(SealingKeys.of(SECRET)))
    signing_keys.maintain(store, made)
    return made


@pytest.fixture
def kept(store: Store, issuing: Issuing) -> IssuedCheckpoint:
    """A checkpoint of a log of six records, after which two more came."""
    add_policy(store)
    for number in range(4):
        ask(store, resource=f"database/orders/{number}")
    made = checkpoints.make(store, issuing)
    for number in range(2):
        ask(store, resource=f"database/orders/later-{number}")
    return made


def records(store: Store) -> list[tuple[int, bytes]]:
    """Returns seq and payload of each record."""
    with store.engine.connect() as connection:
        found = connection.execute(text("SELECT seq, payload FROM audit_event ORDER BY seq"))
        return [(row.seq, bytes(row.payload)) for row in found]


def rewrite(store: Store, payloads: list[bytes]) -> None:
    """Makes the log say this and nothing else, with a chain and a head that are consistent in themselves."""
    previous = GENESIS
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_event"))
        for seq, payload in enumerate(payloads, 1):
            previous = link(previous, seq, payload)
            connection.execute(
                text("INSERT INTO audit_event (seq, hash, payload) VALUES (:seq, :hash, :payload)"),
                {"seq": seq, "hash": previous, "payload": payload},
            )
        connection.execute(text("UPDATE head SET seq = :seq, hash = :hash"), {"seq": len(payloads), "hash": previous})


def compare(store: Store, issuing: Issuing, kept: IssuedCheckpoint) -> VerifyResult:
    return checkpoints.verify(store, issuing, kept.text)


def test_a_log_that_only_grew_is_the_one_of_the_checkpoint(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint
) -> None:
    compared = compare(store, issuing, kept)

    assert (compared.verified.first_bad_seq, compared.verified.problem) == (0, "")
    assert (kept.checkpoint.event_count, compared.verified.event_count) == (6, 8)
    assert compared.signature is SignatureState.VERIFIED


def test_without_a_checkpoint_nothing_is_said_of_one(store: Store, issuing: Issuing, kept: IssuedCheckpoint) -> None:
    assert checkpoints.verify(store, issuing, "").signature is None
    assert checkpoints.verify(store, None, "").verified.first_bad_seq == 0


def edited(payloads: list[bytes]) -> list[bytes]:
    return [payload.replace(b"user:alice", b"user:mallory") for payload in payloads]


def without_one(payloads: list[bytes]) -> list[bytes]:
    return [*payloads[:3], *payloads[4:]]


def reordered(payloads: list[bytes]) -> list[bytes]:
    return [*payloads[:2], payloads[3], payloads[2], *payloads[4:]]


def with_one_more(payloads: list[bytes]) -> list[bytes]:
    return [*payloads[:3], payloads[2], *payloads[3:]]


@pytest.mark.parametrize("change", [edited, without_one, reordered, with_one_more])
def test_a_log_that_was_rewritten_with_a_chain_of_its_own_is_found(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    rewrite(store, change([payload for _, payload in records(store)]))
    assert checkpoints.verify(store, issuing, "").verified.first_bad_seq == 0  # By itself it looks whole.

    verified = compare(store, issuing, kept).verified

    assert (verified.first_bad_seq, verified.problem) == (6, "record 6 or one before it is not as the checkpoint says")


def test_a_log_whose_tail_was_cut_off_with_its_head_is_found(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint
) -> None:
    rewrite(store, [payload for _, payload in records(store)][:4])
    assert checkpoints.verify(store, issuing, "").verified.first_bad_seq == 0

    verified = compare(store, issuing, kept).verified

    assert (verified.first_bad_seq, verified.problem) == (5, "the log has 4 records; the checkpoint says 6")


def test_what_came_after_the_checkpoint_is_left_to_the_next_one(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint
) -> None:
    rewrite(store, [payload for _, payload in records(store)][:6])

    assert compare(store, issuing, kept).verified.first_bad_seq == 0


@pytest.mark.parametrize(("seq", "first"), [(2, 2), (8, 8)])
def test_the_first_fault_of_all_is_told(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint, seq: int, first: int
) -> None:
    with store.engine.begin() as connection:
        connection.execute(text(f"UPDATE audit_event SET payload = hash WHERE seq = {seq}"))

    assert compare(store, issuing, kept).verified.first_bad_seq == first


def followed(store: Store, issuing: Issuing, kept: IssuedCheckpoint, *, only_new: bool) -> list[VerifyProgress]:
    return list(checkpoints.stream_verification(store, issuing, kept.text, only_new=only_new, gone=lambda: False))


def result(store: Store, issuing: Issuing, kept: IssuedCheckpoint, *, only_new: bool = True) -> LogVerification:
    last = followed(store, issuing, kept, only_new=only_new)[-1]
    assert last.result is not None
    return last.result.verified


@pytest.mark.parametrize("only_new", [True, False])
def test_a_verification_that_is_followed_finds_the_same(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint, only_new: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_work, "_PAUSE_SECONDS", 0)
    monkeypatch.setattr(audit, "_AT_ONCE", 1)

    told = followed(store, issuing, kept, only_new=only_new)

    start, count = (6, 2) if only_new else (0, 8)
    assert {(each.at.start_seq, each.at.event_count) for each in told} == {(start, 8)}
    assert sorted({each.at.checked_count for each in told}) == list(range(count + 1))
    assert [each.result for each in told[:-1]] == [None] * (len(told) - 1)
    assert told[-1].result == compare(store, issuing, kept)


@pytest.mark.parametrize("seq", [7, 8])
def test_a_fault_after_the_checkpoint_is_found_among_what_is_new(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint, seq: int
) -> None:
    change(store, f"UPDATE audit_event SET payload = hash WHERE seq = {seq}")

    assert result(store, issuing, kept).first_bad_seq == seq


def test_what_was_before_the_checkpoint_is_not_read_again(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint
) -> None:
    change(store, "UPDATE audit_event SET payload = hash WHERE seq = 2")

    assert result(store, issuing, kept, only_new=False).first_bad_seq == 2
    assert result(store, issuing, kept).problem == ""


def test_a_tail_that_was_cut_off_after_the_checkpoint_is_found(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint
) -> None:
    change(store, "DELETE FROM audit_event WHERE seq = 8")

    assert result(store, issuing, kept).problem == "the log should have 8 records and has 7"


def test_what_is_new_in_another_log_than_that_of_the_checkpoint_is_found(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint
) -> None:
    rewrite(store, edited([payload for _, payload in records(store)]))

    assert result(store, issuing, kept).first_bad_seq == 6


def test_a_log_that_is_shorter_than_its_checkpoint_has_nothing_new(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint
) -> None:
    rewrite(store, [payload for _, payload in records(store)][:4])

    assert result(store, issuing, kept).problem == "the log has 4 records; the checkpoint says 6"


def test_a_grant_that_no_new_record_names_is_held_against_its_seal(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint
) -> None:
    change(
        store,
        "UPDATE access_grant SET subject = 'user:mallory' WHERE revision = (SELECT min(revision) FROM access_grant)",
    )

    assert result(store, issuing, kept).difference == "is not as this service left it"


def test_without_a_checkpoint_nothing_is_new(store: Store, issuing: Issuing) -> None:
    with pytest.raises(InvalidField) as refused:
        checkpoints.stream_verification(store, issuing, "", only_new=True, gone=lambda: False)

    assert refused.value.field == "only_new"


def test_a_verification_ends_with_whoever_follows_it(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_AT_ONCE", 1)
    looks = iter([False, False, True])

    told = list(checkpoints.stream_verification(store, issuing, kept.text, only_new=False, gone=lambda: next(looks)))

    assert [each.result for each in told] == [None]


def change(store: Store, statement: str) -> None:
    with store.engine.begin() as connection:
        connection.execute(text(statement))


def test_a_checkpoint_is_an_instant_of_whole_seconds(store: Store, issuing: Issuing, clock: Clock) -> None:
    clock.advance(TICK)

    made = checkpoints.make(store, issuing)

    assert made.at == clock.now - TICK
    assert jwt.decode(made.text, options={"verify_signature": False}) == {
        "iss": ISSUER,
        "iat": int(made.at.timestamp()),
        "event_count": made.checkpoint.event_count,
        "head_hash": made.checkpoint.head_hash.hex(),
    }
    header = jwt.get_unverified_header(made.text)
    assert header == {"alg": "ES256", "typ": "audit-checkpoint+jwt", "kid": made.public_key["kid"]}


def test_the_key_beside_it_verifies_it_for_ever(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint, clock: Clock
) -> None:
    clock.advance(10_000 * DAY)

    was = verify_checkpoint(kept.text, kept.public_key, issuer=ISSUER)

    assert "d" not in kept.public_key
    assert was == SignedCheckpoint(
        issuer=ISSUER,
        issue_time=kept.at,
        event_count=kept.checkpoint.event_count,
        head_hash=kept.checkpoint.head_hash.hex(),
        is_verified=True,
    )


def test_a_checkpoint_whose_key_is_gone_is_compared_and_not_trusted(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint
) -> None:
    signing_keys.replace_all(store, issuing, by=service_caller())

    sound = compare(store, issuing, kept)
    rewrite(store, [payload for _, payload in records(store)][:4])
    cut = compare(store, issuing, kept)

    assert (sound.signature, sound.verified.first_bad_seq) == (SignatureState.KEY_UNKNOWN, 0)
    assert (cut.signature, cut.verified.first_bad_seq) == (SignatureState.KEY_UNKNOWN, 5)


def made_with(issuing: Issuing, store: Store, *, typ: str = signed.TYPE, **claims: Any) -> str:
    """Returns a checkpoint that the service's own key signed, with other claims."""
    with store.snapshot() as snapshot:
        key = signing_keys.signing_key(snapshot)
        said = {"iss": ISSUER, "iat": 1, "event_count": 1, "head_hash": "0" * 64} | claims
    return issuing.ring.sign(key, {name: value for name, value in said.items() if value is not None}, typ=typ)


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"iss": "https://other.example.com"}, "iss is not the issuer"),
        ({"iss": None}, "iss is not the issuer"),
        ({"typ": "at+jwt"}, "typ is not audit-checkpoint"),
        ({"typ": "JWT"}, "typ is not audit-checkpoint"),
        ({"event_count": 0}, "event_count"),
        ({"event_count": -1}, "event_count"),
        ({"event_count": 2**63}, "event_count"),
        ({"event_count": True}, "event_count"),
        ({"event_count": "6"}, "event_count"),
        ({"event_count": None}, "event_count"),
        ({"head_hash": "0" * 63}, "head_hash"),
        ({"head_hash": "G" * 64}, "head_hash"),
        ({"head_hash": None}, "head_hash"),
        ({"iat": "noon"}, "iat"),
        ({"iat": None}, "iat"),
    ],
)
def test_what_is_no_checkpoint_of_this_service_is_refused(
    store: Store, issuing: Issuing, claims: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidField, match=words) as refused:
        checkpoints.verify(store, issuing, made_with(issuing, store, **claims))

    assert refused.value.field == "checkpoint"
    assert "the token" not in str(refused.value)


def forged(kept: IssuedCheckpoint) -> str:
    head, body, signature = kept.text.split(".")
    return f"{head}.{body}.{signature[:10]}{'A' if signature[10] != 'A' else 'B'}{signature[11:]}"


@pytest.mark.parametrize(
    "forge", [forged, lambda kept: kept.text + "=", lambda kept: kept.text[:-1], lambda _: "nonsense", lambda _: "."]
)
def test_a_checkpoint_that_the_named_key_did_not_sign_is_refused(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint, forge: Callable[[IssuedCheckpoint], str]
) -> None:
    with pytest.raises(InvalidField) as refused:
        checkpoints.verify(store, issuing, forge(kept))

    assert refused.value.field == "checkpoint"


def test_a_checkpoint_is_no_token_of_a_grant(store: Store, issuing: Issuing, kept: IssuedCheckpoint) -> None:
    assert tokens.introspect(store, issuing, GATEWAY, kept.text) == {"active": False}
    with pytest.raises(TokenRefused, match="typ"):
        tokens.verify_grant_token(store, issuing, kept.text)


def test_where_no_tokens_are_issued_there_are_no_checkpoints(
    store: Store, issuing: Issuing, kept: IssuedCheckpoint
) -> None:
    with pytest.raises(TokensOff):
        checkpoints.make(store, None)
    with pytest.raises(TokensOff):
        checkpoints.verify(store, None, kept.text)


def test_where_there_is_no_key_there_is_no_checkpoint(store: Store) -> None:
    with pytest.raises(KeysUnavailable):
        checkpoints.make(store, issuing_with(KeyRing(SealingKeys.of(SECRET))))


def test_another_key_does_not_verify_it(kept: IssuedCheckpoint) -> None:
    other = KeyRing(SealingKeys.of(SECRET))
    key = other.new(now=kept.at, signs_at=kept.at, under="")

    with pytest.raises(TokenRefused, match="kid"):
        verify_checkpoint(kept.text, other.public(key), issuer=ISSUER)
    with pytest.raises(TokenRefused, match="signature"):
        verify_checkpoint(kept.text, other.public(key) | {"kid": kept.public_key["kid"]}, issuer=ISSUER)
    with pytest.raises(TokenRefused, match="iss"):
        verify_checkpoint(kept.text, kept.public_key, issuer="https://other.example.com")


@pytest.fixture
def bench(store: Store, issuing: Issuing, kept: IssuedCheckpoint) -> tuple[Store, Issuing, IssuedCheckpoint]:
    return store, issuing, kept


TWINS = [
    (
        "a cut log that passes",
        rules.fault_in,
        "event_count < since.event_count",
        "False",
        test_a_log_whose_tail_was_cut_off_with_its_head_is_found,
    ),
    (
        "a rewritten log that passes",
        rules.fault_in,
        "hash_there != since.head_hash",
        "hash_there is None",
        lambda *bench: test_a_log_that_was_rewritten_with_a_chain_of_its_own_is_found(*bench, edited),
    ),
    (
        "a checkpoint that is not looked at",
        checkpoints.verify,
        "since=since)",
        "since=None)",
        lambda *bench: test_a_log_that_was_rewritten_with_a_chain_of_its_own_is_found(*bench, reordered),
    ),
    (
        "what was before the checkpoint that is read again",
        checkpoints.stream_verification,
        "audit.verification_of_new(store, since=since)",
        "audit.verification(store, since=since)",
        test_what_was_before_the_checkpoint_is_not_read_again,
    ),
    (
        "what is new and goes on from anywhere",
        audit.verification_of_new,
        "hash=since.head_hash",
        "hash=bytes(32)",
        test_what_was_before_the_checkpoint_is_not_read_again,
    ),
    (
        "an end that nobody compares",
        audit.fault_in_rest,
        "bad or snapshot.fault_at_end(so_far)",
        "bad",
        test_a_tail_that_was_cut_off_after_the_checkpoint_is_found,
    ),
    (
        "a checkpoint of another log that does for what is new",
        audit._verification,
        "if since is not None else None",
        "if so_far.start == 0 else None",
        test_what_is_new_in_another_log_than_that_of_the_checkpoint_is_found,
    ),
    (
        "a signature that is not verified",
        signed.read_checkpoint,
        "jws.check_signature(checkpoint, key, ALGORITHM)",
        "pass",
        lambda *bench: test_a_checkpoint_that_the_named_key_did_not_sign_is_refused(*bench, forged),
    ),
    (
        "another issuer's checkpoint that counts",
        signed._signed,
        'not issuer or payload.get("iss") != issuer',
        "False",
        lambda store, issuing, _: test_what_is_no_checkpoint_of_this_service_is_refused(
            store, issuing, {"iss": "https://other.example.com"}, "iss"
        ),
    ),
    (
        "a checkpoint that is a token",
        checkpoints.sign,
        ", typ=TYPE",
        "",
        lambda store, issuing, _: test_a_checkpoint_is_no_token_of_a_grant(
            store, issuing, replace(checkpoints.make(store, issuing))
        ),
    ),
    (
        "a key that is gone and is said to have verified",
        signed.read_checkpoint,
        "is_verified=key is not None",
        "is_verified=True",
        test_a_checkpoint_whose_key_is_gone_is_compared_and_not_trusted,
    ),
]


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str,
    function: Any,
    sound: str,
    bug: str,
    caught_by: Callable[..., None],
    bench: tuple[Store, Issuing, IssuedCheckpoint],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demand_caught(Twin(name, function, sound, bug, lambda: caught_by(*bench)), monkeypatch)
