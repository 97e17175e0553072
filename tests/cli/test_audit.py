"""`jit audit`: checkpoints are kept as they come, and judged by the key beside them where the service cannot."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from jit_service.keyring import KeyRing
from jitaccess.v1 import audit_pb2
from tests.cli.conftest import Jit
from tests.client.service import Service

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
RING = KeyRing(bytes(32))
KEY = RING.new(now=NOON, signs_at=NOON)
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


def verdict(signature: Said.CheckpointSignature.ValueType, *, valid: bool = True) -> Said:
    bad = {} if valid else {"first_bad_seq": 9, "problem": "record 9 or one before it is not as the checkpoint says"}
    return Said(valid=valid, event_count=12, checkpoint_signature=signature, **bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_what_checkpoint_writes_verify_reads(jit: Jit, service: Service, tmp_path: Path, form: str) -> None:
    service.will_answer("GetAuditCheckpoint", MADE)
    service.will_answer("VerifyAuditLog", verdict(Said.VERIFIED))
    file = tmp_path / "checkpoint"
    file.write_text(jit("audit", "checkpoint", "-o", form).out)

    ran = jit("audit", "verify", "--checkpoint", str(file))

    assert (ran.code, ran.out.splitlines()[1]) == (0, "the checkpoint is signed by this service")
    assert service.sent("VerifyAuditLog")[-1].checkpoint == TEXT


def test_people_see_what_the_checkpoint_says_and_its_text(jit: Jit, service: Service) -> None:
    service.will_answer("GetAuditCheckpoint", MADE)

    first, second = jit("audit", "checkpoint").out.splitlines()

    assert first.startswith(f"9 events, head {'ab' * 32}, ")
    assert second == TEXT


@pytest.mark.parametrize("as_file", [True, False])
def test_the_text_alone_is_enough(jit: Jit, service: Service, tmp_path: Path, as_file: bool) -> None:
    service.will_answer("VerifyAuditLog", verdict(Said.VERIFIED))
    (tmp_path / "text").write_text(TEXT + "\n")

    ran = jit("audit", "verify", "--checkpoint", str(tmp_path / "text") if as_file else TEXT)

    assert ran.code == 0
    assert service.sent("VerifyAuditLog")[-1].checkpoint == TEXT


def test_a_log_that_was_rewritten_is_a_no(jit: Jit, service: Service) -> None:
    service.will_answer("VerifyAuditLog", verdict(Said.VERIFIED, valid=False))

    ran = jit("audit", "verify", "--checkpoint", TEXT)

    assert (ran.code, ran.out.splitlines()[0][:23]) == (1, "NOT VALID at event 9: r")


def kept(tmp_path: Path, text: str, key: object) -> str:
    file = tmp_path / "kept.json"
    file.write_text(json.dumps({"checkpoint": text, "publicKey": key}))
    return str(file)


def test_where_the_service_does_not_know_the_key_the_one_that_was_kept_tells(
    jit: Jit, service: Service, tmp_path: Path
) -> None:
    service.will_answer("VerifyAuditLog", verdict(Said.KEY_UNKNOWN))

    with_key = jit("audit", "verify", "--checkpoint", kept(tmp_path, TEXT, RING.public(KEY)))
    without = jit("audit", "verify", "--checkpoint", TEXT)

    assert (with_key.code, without.code) == (0, 0)
    assert "the one kept with it verifies it" in with_key.out
    assert "its signature is not verified" in without.out


def test_a_checkpoint_that_neither_signed_is_an_error(jit: Jit, service: Service, tmp_path: Path) -> None:
    service.will_answer("VerifyAuditLog", verdict(Said.KEY_UNKNOWN))
    other = KeyRing(bytes(32)).new(now=NOON, signs_at=NOON)
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
