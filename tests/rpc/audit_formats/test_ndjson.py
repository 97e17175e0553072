"""The export's own format: the AuditEvent message in proto3 JSON, to the byte, also where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Origin
from jit_service.rpc.audit_formats import ndjson, plain_record
from jit_service.rpc.audit_formats.plain_record import plain_json, plain_message
from jit_service.rpc.services.audit_messages import audit_message, stored_message
from jit_service.storage import payload_of
from jit_service.storage.audit_records import StoredRecord
from tests.conftest import NOON, TICK
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.examples import examples

instants = st.sampled_from([NOON, NOON + TICK, NOON + timedelta(milliseconds=250), NOON + timedelta(microseconds=1100)])
plain = st.sampled_from(["", "user:alice", "database/orders/**", "a b", "/<&>"])


def events_with(texts: st.SearchStrategy[str], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Event]:
    names = ("principal", "subject", "decision", "reason", "message", "grant", "policy", "decision_id", "token_id")
    names = (*names, "lock", "subject_source_ip", "context_of")
    return st.builds(
        Event,
        type=st.sampled_from(sorted(set(EventType) - {EventType.UNREADABLE})),
        at=instants,
        origin=st.builds(Origin, **{each.name: texts for each in fields(Origin)}),
        **dict.fromkeys(names, texts),
        **{name: st.lists(texts, max_size=2).map(tuple) for name in ("resources", "actions", "chain", "groups")},
        policy_revision=st.integers(0, 2**53),
        revision=st.integers(0, 2**53),
        groups_left_out=st.booleans(),
        omitted_count=st.integers(0, 9),
        **more,
    )


escaped = st.sampled_from([*["user:alice"] * 20, 'q"', "\\", "\x1f", "\n", "\x7f"])
odd = st.one_of(plain, st.text(max_size=12), st.just("ñ"))
more = {
    "context": st.sampled_from([{}, {"a": [1, None]}]),
    "duration": st.sampled_from([None, timedelta(hours=1)]),
    "repeat_count": st.sampled_from([0, 7]),
    "signal": st.sampled_from(["", "signals/s"]),
    "acr": st.sampled_from(["", "phr"]),
    "amr": st.sampled_from([(), ("hwk", "mfa")]),
    "logged_in_at": st.sampled_from([None, NOON, NOON + TICK]),
}
events = st.one_of(events_with(plain), events_with(escaped), events_with(odd), events_with(plain, **more))


@settings(max_examples=examples(80), deadline=None, derandomize=True, database=None)
@given(event=events, seq=st.integers(1, 2**40))
def check_same(event: Event, seq: int) -> None:
    record = StoredRecord(seq, bytes(range(32)), payload_of(event))

    assert ndjson.audit_event(record) == ndjson.message_json(record.recorded)


def test_a_record_has_the_bytes_of_its_message_however_they_are_made() -> None:
    check_same()


@settings(max_examples=examples(60), deadline=None, derandomize=True, database=None)
@given(event=events, seq=st.integers(1, 2**40))
def check_same_message(event: Event, seq: int) -> None:
    record = StoredRecord(seq, bytes(range(32)), payload_of(event))

    assert stored_message(record) == audit_message(record.recorded)


def test_a_record_has_the_same_message_however_it_is_made() -> None:
    check_same_message()


PLAIN = Event(type=EventType.ACCESS_CHECKED, at=NOON + TICK, principal="service:s", message="yes", decision_id="d")


def test_a_check_without_a_context_is_plain() -> None:
    assert plain_json(1, bytes(32), payload_of(PLAIN)) is not None
    assert plain_message(1, bytes(32), payload_of(PLAIN)) is not None


@pytest.mark.parametrize(
    "more",
    [
        {"context": {"a": 1}},
        {"message": "ñ"},
        {"message": "\x7f"},
        {"duration": timedelta(1)},
        {"signal": "s"},
        {"acr": "phr"},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_is_not_plain_is_left_to_the_message(more: dict[str, Any]) -> None:
    event = Event(**({"type": PLAIN.type, "at": PLAIN.at, "principal": PLAIN.principal} | more))

    assert plain_json(1, bytes(32), payload_of(event)) is None


@pytest.mark.parametrize("payload", [b"no json", b"[]", b"{}", None, "text"])
def test_what_somebody_changed_is_told_as_unreadable(payload: Any) -> None:
    line = ndjson.audit_event(StoredRecord(7, bytes(32), payload))

    message = stored_message(StoredRecord(7, bytes(32), payload))

    assert (message.seq, "cannot be read" in message.message) == (7, True)
    assert b'"seq":"7"' in line
    assert b"cannot be read" in line


TWINS: list[tuple[str, Any, str, str, Callable[[], None]]] = [
    ("a token that is the caller's", plain_record._json_of, "record.token_id or origin", "origin", check_same),
    ("an escape that is left out", plain_json, ' or b"\\x7f" in payload', "", check_same),
    ("digits that protobuf leaves out", plain_record._json_of, 'at.endswith("000Z")', "False", check_same),
]


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str, function: Any, sound: str, bug: str, caught_by: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ndjson, "plain_json", lambda *record: plain_record.plain_json(*record))
    demand_caught(Twin(name, function, sound, bug, caught_by), monkeypatch)
