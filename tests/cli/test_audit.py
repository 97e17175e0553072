"""`jit audit`: checkpoints are kept as they come, exports are whole or not there."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from jit_service.domain.audit.chain import link
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.use_cases import audit_archive
from jit_service.use_cases.keyring import KeyRing
from jitaccess.cli import audit, exits, exporting, progress
from jitaccess.jose.archives import Manifest
from jitaccess.v1 import audit_pb2
from tests.cli.conftest import Jit
from tests.client.service import Refusal, Service

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
RING = KeyRing(SealingKeys.of(bytes(32)))
KEY = RING.new(now=NOON, signs_at=NOON, under="")
CLAIMS = {"iss": "https://jit.example.com", "iat": 1772452800, "event_count": 9, "head_hash": "ab" * 32}
TEXT = RING.sign(KEY, CLAIMS, typ="audit-checkpoint+jwt")
MADE = audit_pb2.GetAuditCheckpointResponse(
    event_count=9,
    head_hash="ab" * 32,
    checkpoint_time=Timestamp(seconds=1772452800),
    checkpoint=TEXT,
    public_key=ParseDict(RING.public(KEY), Struct()),
)
Said = audit_pb2.VerifyAuditLogResponse
Progress = audit_pb2.StreamAuditVerificationResponse


def verdict(signature: Said.CheckpointSignature.ValueType, *, valid: bool = True) -> Said:
    bad = {} if valid else {"first_bad_seq": 9, "problem": "record 9 or one before it is not as the checkpoint says"}
    return Said(valid=valid, event_count=12, checkpoint_signature=signature, **bad)  # type: ignore[arg-type]


def told(signature: Said.CheckpointSignature.ValueType, *, valid: bool = True) -> list[Progress]:
    begin = Progress(event_count=12, start_seq=9)
    return [begin, Progress(checked_count=3, event_count=12, start_seq=9, result=verdict(signature, valid=valid))]


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_what_checkpoint_writes_verify_reads(jit: Jit, service: Service, tmp_path: Path, form: str) -> None:
    service.will_answer("GetAuditCheckpoint", MADE)
    service.will_stream("StreamAuditVerification", told(Said.VERIFIED))
    file = tmp_path / "checkpoint"
    file.write_text(jit("audit", "checkpoint", "-o", form).out)

    ran = jit("audit", "verify", "--checkpoint", str(file))

    assert (ran.code, ran.out.splitlines()[1]) == (0, "the checkpoint is signed by this service")
    assert service.sent("StreamAuditVerification")[-1].checkpoint == TEXT


def test_people_see_what_the_checkpoint_says_and_its_text(jit: Jit, service: Service) -> None:
    service.will_answer("GetAuditCheckpoint", MADE)

    first, second = jit("audit", "checkpoint").out.splitlines()

    assert first.startswith(f"9 events, head {'ab' * 32}, ")
    assert second == TEXT


@pytest.mark.parametrize("as_file", [True, False])
def test_the_text_alone_is_enough(jit: Jit, service: Service, tmp_path: Path, as_file: bool) -> None:
    service.will_stream("StreamAuditVerification", told(Said.VERIFIED))
    (tmp_path / "text").write_text(TEXT + "\n")

    ran = jit("audit", "verify", "--checkpoint", str(tmp_path / "text") if as_file else TEXT)

    assert ran.code == 0
    assert service.sent("StreamAuditVerification")[-1].checkpoint == TEXT


def test_a_log_that_was_rewritten_is_a_no(jit: Jit, service: Service) -> None:
    service.will_stream("StreamAuditVerification", told(Said.VERIFIED, valid=False))

    ran = jit("audit", "verify", "--checkpoint", TEXT)

    assert (ran.code, ran.out.splitlines()[0][:23]) == (1, "NOT VALID at event 9: r")


def test_only_what_is_new_is_recomputed_where_that_is_asked(jit: Jit, service: Service) -> None:
    service.will_stream("StreamAuditVerification", told(Said.VERIFIED))

    ran = jit("audit", "verify", "--only-new", "--checkpoint", TEXT)

    assert (ran.code, ran.out.partition(",")[0]) == (0, "valid: 3 new of 12 events")
    assert service.sent("StreamAuditVerification") == [
        audit_pb2.StreamAuditVerificationRequest(checkpoint=TEXT, only_new=True)
    ]


def test_only_new_needs_a_checkpoint(jit: Jit, service: Service) -> None:
    ran = jit("audit", "verify", "--only-new")

    assert (ran.code, "--checkpoint" in ran.err) == (2, True)
    assert service.received == []


@pytest.mark.parametrize("stream", [[], [Progress(event_count=12)]])
def test_a_verification_without_a_result_verified_nothing(jit: Jit, service: Service, stream: list[Progress]) -> None:
    service.will_stream("StreamAuditVerification", stream)

    ran = jit("audit", "verify")

    assert (ran.code, ran.out, "nothing is verified" in ran.err) == (7, "", True)


@pytest.mark.parametrize("flags", [(), ("-q",)])
def test_on_a_terminal_it_is_shown_how_far_the_verification_is(
    jit: Jit, service: Service, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(progress, "tell", shown.append)
    service.will_stream("StreamAuditVerification", told(Said.VERIFIED))

    jit("audit", "verify", *flags)

    bars = [f"[{'-' * 30}]   0 %  0 of 3 events", f"[{'#' * 30}] 100 %  3 of 3 events", ""]
    assert shown == ([] if flags else bars)


def kept(tmp_path: Path, text: str, key: object) -> str:
    file = tmp_path / "kept.json"
    file.write_text(json.dumps({"checkpoint": text, "publicKey": key}))
    return str(file)


def test_where_the_service_does_not_know_the_key_the_one_that_was_kept_tells(
    jit: Jit, service: Service, tmp_path: Path
) -> None:
    service.will_stream("StreamAuditVerification", told(Said.KEY_UNKNOWN))

    with_key = jit("audit", "verify", "--checkpoint", kept(tmp_path, TEXT, RING.public(KEY)))
    without = jit("audit", "verify", "--checkpoint", TEXT)

    assert (with_key.code, without.code) == (0, 0)
    assert "the one kept with it verifies it" in with_key.out
    assert "its signature is not verified" in without.out


def test_a_checkpoint_that_neither_signed_is_an_error(jit: Jit, service: Service, tmp_path: Path) -> None:
    service.will_stream("StreamAuditVerification", told(Said.KEY_UNKNOWN))
    other = KeyRing(SealingKeys.of(bytes(32))).new(now=NOON, signs_at=NOON, under="")
    forged = RING.public(other) | {"kid": KEY.kid}

    ran = jit("audit", "verify", "--checkpoint", kept(tmp_path, TEXT, forged))

    assert ran.code == 4
    assert "BAD_SIGNATURE" in ran.err


@pytest.mark.parametrize("content", ["{}", '{"checkpoint": 7}', "[1]", '{"checkpoint": "a", "publicKey": 7}', "{"])
def test_a_file_that_holds_no_checkpoint_is_refused_before_anything_is_asked(
    jit: Jit, service: Service, tmp_path: Path, content: str
) -> None:
    (tmp_path / "file").write_text(content)

    assert jit("audit", "verify", "--checkpoint", str(tmp_path / "file")).code == 2
    assert service.received == []


def archived_in(directory: Path) -> str:
    """Archives two records, and returns the hash of the last one."""
    records = [b"one", b"two"]
    first = link(bytes(32), 1, records[0])
    last = link(first, 2, records[1]).hex()
    name, sha256 = audit_archive.write_records(directory, 1, records)
    claims = CLAIMS | {"event_count": 2, "head_hash": last}
    manifest = Manifest(
        file=name,
        sha256=sha256,
        first_seq=1,
        last_seq=2,
        count=2,
        previous_hash=bytes(32).hex(),
        first_hash=first.hex(),
        last_hash=last,
        first_time="2026-03-02T12:00:00Z",
        last_time="2026-03-02T12:00:00Z",
        signer=CLAIMS["iss"],  # type: ignore[arg-type]  # It is a text.
        checkpoint=RING.sign(KEY, claims, typ="audit-checkpoint+jwt"),
        public_key=RING.public(KEY),
    )
    audit_archive.write_manifest(directory, manifest)
    return last


def gone_on_from_the_archive(hash_: str) -> Progress:
    checkpoint = RING.sign(KEY, CLAIMS | {"event_count": 2, "head_hash": hash_}, typ="audit-checkpoint+jwt")
    beginning = audit_pb2.AuditBeginning(
        pruned_seq=2, hash=hash_, checkpoint=checkpoint, public_key=ParseDict(RING.public(KEY), Struct())
    )
    said = Said(valid=True, event_count=12, beginning=beginning, checkpoint_signature=Said.VERIFIED)
    return Progress(event_count=12, start_seq=2, checked_count=10, result=said)


def test_an_archive_and_the_log_are_verified_as_one_chain(jit: Jit, service: Service, tmp_path: Path) -> None:
    service.will_stream("StreamAuditVerification", [gone_on_from_the_archive(archived_in(tmp_path))])

    ran = jit("audit", "verify", "--archive", str(tmp_path))

    assert ran.code == 0
    assert ran.out.splitlines()[0] == "archive: 2 events, 1 to 2, in 1 file: valid, and the log goes on from it"
    assert "--archive" not in ran.out


def test_a_log_that_does_not_go_on_from_the_archive_is_a_no(jit: Jit, service: Service, tmp_path: Path) -> None:
    archived_in(tmp_path)
    service.will_stream("StreamAuditVerification", [gone_on_from_the_archive("cd" * 32)])

    ran = jit("audit", "verify", "--archive", str(tmp_path))

    assert ran.code == 1
    assert ran.out.startswith("NOT VALID at event 2: record 2 of the archive is not the one after which the log begins")


def checkpoint_of(directory: Path, count: int, hash_: str) -> None:
    claims = CLAIMS | {"event_count": count, "head_hash": hash_}
    made = {"checkpoint": RING.sign(KEY, claims, typ="audit-checkpoint+jwt"), "publicKey": RING.public(KEY)}
    directory.mkdir(exist_ok=True)
    (directory / f"checkpoint-{count:012}-20260302T120000Z.json").write_text(json.dumps(made))


FIRST_OF_THE_ARCHIVE = link(bytes(32), 1, b"one").hex()


def test_checkpoints_of_archived_records_are_held_against_the_archive_and_newer_ones_against_the_log(
    jit: Jit, service: Service, tmp_path: Path
) -> None:
    (tmp_path / "archive").mkdir()
    service.will_stream("StreamAuditVerification", [gone_on_from_the_archive(archived_in(tmp_path / "archive"))])
    service.will_answer(
        "ListAuditEvents", audit_pb2.ListAuditEventsResponse(audit_events=[audit_pb2.AuditEvent(seq=5, hash="ef" * 32)])
    )
    kept_there = tmp_path / "checkpoints"
    for count, hash_ in ((1, FIRST_OF_THE_ARCHIVE), (5, "ef" * 32), (9, "ab" * 32)):
        checkpoint_of(kept_there, count, hash_)

    ran = jit("audit", "verify", "--archive", str(tmp_path / "archive"), "--checkpoint", str(kept_there))

    assert ran.code == 0, ran.out
    assert ran.out.splitlines()[0].endswith(": valid, and the log goes on from it")
    assert [asked.filter for asked in service.sent("ListAuditEvents")] == ["seq = 5"]


@pytest.mark.parametrize(
    ("count", "there"),
    [(1, "record 1 of the archive or one before it"), (5, "this record or one before it")],
    ids=["in the archive", "in the log"],
)
def test_the_first_of_many_checkpoints_that_does_not_hold_is_named(
    jit: Jit, service: Service, tmp_path: Path, count: int, there: str
) -> None:
    (tmp_path / "archive").mkdir()
    service.will_stream("StreamAuditVerification", [gone_on_from_the_archive(archived_in(tmp_path / "archive"))])
    service.will_answer(
        "ListAuditEvents", audit_pb2.ListAuditEventsResponse(audit_events=[audit_pb2.AuditEvent(seq=5, hash="ef" * 32)])
    )
    kept_there = tmp_path / "checkpoints"
    for each, hash_ in ((count, "cd" * 32), (9, "ab" * 32)):
        checkpoint_of(kept_there, each, hash_)

    ran = jit("audit", "verify", "--archive", str(tmp_path / "archive"), "--checkpoint", str(kept_there))

    assert (ran.code, ran.out.splitlines()[0].startswith(f"NOT VALID at event {count}: {there}")) == (1, True), ran.out


def test_a_checkpoint_in_the_directory_that_its_key_did_not_sign_is_an_error(
    jit: Jit, service: Service, tmp_path: Path
) -> None:
    (tmp_path / "archive").mkdir()
    service.will_stream("StreamAuditVerification", [gone_on_from_the_archive(archived_in(tmp_path / "archive"))])
    kept_there = tmp_path / "checkpoints"
    checkpoint_of(kept_there, 1, FIRST_OF_THE_ARCHIVE)
    (file,) = kept_there.iterdir()
    other = RING.public(KeyRing(SealingKeys.of(bytes(32))).new(now=NOON, signs_at=NOON, under="")) | {"kid": KEY.kid}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"publicKey": other}))

    ran = jit("audit", "verify", "--archive", str(tmp_path / "archive"), "--checkpoint", str(kept_there))

    assert (ran.code, "BAD_SIGNATURE" in ran.err) == (4, True)


def parts(*texts: bytes) -> list[HttpBody]:
    return [HttpBody(content_type="application/x-ndjson", data=text) for text in texts]


def left_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


WHOLE = parts(b"", b'{"seq":"1"}\n{"seq":"2"}\n', b'{"seq":"3"}\n')
BROKEN = Refusal(code=grpc.StatusCode.INTERNAL)


def test_an_export_goes_to_the_standard_output(jit: Jit, service: Service) -> None:
    service.will_stream("ExportAuditEvents", WHOLE)

    ran = jit("audit", "export", "--format", "ocsf", "--filter", "seq > 0", "--start-seq", "2", "--end-seq", "9")

    assert (ran.code, ran.out, ran.err) == (0, '{"seq":"1"}\n{"seq":"2"}\n{"seq":"3"}\n', "")
    assert service.sent("ExportAuditEvents") == [
        audit_pb2.ExportAuditEventsRequest(format="ocsf", filter="seq > 0", start_seq=2, end_seq=9)
    ]


@pytest.mark.parametrize(("form", "said"), [("table", "3 events in "), ("json", '"eventCount": 3')])
def test_a_file_has_its_name_once_it_is_whole(jit: Jit, service: Service, tmp_path: Path, form: str, said: str) -> None:
    service.will_stream("ExportAuditEvents", WHOLE)
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / "audit.ndjson"
    file.write_text("older")

    ran = jit("audit", "export", "--to", str(file), "-o", form)

    assert (ran.code, said in ran.out) == (0, True)
    assert file.read_bytes() == b"".join(part.data for part in WHOLE)
    assert left_in(file.parent) == ["audit.ndjson"]


@pytest.mark.parametrize("before", [None, "older"])
def test_a_broken_export_leaves_what_was_there(jit: Jit, service: Service, tmp_path: Path, before: str | None) -> None:
    service.will_stream("ExportAuditEvents", [*WHOLE, BROKEN])
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / "audit.ndjson"
    if before is not None:
        file.write_text(before)

    ran = jit("audit", "export", "--to", str(file))

    assert ran.code == 7
    assert left_in(file.parent) == (["audit.ndjson"] if before is not None else [])
    assert before is None or file.read_text() == before


def test_a_broken_export_to_the_standard_output_is_told_by_the_exit_code(jit: Jit, service: Service) -> None:
    service.will_stream("ExportAuditEvents", [*WHOLE[:2], BROKEN])

    ran = jit("audit", "export")

    assert (ran.code, ran.out.count("\n")) == (7, 2)
    assert "error" in ran.err


def test_a_file_that_cannot_be_written_is_a_usage_error(jit: Jit, service: Service, tmp_path: Path) -> None:
    service.will_stream("ExportAuditEvents", WHOLE)

    assert jit("audit", "export", "--to", str(tmp_path / "none" / "file")).code == 2


LAST = {
    "jitaccess": '{"name":"auditEvents/7","seq":"7"}',
    "cloudevents": '{"specversion":"1.0","data":{"seq":"7"}}',
    "ocsf": '{"metadata":{"sequence":7},"time":1}',
}


@pytest.mark.parametrize("format", LAST)
def test_a_job_goes_on_after_the_last_event_of_its_file(
    jit: Jit, service: Service, tmp_path: Path, format: str
) -> None:
    service.will_stream("ExportAuditEvents", WHOLE)
    file = tmp_path / "audit.ndjson"
    file.write_text(f"earlier\n{LAST[format]}\n")

    ran = jit("audit", "export", "--to", str(file), "--append", "--format", format)

    assert (ran.code, ran.out) == (0, f"3 events added to {file}\n")
    assert service.sent("ExportAuditEvents")[0].start_seq == 7
    assert file.read_bytes() == f"earlier\n{LAST[format]}\n".encode() + b"".join(part.data for part in WHOLE)


def test_a_job_begins_its_file_at_the_first_event(jit: Jit, service: Service, tmp_path: Path) -> None:
    service.will_stream("ExportAuditEvents", WHOLE)
    file = tmp_path / "audit.ndjson"

    ran = jit("audit", "export", "--to", str(file), "--append")

    assert (ran.code, service.sent("ExportAuditEvents")[0].start_seq) == (0, 0)
    assert (file.read_bytes().count(b"\n"), file.stat().st_mode & 0o777) == (3, 0o600)


def test_what_a_broken_write_left_is_written_anew(jit: Jit, service: Service, tmp_path: Path) -> None:
    service.will_stream("ExportAuditEvents", WHOLE)
    file = tmp_path / "audit.ndjson"
    file.write_text(LAST["jitaccess"] + '\n{"name":"auditEvents/8","se')

    jit("audit", "export", "--to", str(file), "--append")

    assert service.sent("ExportAuditEvents")[0].start_seq == 7
    assert file.read_text().splitlines()[:2] == [LAST["jitaccess"], '{"seq":"1"}']


def test_an_append_that_breaks_off_leaves_whole_lines_to_go_on_after(
    jit: Jit, service: Service, tmp_path: Path
) -> None:
    service.will_stream("ExportAuditEvents", [*WHOLE[:2], BROKEN], WHOLE)
    file = tmp_path / "audit.ndjson"

    first = jit("audit", "export", "--to", str(file), "--append")
    jit("audit", "export", "--to", str(file), "--append")

    assert first.code == 7
    assert [sent.start_seq for sent in service.sent("ExportAuditEvents")] == [0, 2]


def test_a_long_last_event_is_found_whole(tmp_path: Path) -> None:
    file = tmp_path / "audit.ndjson"
    file.write_text('{"seq":"1"}\n{"seq":"2","comment":"' + "x" * 200_000 + '"}\n')

    assert exporting.last_seq(file) == 2


@pytest.mark.parametrize("text", ["notes\n", "[]\n", '{"data":{}}\n', '{"seq":"x"}\n'])
def test_a_file_that_is_no_export_is_not_added_to(jit: Jit, service: Service, tmp_path: Path, text: str) -> None:
    file = tmp_path / "file"
    file.write_text(text)

    assert jit("audit", "export", "--to", str(file), "--append").code == 2
    assert (file.read_text(), service.received) == (text, [])


def test_a_part_of_the_log_never_replaces_what_is_there(jit: Jit, service: Service, tmp_path: Path) -> None:
    file = tmp_path / "audit.ndjson"
    file.write_text("earlier\n")

    ran = jit("audit", "export", "--to", str(file), "--start-seq", "7")

    assert (ran.code, "--append adds to it" in ran.err) == (2, True)
    assert (file.read_text(), service.received) == ("earlier\n", [])


@pytest.mark.parametrize("flags", [("--append",), ("--append", "--to", "f", "--start-seq", "7")])
def test_append_needs_a_file_and_finds_its_place(jit: Jit, flags: tuple[str, ...]) -> None:
    assert jit("audit", "export", *flags).code == 2


@pytest.mark.parametrize("flags", [(), ("--end-seq", "4")])
def test_whoever_watches_sees_how_far_the_export_is(
    jit: Jit, service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(exporting, "tell", shown.append)
    monkeypatch.setattr(audit, "sys", SimpleNamespace(stderr=Terminal(), stdout=Terminal()))
    service.will_stream("ExportAuditEvents", WHOLE)
    service.will_answer("ListAuditEvents", audit_pb2.ListAuditEventsResponse(audit_events=[{"seq": 4}]))

    ran = jit("audit", "export", "--to", str(tmp_path / "file"), *flags)

    assert (ran.code, ran.out) == (0, f"3 events in {tmp_path / 'file'}\n")
    assert [line[33:] for line in shown] == ["  0 %  0 events", " 50 %  2 events", " 75 %  3 events", ""]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_on_a_terminal_replaces_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    for line in ("one", "two", ""):
        progress.tell(line)

    assert terminal.getvalue() == "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K"


@pytest.mark.parametrize(
    ("done", "total", "share"), [(0, 9, "  0 %"), (1, 3, " 33 %"), (4, 3, "100 %"), (0, 0, "100 %")]
)
def test_a_bar_is_as_full_as_the_work_is_done(done: int, total: int, share: str) -> None:
    full, percent = progress.bar(done, total).split("] ")

    assert (percent, len(full)) == (share, 31)


def tailed(seq: int, **fields: str) -> audit_pb2.TailAuditEventsResponse:
    if not fields:
        return audit_pb2.TailAuditEventsResponse(seq=seq)
    event = audit_pb2.AuditEvent(seq=seq, event_type=audit_pb2.AuditEvent.GRANT_REVOKED, **fields)
    return audit_pb2.TailAuditEventsResponse(audit_event=event, seq=seq)


AWAY = Refusal(code=grpc.StatusCode.UNAVAILABLE)
OVER = Refusal(code=grpc.StatusCode.UNAUTHENTICATED, reason="TOKEN_INVALID")
REVOKED = tailed(4, principal="user:bob@example.com", decision="REVOKED")


def test_each_event_is_a_line_under_one_header(jit: Jit, service: Service) -> None:
    service.will_stream("TailAuditEvents", [tailed(3), REVOKED, tailed(5, principal="user:ann@example.com"), OVER])

    ran = jit("audit", "tail", "--filter", "seq > 0", "--start-seq", "3")

    header, first, second = ran.out.splitlines()
    assert ran.code == 3
    assert header.split()[:4] == ["SEQ", "TIME", "EVENT", "PRINCIPAL"]
    assert first.index("user:bob@example.com") == second.index("user:ann@example.com") == header.index("PRINCIPAL")
    (sent,) = service.sent("TailAuditEvents")
    assert sent == audit_pb2.TailAuditEventsRequest(filter="seq > 0", start_seq=3, batch_size=1000)


def test_events_that_come_together_are_a_line_each(jit: Jit, service: Service) -> None:
    second = tailed(5, principal="user:ann").audit_event
    together = audit_pb2.TailAuditEventsResponse(audit_events=[REVOKED.audit_event, second], seq=5)
    service.will_stream("TailAuditEvents", [tailed(3), together, OVER])

    lines = jit("audit", "tail", "-o", "json").out.splitlines()

    assert [json.loads(line)["seq"] for line in lines] == ["4", "5"]


def test_a_tail_in_json_is_one_object_a_line(jit: Jit, service: Service) -> None:
    service.will_stream("TailAuditEvents", [tailed(3), REVOKED, OVER])

    (line,) = jit("audit", "tail", "-o", "json").out.splitlines()

    assert (json.loads(line)["seq"], json.loads(line)["auditEvent"]["eventType"]) == ("4", "GRANT_REVOKED")


def test_a_tail_that_breaks_is_taken_up_where_it_was(jit: Jit, service: Service) -> None:
    service.will_stream("TailAuditEvents", [tailed(3), REVOKED, AWAY], [tailed(5, principal="user:ann"), OVER])

    ran = jit("audit", "tail")

    assert len(ran.out.splitlines()) == 3
    assert [sent.start_seq for sent in service.sent("TailAuditEvents")] == [0, 4]


def kept_at(directory: Path, seq: int, head_hash: str) -> Path:
    text = RING.sign(KEY, CLAIMS | {"event_count": seq, "head_hash": head_hash}, typ="audit-checkpoint+jwt")
    file = directory / f"checkpoint-{seq:012}-20260302T120000Z.json"
    file.write_text(json.dumps({"checkpoint": text, "publicKey": RING.public(KEY)}))
    return file


@pytest.mark.parametrize(("there", "code"), [("cd" * 32, 0), ("ef" * 32, 1)])
def test_a_directory_of_checkpoints_is_held_against_the_log_one_by_one(
    jit: Jit, service: Service, tmp_path: Path, there: str, code: int
) -> None:
    older, _ = kept_at(tmp_path, 4, "cd" * 32), kept_at(tmp_path, 9, "ab" * 32)
    service.will_stream("StreamAuditVerification", told(Said.VERIFIED))
    events = [audit_pb2.AuditEvent(name="auditEvents/4", seq=4, hash=there)]
    service.will_answer("ListAuditEvents", audit_pb2.ListAuditEventsResponse(audit_events=events))

    ran = jit("audit", "verify", "--checkpoint", str(tmp_path))

    assert (ran.code, str(older) in ran.out) == (code, code == 1)
    assert service.sent("ListAuditEvents")[-1].filter == "seq = 4"


APPROVED = audit_pb2.AuditEvent(
    name="auditEvents/7",
    seq=7,
    event_type=audit_pb2.AuditEvent.GRANT_APPROVED,
    principal="user:bob@example.com",
    grant="grants/g1",
    policy="policies/p1",
    policy_revision=3,
    method="/jitaccess.v1.GrantService/ApproveGrant",
    acr="phr",
    amr=["hwk", "mfa"],
    auth_time=Timestamp(seconds=1772452800),
)
REQUESTED = audit_pb2.AuditEvent(name="auditEvents/6", seq=6, event_type=audit_pb2.AuditEvent.GRANT_REQUESTED)


def test_a_list_says_how_whoever_decided_had_logged_in(jit: Jit, service: Service) -> None:
    service.will_answer("ListAuditEvents", audit_pb2.ListAuditEventsResponse(audit_events=[APPROVED, REQUESTED]))

    header, approved, requested = jit("audit", "ls").out.splitlines()

    assert header.endswith("LOG-IN")
    assert "acr phr, amr hwk mfa, at 2026-03-02 " in approved
    assert "acr" not in requested


def test_a_list_without_decisions_has_no_column_for_it(jit: Jit, service: Service) -> None:
    service.will_answer("ListAuditEvents", audit_pb2.ListAuditEventsResponse(audit_events=[REQUESTED]))

    assert "LOG-IN" not in jit("audit", "ls").out


def test_one_event_is_shown_with_all_that_its_record_says(jit: Jit, service: Service) -> None:
    service.will_answer("ListAuditEvents", audit_pb2.ListAuditEventsResponse(audit_events=[APPROVED]))

    said = jit("audit", "show", "7").out

    assert service.sent("ListAuditEvents")[-1].filter == "seq = 7"
    for line in ("what GRANT_APPROVED", "principal user:bob@example.com", "policy policies/p1, revision 3"):
        assert line in [" ".join(each.split()) for each in said.splitlines()]
    assert "acr phr, amr hwk mfa, at 2026-03-02 " in said
    assert "/jitaccess.v1.GrantService/ApproveGrant" in said


@pytest.mark.parametrize(("pruned", "why"), [(0, "the log has no event 7"), (9, "events 1 to 9 were pruned")])
def test_an_event_that_is_not_there_is_not_found(jit: Jit, service: Service, pruned: int, why: str) -> None:
    service.will_answer("ListAuditEvents", audit_pb2.ListAuditEventsResponse(pruned_seq=pruned))

    ran = jit("audit", "show", "7")

    assert (ran.code, why in ran.err) == (exits.NOT_FOUND, True)
