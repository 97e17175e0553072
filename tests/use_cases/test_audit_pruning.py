"""The audit log is pruned behind a signed checkpoint, once it is archived, and whoever asks for more is told so."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from jit_service.domain.audit.beginning import WHOLE
from jit_service.domain.audit.checkpoint import Checkpoint
from jit_service.domain.conditions.signal import Signal
from jit_service.domain.errors import RecordsPruned, StoreUnavailable
from jit_service.feeds.audit import tail
from jit_service.storage import Store, audit_compaction
from jit_service.storage.head_follower import HeadFollower
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.use_cases import audit, audit_archive, audit_pruning, checkpoints, policies, signals, signing_keys
from jit_service.use_cases.audit_export import export
from jit_service.use_cases.audit_pruning import Pruning, Range
from jit_service.use_cases.checkpoints import SignatureState
from jit_service.use_cases.keyring import KeyRing
from jit_service.use_cases.signing_keys import Issuing, service_caller
from jitaccess import verify_checkpoint
from jitaccess.jose import archives
from jitaccess.jose.archives import ArchiveFault
from tests.conftest import HOUR, TICK, Clock
from tests.storage.people import ADMIN, AUDITOR, add_policy, ask
from tests.use_cases.test_tokens import DAY, ISSUER, SECRET, issuing_with

PIECE = 4


@pytest.fixture
def issuing(store: Store, monkeypatch: pytest.MonkeyPatch) -> Issuing:
    """How the service signs; pieces of the log have four records."""
    monkeypatch.setattr(audit_compaction, "PIECE", PIECE)
    made = issuing_with(KeyRing(SealingKeys.of(SECRET)))
    signing_keys.maintain(store, made)
    return made


@pytest.fixture
def pruning(issuing: Issuing, tmp_path: Path) -> Pruning:
    archive = tmp_path / "archive"
    archive.mkdir()
    return Pruning(retention=DAY, archive=archive, issuing=issuing)


@pytest.fixture
def old(store: Store, pruning: Pruning, clock: Clock) -> None:
    """A log with two pieces of old records: a key, a policy, and requests."""
    add_policy(store)
    for number in range(6):
        ask(store, resource=f"database/orders/{number}")
    merge(store)
    clock.advance(3 * DAY)


def merge(store: Store) -> None:
    while store.merge_audit():
        pass


def prune(store: Store, pruning: Pruning) -> Range | None:
    return audit_pruning.prune_next(store, pruning, service_caller())


def seqs(store: Store, filter_text: str = "") -> list[int]:
    page = audit.list_page(store, AUDITOR, filter_text=filter_text, order_by="seq", page_size=1000, page_token="")
    return [event.seq for event in page.events]


@pytest.mark.usefixtures("old")
def test_old_pieces_are_archived_and_pruned_behind_a_signed_checkpoint(store: Store, pruning: Pruning) -> None:
    pruned = prune(store, pruning)

    assert pruned is not None
    assert (pruned.first_seq, pruned.last_seq) == (1, 8)
    assert seqs(store)[0] == 9
    verified = audit.verify(store)
    assert (verified.first_bad_seq, verified.problem, verified.differing) == (0, "", "")
    beginning = verified.beginning
    assert beginning is not None
    assert (beginning.seq, beginning.archive) == (8, "audit-000000000001-000000000008.ndjson.gz")
    signed = verify_checkpoint(beginning.checkpoint, beginning.public_key, issuer=ISSUER)
    assert (signed.event_count, signed.head_hash) == (8, beginning.hash)


@pytest.mark.usefixtures("old")
def test_pruning_is_on_record_with_its_range_archive_and_hash(store: Store, pruning: Pruning) -> None:
    prune(store, pruning)

    (event,) = audit.list_page(
        store, AUDITOR, filter_text="event_type = AUDIT_PRUNED", order_by="", page_size=10, page_token=""
    ).events
    manifest = archives.manifests(pruning.archive or Path())[0]
    assert event.event.principal == "service:jit-service"
    assert event.event.message == (
        f"records 1 to 8, hash {manifest.last_hash}, archived in {manifest.file}, SHA-256 {manifest.sha256}; "
        "JIT_AUDIT_RETENTION is 86400s"
    )


def test_a_piece_is_kept_until_all_its_records_are_older_than_the_retention(
    store: Store, pruning: Pruning, clock: Clock
) -> None:
    for number in range(PIECE):
        ask_once(store, number)
    merge(store)
    clock.advance(DAY + HOUR)

    assert prune(store, pruning) is None
    clock.advance(TICK)
    assert prune(store, pruning) is not None


def ask_once(store: Store, number: int) -> None:
    add_policy(store, name=f"policies/p{number}")


@pytest.mark.usefixtures("old")
def test_the_archive_has_the_records_line_by_line_under_their_seqs(store: Store, pruning: Pruning) -> None:
    prune(store, pruning)

    archived = archives.verify(pruning.archive or Path(), wanted=[8])
    lines = gzip.decompress(next((pruning.archive or Path()).glob("*.gz")).read_bytes()).splitlines()
    assert (archived.first_seq, archived.last.last_seq, archived.count, archived.files) == (1, 8, 8, 1)
    assert [json.loads(found)["seq"] for found in lines] == list(range(1, 9))
    assert json.loads(lines[1])["record"]["type"] == "POLICY_CREATED"
    with store.snapshot() as snapshot:
        assert snapshot.log_beginning.hash == archived.hashes[8]


def _edit(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"alice", b"malet"), mtime=0))


def _cut(path: Path) -> None:
    path.write_bytes(gzip.compress(b"".join(gzip.decompress(path.read_bytes()).splitlines(keepends=True)[:-1])))


def _reorder(path: Path) -> None:
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join([*lines[:-2], lines[-1], lines[-2]])))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize(
    ("harm", "seq"),
    [(_edit, 1), (_cut, 8), (_reorder, 7), (_truncate, 8), (Path.unlink, 1)],
    ids=["edited", "cut", "reordered", "broken off", "missing"],
)
def test_a_harmed_archive_is_found(store: Store, pruning: Pruning, harm: Callable[[Path], None], seq: int) -> None:
    prune(store, pruning)
    directory = pruning.archive or Path()
    harm(next(directory.glob("*.gz")))

    with pytest.raises(ArchiveFault) as found:
        archives.verify(directory)

    assert found.value.seq == seq


def test_archives_of_many_prunings_are_one_chain_and_a_missing_one_is_found(
    store: Store, pruning: Pruning, clock: Clock
) -> None:
    for number in range(3):
        for each in range(PIECE):
            add_policy(store, name=f"policies/p{number}-{each}")
        merge(store)
        clock.advance(3 * DAY)
        prune(store, pruning)
    directory = pruning.archive or Path()

    archived = archives.verify(directory)

    with store.snapshot() as snapshot:
        assert (archived.files, archived.last.last_seq) == (3, snapshot.log_beginning.seq)
        assert snapshot.log_beginning.archived_from == 1
    middle = archives.manifests(directory)[1]
    (directory / (middle.file.removesuffix(archives.RECORDS) + archives.MANIFEST)).unlink()
    with pytest.raises(ArchiveFault, match=f"the records {middle.first_seq} to {middle.last_seq} are missing"):
        archives.verify(directory)


@pytest.mark.usefixtures("old")
def test_what_cannot_be_archived_is_not_pruned(store: Store, pruning: Pruning) -> None:
    directory = pruning.archive or Path()
    directory.rmdir()

    with pytest.raises(OSError, match="No such file"):
        prune(store, pruning)

    assert seqs(store)[0] == 1


@pytest.mark.usefixtures("old")
def test_a_record_that_is_not_what_was_hashed_is_never_pruned(store: Store, pruning: Pruning) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE audit_piece SET hash = :other WHERE seq = 4"), {"other": bytes(32)})

    with pytest.raises(StoreUnavailable, match="is not what was hashed; nothing is pruned"):
        prune(store, pruning)

    assert seqs(store)[0] == 1


@pytest.mark.usefixtures("old")
def test_what_was_archived_before_a_crash_is_not_archived_twice(
    store: Store, pruning: Pruning, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> Range:
        raise KeyboardInterrupt

    with monkeypatch.context() as sown:
        sown.setattr(audit_pruning, "_prune", killed)
        with pytest.raises(KeyboardInterrupt):
            prune(store, pruning)
    for number in range(PIECE):
        add_policy(store, name=f"policies/p{number}")
    merge(store)
    clock.advance(3 * DAY)

    first, second = prune(store, pruning), prune(store, pruning)

    assert first is not None
    assert second is not None
    assert (first.last_seq, second.first_seq) == (8, 9)
    assert archives.verify(pruning.archive or Path()).files == 2


@pytest.mark.usefixtures("old")
def test_an_archive_with_other_records_than_the_log_stops_pruning(store: Store, pruning: Pruning) -> None:
    prune(store, pruning)
    path = next((pruning.archive or Path()).glob("*.manifest.json"))
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_beginning"))

    found = archives.read_manifest(path)
    with pytest.raises(StoreUnavailable, match="has other records than the log"):
        audit_archive.archived_after(path.parent, 0, found.previous_hash, {8: "00" * 32})


@pytest.mark.usefixtures("old")
def test_where_it_was_pruned_nothing_is_silently_left_out(
    store: Store, pruning: Pruning, issuing: Issuing, follower: HeadFollower
) -> None:
    before = checkpoints.make(store, issuing)
    prune(store, pruning)

    page = audit.list_page(store, AUDITOR, filter_text="", order_by="seq desc", page_size=1000, page_token="")

    assert page.pruned_seq == 8
    for refused in (
        lambda: list(export(store, filter_text="", start_seq=5, end_seq=0, gone=lambda: False)),
        lambda: list(tail(store, filter_text="", start_seq=5, follower=follower, gone=lambda: True)),
        lambda: checkpoints.verify(store, issuing, old_checkpoint(store, issuing, seq=5)),
    ):
        with pytest.raises(RecordsPruned, match=r"the records up to 8 were pruned on .*begins with record 9") as fault:
            refused()
        assert fault.value.metadata["first_seq"] == "9"
    assert checkpoints.verify(store, issuing, before.text).verified.first_bad_seq == 0
    whole = list(export(store, filter_text="", start_seq=0, end_seq=0, gone=lambda: False))
    assert whole[0][0].seq == 9


def old_checkpoint(store: Store, issuing: Issuing, *, seq: int) -> str:
    with store.snapshot() as snapshot:
        key = signing_keys.signing_key(snapshot)
        of = Checkpoint(event_count=seq, head_hash=bytes(32))
        return checkpoints.sign(issuing, key, of, at=snapshot.now).text


@pytest.mark.usefixtures("old")
def test_the_checkpoint_of_the_beginning_is_known_for_ever(store: Store, pruning: Pruning, issuing: Issuing) -> None:
    prune(store, pruning)
    verified = audit.verify(store)
    signing_keys.replace_all(store, issuing, by=ADMIN)
    assert verified.beginning is not None

    held = checkpoints.verify(store, issuing, verified.beginning.checkpoint)

    assert (held.signature, held.verified.first_bad_seq) == (SignatureState.VERIFIED, 0)


@pytest.mark.usefixtures("old")
def test_the_past_is_answered_by_policies_and_signals_whose_records_were_pruned(
    store: Store, pruning: Pruning, clock: Clock
) -> None:
    prune(store, pruning)
    at = clock.now - HOUR

    with store.snapshot() as snapshot:
        assert [policy.name for policy in snapshot.policies_as_of(at)] == ["policies/orders"]
        assert snapshot.record_begins_at() == snapshot.log_beginning.last_at


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM setting_change",
        "UPDATE setting_change SET name = 'policies/other'",
        "UPDATE setting_change SET payload = NULL",
    ],
)
def test_a_changed_memory_of_pruned_policies_is_found_and_not_believed(
    store: Store, pruning: Pruning, clock: Clock, harm: str
) -> None:
    prune(store, pruning)
    with store.engine.begin() as connection:
        connection.execute(text(harm))

    assert audit.verify(store).first_bad_seq == 8
    with store.snapshot() as snapshot, pytest.raises(StoreUnavailable):
        snapshot.policies_as_of(clock.now - HOUR)


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM audit_beginning",
        "UPDATE audit_beginning SET hash = x'00'",
        "DELETE FROM audit_event",
        "DELETE FROM audit_piece",
    ],
)
def test_a_false_beginning_is_found(store: Store, pruning: Pruning, harm: str) -> None:
    add_policy(store, name="policies/more")
    prune(store, pruning)
    if store.engine.dialect.name == "postgresql":
        harm = harm.replace("x'00'", "'\\x00'")
    merge(store)
    with store.engine.begin() as connection:
        before = connection.execute(text("SELECT count(*) FROM audit_piece")).scalar_one()
        connection.execute(text(harm))

    if harm.endswith("audit_piece") and before == 0:
        pytest.skip("there is no piece any more")
    assert audit.verify(store).first_bad_seq > 0


@pytest.mark.usefixtures("old")
def test_merging_goes_on_after_all_pieces_were_pruned(store: Store, pruning: Pruning) -> None:
    prune(store, pruning)
    for number in range(PIECE):
        add_policy(store, name=f"policies/p{number}")

    assert store.merge_audit() >= PIECE
    assert audit.verify(store).first_bad_seq == 0


def test_of_a_deleted_policy_nothing_is_kept(store: Store, pruning: Pruning, clock: Clock) -> None:
    made = add_policy(store)
    policies.delete(store, ADMIN, made.name, etag="")
    signals.put(store, ADMIN, Signal(name="signals/calm", value=True, expires_at=clock() + HOUR), etag="")
    add_policy(store, name="policies/last")
    merge(store)
    clock.advance(3 * DAY)

    prune(store, pruning)

    with store.snapshot() as snapshot:
        assert [event.setting for _, event in snapshot.carried_settings()] == ["signals/calm"]


def test_a_log_of_which_nothing_was_pruned_says_nothing_of_it(store: Store) -> None:
    add_policy(store)

    with store.snapshot() as snapshot:
        assert snapshot.log_beginning == WHOLE
    assert audit.verify(store).beginning is None


def test_one_process_alone_has_a_lease_until_it_is_over(store: Store, clock: Clock) -> None:
    minute = timedelta(minutes=1)

    assert store.take_lease("retention", "a", span=minute)
    assert store.take_lease("retention", "a", span=minute)
    assert not store.take_lease("retention", "b", span=minute)
    clock.advance(minute)
    assert store.take_lease("retention", "b", span=minute)
    assert not store.take_lease("retention", "a", span=minute)


def test_nobody_stops_a_task_by_a_lease_without_end(store: Store) -> None:
    store.take_lease("retention", "a", span=timedelta(days=10_000))

    assert store.take_lease("retention", "b", span=timedelta(minutes=1))
