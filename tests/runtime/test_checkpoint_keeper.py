"""Checkpoints are made by themselves, and find a rewrite of the audit log that its own verification calls valid."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jit_service.domain.errors import StoreUnavailable, TokensOff
from jit_service.runtime.checkpoint_keeper import Checkpointing, CheckpointKeeper, checkpointing_by
from jit_service.settings import Settings, SettingsError
from jit_service.storage import Store
from jit_service.storage.migrate import migrate
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.use_cases import audit, signing_keys
from jit_service.use_cases.keyring import KeyRing
from jit_service.use_cases.signing_keys import Issuing
from jitaccess.jose.checkpoints import verify_checkpoint
from tests.conftest import HOUR, Clock
from tests.notifications.webhooks import hook
from tests.storage.people import add_policy, ask
from tests.use_cases.test_tokens import SECRET, issuing_with


@pytest.fixture
def issuing(store: Store) -> Issuing:
    made = issuing_with(KeyRing(SealingKeys.of(SECRET)))
    signing_keys.maintain(store, made)
    return made


def how(issuing: Issuing, to: Path | str, *, records: int | None = None, allow_private: bool = False) -> Checkpointing:
    return Checkpointing(to=str(to), records=records, interval=HOUR, allow_private=allow_private, issuing=issuing)


def test_a_checkpoint_is_kept_when_it_is_due_and_only_if_something_came(
    store: Store, issuing: Issuing, tmp_path: Path, clock: Clock
) -> None:
    kept = tmp_path / "checkpoints"
    kept.mkdir()
    keeper = CheckpointKeeper(store, how(issuing, kept, records=3))

    keeper.work()
    clock.advance(2 * HOUR)
    keeper.work()
    assert len(list(kept.iterdir())) == 1
    add_policy(store)
    keeper.work()
    (_, newest) = sorted(kept.iterdir())
    assert newest.stat().st_mode & 0o777 == 0o600
    assert int(json.loads(newest.read_text())["eventCount"]) == store.head().seq
    ask(store, resource="database/orders/a")
    keeper.work()
    assert len(list(kept.iterdir())) == 2


def test_a_log_that_was_rewritten_with_its_key_is_valid_in_itself_and_found_by_the_last_checkpoint(
    store: Store, issuing: Issuing, tmp_path: Path, clock: Clock
) -> None:
    kept = tmp_path / "checkpoints"
    kept.mkdir()
    add_policy(store)
    CheckpointKeeper(store, how(issuing, kept)).work()
    url = f"sqlite:///{tmp_path / 'rewritten.db'}"
    migrate(url)
    with closing(Store(url, clock=clock)) as rewritten:
        signing_keys.maintain(rewritten, issuing)
        add_policy(rewritten, name="policies/another")
        add_policy(rewritten)

        assert audit.verify(rewritten).first_bad_seq == 0
        with pytest.raises(StoreUnavailable, match="CUT OR REWRITTEN"):
            CheckpointKeeper(rewritten, how(issuing, kept)).work()
    assert len(list(kept.iterdir())) == 1


def read(content: bytes | str, issuing: Issuing) -> int:
    """Returns which record a kept checkpoint is of, once the key that was kept beside it verifies it."""
    found = json.loads(content)
    signed = verify_checkpoint(found["checkpoint"], found["publicKey"], issuer=issuing.issuer)
    assert signed.head_hash == found["headHash"]
    return signed.event_count


def test_a_url_is_posted_each_checkpoint_and_again_what_it_did_not_take(
    store: Store, issuing: Issuing, clock: Clock
) -> None:
    with hook() as receiver:
        keeper = CheckpointKeeper(store, how(issuing, f"{receiver.url}/checkpoints", allow_private=True))
        keeper.work()
        first = store.head().seq
        add_policy(store)
        clock.advance(HOUR)
        receiver.status = 503
        with pytest.raises(OSError, match="not posted"):
            keeper.work()
        receiver.status = 204
        keeper.work()
        keeper.work()

    posted = [read(each.body, issuing) for each in receiver.received]
    assert posted == [first, store.head().seq, store.head().seq]
    assert {each.headers["content-type"] for each in receiver.received} == {"application/json"}


def test_a_private_address_is_posted_nothing_unless_the_settings_say_so(store: Store, issuing: Issuing) -> None:
    with hook() as receiver:
        keeper = CheckpointKeeper(store, how(issuing, receiver.url))
        with pytest.raises(OSError, match="not posted"):
            keeper.work()

    assert receiver.received == []


def test_the_log_of_the_host_gets_each_checkpoint_in_one_line(
    store: Store, issuing: Issuing, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    keeper = CheckpointKeeper(store, how(issuing, "log"))

    keeper.work()
    add_policy(store)
    clock.advance(HOUR)
    keeper.work()

    said = [record.getMessage() for record in caplog.records if record.name.endswith("checkpoint_keeper")]
    kept = [read(line.removeprefix("checkpoint of the audit log: "), issuing) for line in said]
    assert kept == [store.head().seq - 1, store.head().seq]


@pytest.mark.parametrize("target", ["directory", "log"])
def test_of_two_hosts_one_makes_checkpoints_and_the_other_once_that_one_is_gone(
    store: Store, issuing: Issuing, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture, target: str
) -> None:
    caplog.set_level("INFO")
    to = str(tmp_path) if target == "directory" else "log"
    one, other = (CheckpointKeeper(store, how(issuing, to, records=1)) for _ in range(2))

    def made() -> int:
        said = [record for record in caplog.records if record.getMessage().startswith("checkpoint of the audit log")]
        return len(said) + len(list(tmp_path.glob("checkpoint-*.json")))

    one.work()
    add_policy(store)
    other.work()
    assert made() == 1
    clock.advance(HOUR)
    other.work()
    assert made() == 2
    ask(store, resource="database/orders/a")
    one.work()
    assert made() == 2


def test_without_an_issuer_nobody_signs(tmp_path: Path) -> None:
    with pytest.raises(TokensOff, match="JIT_TOKEN_ISSUER"):
        checkpointing_by(Settings(checkpoint_to=str(tmp_path)), None)


@pytest.mark.parametrize(
    "given",
    [
        {"checkpoint_to": "log"},
        {"checkpoint_records": 5},
        {"checkpoint_to": "http://example.com/x", "checkpoint_records": 5},
    ],
)
def test_settings_that_lack_a_part_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="JIT_CHECKPOINT_"):
        Settings.load(**given)
