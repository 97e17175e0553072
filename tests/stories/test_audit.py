"""The audit log to those who read it: checkpoints, the same over gRPC and REST."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from jit_service import signing_keys
from jitaccess import verify_checkpoint
from jitaccess.v1.audit_pb2 import VerifyAuditLogResponse
from tests.conftest import Clock
from tests.world import AUDIT, GRANTS, TOKENS, Grpc, Outcome, Rest, Story, World, form, running_world

ISSUER = "https://jit.example.com"


def checkpoint(story: Story) -> Any:
    return story.must(story.auditor, AUDIT + "GetAuditCheckpoint", {})


def verify(story: Story, text: str) -> Any:
    return story.must(story.auditor, AUDIT + "VerifyAuditLog", {"checkpoint": text})


def refused(story: Story, text: str) -> Outcome:
    return story.call(story.auditor, AUDIT + "VerifyAuditLog", {"checkpoint": text})


def test_a_checkpoint_is_what_the_log_is_now(story: Story) -> None:
    story.create_policy()
    story.asks()

    made = checkpoint(story)

    verified = story.must(story.auditor, AUDIT + "VerifyAuditLog", {})
    assert (made.event_count, made.head_hash) == (verified.event_count, verified.head_hash)
    assert made.checkpoint_time.ToDatetime(UTC) == story.world.clock()
    assert verified.checkpoint_signature == VerifyAuditLogResponse.CHECKPOINT_SIGNATURE_UNSPECIFIED


def test_a_log_that_grew_continues_its_checkpoint(story: Story) -> None:
    story.create_policy()
    made = checkpoint(story)
    story.asks()

    verified = verify(story, made.checkpoint)

    assert verified.valid
    assert verified.event_count > made.event_count
    assert verified.checkpoint_signature == VerifyAuditLogResponse.VERIFIED


def test_the_keeper_verifies_it_by_the_key_that_came_with_it(story: Story) -> None:
    made = checkpoint(story)
    store, issuing = story.world.service.store, story.world.service.issuing
    assert issuing is not None
    signing_keys.replace_all(store, issuing, by=signing_keys.itself())

    verified = verify(story, made.checkpoint)
    was = verify_checkpoint(made.checkpoint, MessageToDict(made.public_key), issuer=ISSUER)

    assert (verified.valid, verified.checkpoint_signature) == (True, VerifyAuditLogResponse.KEY_UNKNOWN)
    assert (was.event_count, was.head_hash) == (made.event_count, made.head_hash)


def test_what_is_no_checkpoint_is_refused_by_its_field(story: Story) -> None:
    story.create_policy()
    token = story.must(story.alice, TOKENS + "IssueToken", {"name": story.granted().name}).token
    made = checkpoint(story).checkpoint
    body = made.split(".")[1]

    for text in (token, "nonsense", made.replace(body, body[:-1]), story.world.token(story.auditor)):
        outcome = refused(story, text)
        assert (outcome.code, outcome.reason, outcome.fields) == ("INVALID_ARGUMENT", "INVALID_FIELD", ("checkpoint",))


def test_a_checkpoint_proves_nobody(story: Story) -> None:
    made = checkpoint(story).checkpoint

    bearer = story.surface.call(GRANTS + "ListGrants", {}, token=made)
    active = story.must(story.gateway, TOKENS + "IntrospectToken", form(made))

    assert bearer.reason == "TOKEN_INVALID"
    assert b'"active": false' in active.data or b'"active":false' in active.data


def test_without_a_token_issuer_there_are_no_checkpoints(tmp_path: Path) -> None:
    with running_world(tmp_path, Clock(), f"sqlite:///{tmp_path / 'jit.db'}", token_issuer="") as world:
        for story in stories(world):
            assert story.call(story.auditor, AUDIT + "GetAuditCheckpoint", {}).reason == "TOKENS_OFF"
            assert refused(story, "a.b.c").reason == "TOKENS_OFF"
            assert story.must(story.auditor, AUDIT + "VerifyAuditLog", {}).valid


def stories(world: World) -> tuple[Story, Story]:
    return Story(world, Grpc(world)), Story(world, Rest(world))
