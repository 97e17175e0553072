"""The audit log to those who read it: checkpoints, exports and tails, the same over gRPC and REST."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from datetime import UTC
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from jit_service.runtime.service import Service
from jit_service.settings import Address
from jit_service.use_cases import signing_keys
from jitaccess import verify_checkpoint
from jitaccess.v1.audit_pb2 import AuditEvent, VerifyAuditLogResponse
from tests.conftest import HOUR, Clock
from tests.stories.streams import Refused, exporting, tailing, verifying
from tests.world import AUDIT, GRANTS, TOKENS, Grpc, Outcome, Rest, Story, World, form, of_error, running_world

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
    signing_keys.replace_all(store, issuing, by=signing_keys.service_caller())

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


def followed(story: Story, **body: Any) -> list[Any]:
    with verifying(story, story.auditor, **body) as told:
        return list(told)


def test_a_verification_is_followed_to_its_result(story: Story) -> None:
    story.create_policy()
    made = checkpoint(story)
    story.asks()

    first, *_, last = followed(story, checkpoint=made.checkpoint)

    assert (first.checked_count, first.event_count) == (0, made.event_count + 1)
    assert not first.HasField("result")
    assert (last.checked_count, last.start_seq) == (made.event_count + 1, 0)
    assert last.result == verify(story, made.checkpoint)


def test_only_what_came_after_a_checkpoint_is_recomputed(story: Story) -> None:
    made = checkpoint(story)
    story.create_policy()
    story.asks()

    last = followed(story, checkpoint=made.checkpoint, onlyNew=True)[-1]

    assert (last.start_seq, last.start_seq + last.checked_count) == (made.event_count, last.event_count)
    assert last.result == verify(story, made.checkpoint)


def test_what_cannot_be_verified_is_refused_by_its_field(story: Story) -> None:
    bodies = {"only_new": {"onlyNew": True}, "checkpoint": {"checkpoint": "nonsense"}}
    for field, body in bodies.items():
        with pytest.raises((grpc.RpcError, Refused)) as refused:
            followed(story, **body)
        fault = refused.value
        outcome = fault.outcome if isinstance(fault, Refused) else of_error(fault)
        assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", (field,))


def export(story: Story, **body: Any) -> list[Any]:
    with exporting(story, story.auditor, **body) as lines:
        return [json.loads(line) for line in lines]


def test_an_export_is_the_log_a_line_each(story: Story) -> None:
    story.create_policy()
    grant = story.asks()
    story.check()

    lines = export(story)

    listed = story.audit(f"seq > {len(lines) - 100}")
    assert [ParseDict(line, AuditEvent()) for line in lines][-len(listed) :] == listed
    assert [int(line["seq"]) for line in lines] == list(range(1, len(lines) + 1))
    assert grant.name in [line.get("grant") for line in lines]


def test_an_export_can_be_gone_on_with_after_its_last_line(story: Story) -> None:
    story.create_policy()
    last = int(export(story)[-1]["seq"])
    grant = story.asks()

    more = export(story, startSeq=str(last))

    assert [(int(line["seq"]), line["grant"]) for line in more] == [(last + 1, grant.name)]
    assert export(story, startSeq=str(last + 1)) == []
    assert len(export(story, startSeq="1", endSeq="3")) == 2


def test_only_what_the_filter_means_is_exported(story: Story) -> None:
    story.create_policy()
    grant = story.granted()

    found = [line["eventType"] for line in export(story, filter=f'grant = "{grant.name}"')]

    assert found == ["GRANT_REQUESTED", "GRANT_APPROVED"]
    assert export(story, filter=f'grant = "{grant.name}x"') == []


@pytest.mark.parametrize("format", ["jitaccess", "cloudevents", "ocsf"])
def test_every_format_says_the_same_of_the_same_record(story: Story, format: str) -> None:
    story.create_policy()
    grant = story.granted()

    approved = export(story, format=format, filter=f'grant = "{grant.name}" event_type = GRANT_APPROVED')

    (line,) = approved
    said = {
        "jitaccess": lambda: (int(line["seq"]), line["eventType"], line["principal"]),
        "cloudevents": lambda: (int(line["data"]["seq"]), line["data"]["eventType"], line["data"]["principal"]),
        "ocsf": lambda: (
            line["metadata"]["sequence"],
            line["metadata"]["event_code"],
            line["actor"]["user"]["name"],
        ),
    }[format]()
    (event,) = story.audit(f'grant = "{grant.name}" event_type = GRANT_APPROVED')
    assert said == (event.seq, "GRANT_APPROVED", story.bob.principal)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"format": "csv"}, "format"),
        ({"filter": "nothing = 1"}, "filter"),
        ({"startSeq": "-1"}, "start_seq"),
        ({"startSeq": str(2**40)}, "start_seq"),
        ({"endSeq": str(2**40)}, "end_seq"),
        ({"startSeq": "2", "endSeq": "1"}, "end_seq"),
    ],
)
def test_an_export_that_cannot_be_is_refused_by_its_field(story: Story, body: dict[str, str], field: str) -> None:
    story.create_policy()

    with pytest.raises((grpc.RpcError, Refused)) as refused:
        export(story, **body)

    fault = refused.value
    outcome = fault.outcome if isinstance(fault, Refused) else of_error(fault)
    assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", (field,))


def test_an_export_is_ndjson_even_where_nothing_is_in_it(story: Story) -> None:
    with exporting(story, story.auditor, filter="seq = 0") as lines:
        assert list(lines) == []
    if story.surface.name == "rest":
        path = "/v1/auditEvents:export?filter=seq%3D0"
        headers = {"authorization": f"Bearer {story.world.token(story.auditor)}"}
        connection = http.client.HTTPConnection(story.world.http.host, story.world.http.port, timeout=20)
        connection.request("GET", path, headers=headers)
        assert connection.getresponse().headers["content-type"] == "application/x-ndjson"
        connection.close()


def test_the_audit_log_is_exported_to_auditors_alone(story: Story) -> None:
    for person in (story.alice, story.gateway):
        with pytest.raises((grpc.RpcError, Refused), match="needs the role"):
            with exporting(story, person) as lines:
                next(lines)


def next_events(told: Iterator[Any], count: int) -> list[Any]:
    """Returns the next so many events."""
    return [message.audit_event for message in islice((one for one in told if one.HasField("audit_event")), count)]


def types(events: list[Any]) -> list[str]:
    return [AuditEvent.EventType.Name(event.event_type) for event in events]


def test_each_event_is_told_as_it_is_recorded(story: Story) -> None:
    story.create_policy()
    with tailing(story, story.auditor) as told:
        first = next(told)
        grant = story.granted()
        story.check()
        story.call(story.dave, GRANTS + "RevokeGrant", {"name": grant.name, "comment": "x"})

        events = next_events(told, 4)

    assert not first.HasField("audit_event")
    assert types(events) == ["GRANT_REQUESTED", "GRANT_APPROVED", "ACCESS_CHECKED", "CALL_REFUSED"]
    assert [event.seq for event in events] == list(range(first.seq + 1, first.seq + 5))
    assert events == story.audit(f"seq > {first.seq}")


def test_a_tail_that_broke_goes_on_after_its_last_event(story: Story) -> None:
    story.create_policy()
    with tailing(story, story.auditor) as told:
        start = next(told).seq
    grants = [story.asks() for _ in range(3)]

    seen: list[str] = []
    for _ in grants:
        # A new stream for each one, as after a broken connection.
        with tailing(story, story.auditor, startSeq=str(start)) as told:
            (event,) = next_events(told, 1)
            seen, start = [*seen, event.grant], event.seq

    assert seen == [grant.name for grant in grants]


def test_only_what_the_filter_means_is_told(story: Story) -> None:
    story.create_policy()
    with tailing(story, story.auditor, filter="event_type = ACCESS_CHECKED") as told:
        next(told)
        story.granted()
        decision = story.check()

        (event,) = next_events(told, 1)

    assert event.decision_id == decision.decision_id


def test_what_cannot_be_tailed_is_refused_by_its_field(story: Story) -> None:
    bodies = {"filter": {"filter": "nothing = 1"}, "start_seq": {"startSeq": str(2**40)}}
    for field, body in bodies.items():
        with pytest.raises((grpc.RpcError, Refused)) as refused:
            with tailing(story, story.auditor, **body) as told:
                next(told)
        fault = refused.value
        outcome = fault.outcome if isinstance(fault, Refused) else of_error(fault)
        assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", (field,))


def test_a_tail_ends_with_the_token_that_it_was_opened_with(world: World) -> None:
    story = Story(world, Grpc(world))
    with tailing(story, story.auditor) as told:
        next(told)
        world.clock.advance(HOUR)
        story.create_policy()
        with pytest.raises(grpc.RpcError) as ended:
            next(told)

    assert of_error(ended.value).reason == "TOKEN_EXPIRED"


def test_tails_and_exports_count_as_watches_do(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jit.db'}"
    with running_world(tmp_path, Clock(), url, watch_streams=1) as world:
        for story in stories(world):
            with tailing(story, story.auditor) as told:
                next(told)
                with pytest.raises((grpc.RpcError, Refused), match="1 streams are open"):
                    export(story)
            one_more(story)


def one_more(story: Story) -> None:
    """Waits until the service has noticed that its one stream is closed."""
    while True:
        try:
            export(story)
        except (grpc.RpcError, Refused) as busy:
            assert "1 streams are open" in str(busy)  # noqa: PT017
        else:
            return


def test_a_restart_of_the_service_leaves_no_gap(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jit.db'}"
    with running_world(tmp_path, Clock(), url) as world:
        story = Story(world, Grpc(world))
        story.create_policy()
        with tailing(story, story.auditor) as told:
            start = next(told).seq
            world.service.stop()
            with pytest.raises(grpc.RpcError) as ended:
                next_events(told, 1)
        assert of_error(ended.value).reason == "SERVICE_STOPPING"

        again = Service(world.settings, clock=world.clock)
        world.service, world.grpc = again, again.listen(Address("127.0.0.1", 0))
        again.start()
        world.channel.close()
        world.channel = grpc.insecure_channel(str(world.grpc))
        grant = story.asks()

        with tailing(story, story.auditor, startSeq=str(start)) as told:
            assert [event.grant for event in next_events(told, 1)] == [grant.name]


def stories(world: World) -> tuple[Story, Story]:
    return Story(world, Grpc(world)), Story(world, Rest(world))


def test_what_earlier_tests_left_counted_is_recorded_before_the_next_one(story: Story) -> None:
    for _ in range(3):
        assert story.surface.call(GRANTS + "RequestGrant", {}, token="nonsense").reason == "TOKEN_INVALID"

    story.world.settle()

    told = story.audit("event_type = CALL_REFUSED")[-1]
    assert (told.reason, told.repeat_count) == ("TOKEN_INVALID", 2)
