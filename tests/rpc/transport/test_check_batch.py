"""Checks that wait at the same time: answered as each would be alone, by one look and one commit, or left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from jit_service.check import AuditMode, GrantCache, Recorder, checker, questions
from jit_service.check.recording import Recording
from jit_service.domain.errors import StoreUnavailable
from jit_service.rpc import origins, request_cache
from jit_service.rpc.admission import Admission, Call
from jit_service.rpc.authentication import Authenticator
from jit_service.rpc.interceptor import CallInterceptor
from jit_service.rpc.protected_resource import ProtectedResource
from jit_service.rpc.quota import Quota, Rates
from jit_service.rpc.request_cache import MAX_BYTES
from jit_service.rpc.streams import StreamLimits, Streams
from jit_service.rpc.transport.check_batch import Answer, BatchCheckHandler
from jit_service.storage import Store
from jit_service.use_cases import grants
from jit_service.use_cases.unauthenticated_calls import UnauthenticatedCalls
from jitaccess.jose.keys import UrlKeys
from jitaccess.v1.access_pb2 import CheckAccessRequest, CheckAccessResponse
from tests import checking
from tests.check.test_recorder import recorded
from tests.conftest import HOUR
from tests.domain.test_sown_bugs import Twin, sown
from tests.rpc.providers import provider
from tests.rpc.test_keys import Monotonic
from tests.rpc.tokens import Forge
from tests.storage.people import ALICE, BOB, CAROL, GATEWAY, add_policy, approve, ask

RESOURCE = "database/orders/eu"
Reason = CheckAccessResponse.Reason


class Batch:
    """What answers together, over a store of its own."""

    def __init__(self, store: Store, directory: Path, mode: AuditMode = AuditMode.COMMITTED) -> None:
        self.forge = Forge(directory)
        self.store = store
        self.view = GrantCache(store, clock=store.clock, bound=timedelta(seconds=1))
        self.recorder = Recorder(store, mode)
        self.recorder.start()
        self.checker = checking.checker_over(store, self.view, self.recorder)
        issuer = self.forge.issuer(roles={"checker": ["checker"]})
        self.authenticator = Authenticator([issuer], clock=store.clock, max_lifetime=2 * HOUR)
        interceptor = CallInterceptor(
            store,
            self.view,
            self.authenticator,
            Streams(StreamLimits(1)),
            (),
            quota=Quota(Rates(writes=1e6, checks=1e6)),
            unproved=UnauthenticatedCalls(store),
            resource=ProtectedResource("", None, lambda: ()),
        )
        self.admission = interceptor.admission
        self.together = BatchCheckHandler(self.admission, self.checker, has_met=lambda _: True)

    def call(self, who: str = GATEWAY.principal, **asked: object) -> Call:
        request = CheckAccessRequest(**{"subject": ALICE.principal, "action": "read", "resource": RESOURCE} | asked)  # type: ignore[arg-type]
        token = self.forge.token(self.store.clock(), sub=who, roles=["checker"])
        return self.sent(request.SerializeToString(), token)

    def sent(self, payload: bytes, token: str) -> Call:
        return Call(payload, (("authorization", f"Bearer {token}"), ("user-agent", "test")), "ipv4:192.0.2.1:4000")

    def ask(self, *calls: Call) -> list[CheckAccessResponse]:
        return [CheckAccessResponse.FromString(answer) for answer in self.together(calls) if isinstance(answer, bytes)]

    def stop(self) -> None:
        self.recorder.stop()
        self.view.stop()


@pytest.fixture
def lane(store: Store, tmp_path: Path) -> Iterator[Batch]:
    add_policy(store)
    lane = Batch(store, tmp_path)
    yield lane
    lane.stop()


def test_each_is_answered_as_it_would_be_alone(lane: Batch) -> None:
    grant = approve(lane.store, ask(lane.store))
    ask(lane.store, resource="database/orders/us")
    asked = [
        {},
        {"resource": "database/orders/us"},
        {"resource": "database/orders/fr"},
        {"subject": CAROL.principal, "explain": True},
        {"consistency": CheckAccessRequest.BOUNDED, "explain": True},
    ]

    answers = lane.ask(*(lane.call(**each) for each in asked))

    assert [answer.reason for answer in answers] == [
        Reason.ALLOWED, Reason.PENDING, Reason.NO_GRANT, Reason.NO_GRANT, Reason.ALLOWED,
    ]  # fmt: skip
    for each, answer in zip(asked, answers, strict=True):
        question = questions.question(
            GATEWAY,
            subject=str(each.get("subject", ALICE.principal)),
            action="read",
            resource=str(each.get("resource", RESOURCE)),
        )
        alone = lane.checker.check(GATEWAY, question)
        assert (answer.allowed, answer.message) == (alone.decision.allowed, alone.decision.message)
        assert tuple(answer.requestable_policies) == alone.requestable
        assert answer.revision == alone.revision
    assert [answer.HasField("staleness") for answer in answers] == [False, False, False, False, True]
    assert (answers[0].grant, len(answers[4].trace)) == (grant.name, 1)


def test_all_are_recorded_before_any_is_answered_in_one_transaction(
    lane: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    append = lane.store.append
    monkeypatch.setattr(
        lane.store, "append", lambda payloads, **more: (groups.append(len(payloads)), append(payloads, **more))
    )

    answers = lane.ask(lane.call(), lane.call(ALICE.principal), lane.call(subject=BOB.principal))

    assert groups == [3]
    assert [event.decision_id for event in recorded(lane.store)] == [answer.decision_id for answer in answers]
    assert [event.principal for event in recorded(lane.store)] == [
        GATEWAY.principal,
        ALICE.principal,
        GATEWAY.principal,
    ]
    assert {event.origin.source_address for event in recorded(lane.store)} == {"192.0.2.1"}


def test_what_a_commit_that_was_acknowledged_before_took_away_is_not_allowed(lane: Batch) -> None:
    grant = approve(lane.store, ask(lane.store))
    assert [answer.allowed for answer in lane.ask(lane.call())] == [True]

    grants.revoke(lane.store, BOB, grant.name, comment="over", etag="")

    # What explains the no must be read, so it goes the ordinary way.
    assert lane.together([lane.call()]) == [None]


def test_the_first_call_with_a_token_is_left_to_the_way_that_ends_what_it_no_longer_gives(lane: Batch) -> None:
    met = {GATEWAY.principal}
    together = BatchCheckHandler(lane.admission, lane.checker, has_met=lambda caller: caller.principal in met)

    answers = together([lane.call(), lane.call(ALICE.principal)])

    assert [answer is None for answer in answers] == [False, True]
    assert [event.principal for event in recorded(lane.store)] == [GATEWAY.principal]


def test_a_sender_is_looked_into_once_though_envoy_gives_each_call_an_id(
    lane: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id differs from call to call, and nothing depends on it; another trace is another sender."""
    identified: list[object] = []
    identify = lane.admission.identify_in_batch
    monkeypatch.setattr(
        lane.admission,
        "identify_in_batch",
        lambda method, call, *rest: (identified.append(call.metadata), identify(method, call, *rest))[1],
    )
    call = lane.call()
    trace = ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")

    answers = lane.ask(
        *(call._replace(metadata=(("x-request-id", each), *call.metadata)) for each in ("one", "two", "three")),
        call._replace(metadata=(*call.metadata, ("x-request-id", "four"), trace)),
    )

    assert identified == [call.metadata, (*call.metadata, trace)]
    assert [event.decision_id for event in recorded(lane.store)] == [answer.decision_id for answer in answers]
    assert [event.origin.trace_id for event in recorded(lane.store)] == ["", "", "", "a" * 32]


def test_all_that_is_known_of_one_asker_shares_one_standing(lane: Batch) -> None:
    for resource in ("database/orders/us", "database/orders/fr"):
        lane.together([lane.call(resource=resource)])

    assert len({payload for payload, _ in lane.together._known._young}) == 2
    assert len({id(standing) for _, standing in lane.together._known._young}) == 1


def test_a_token_that_is_over_is_not_believed_once_more(lane: Batch) -> None:
    call = lane.call()
    assert lane.ask(call)

    lane.store.clock.advance(HOUR)  # type: ignore[attr-defined]

    assert lane.together([call]) == [None]


def unsound(lane: Batch) -> dict[str, Call]:
    token = lane.forge.token(lane.store.clock(), sub=ALICE.principal)
    question = CheckAccessRequest(subject=ALICE.principal, action="read", resource=RESOURCE)
    return {
        "no message": lane.sent(b"\xff", token),
        "an unknown field": lane.sent(question.SerializeToString() + b"\xf8\x06\x01", token),
        "no token": Call(question.SerializeToString(), (), "ipv4:192.0.2.1:4000"),
        "a token of nobody": lane.sent(question.SerializeToString(), "e30.e30.e30"),
        "two tokens": lane.call()._replace(metadata=lane.call().metadata * 2),
        "no role for another subject": lane.sent(
            CheckAccessRequest(subject=BOB.principal, action="read", resource=RESOURCE).SerializeToString(), token
        ),
        "no resource": lane.call(resource=""),
        "a wildcard": lane.call(resource="database/**"),
        "a revision to come": lane.call(min_revision=10**6),
        "a revision below none": lane.call(min_revision=-1),
        "a path that names no such call": lane.call()._replace(
            metadata=(*lane.call().metadata, ("x-envoy-original-path", "/v1/grants"))
        ),
    }


def test_what_is_not_sound_is_left_to_be_refused_by_itself_and_holds_nobody_up(lane: Batch) -> None:
    calls = unsound(lane)

    answers = lane.together([lane.call(), *calls.values(), lane.call()])

    assert dict(zip(calls, answers[1:-1], strict=True)) == dict.fromkeys(calls)
    assert isinstance(answers[0], bytes)
    assert isinstance(answers[-1], bytes)
    assert len(recorded(lane.store)) == 2


def test_what_one_may_ask_is_not_sound_from_another(lane: Batch) -> None:
    about_bob = CheckAccessRequest(subject=BOB.principal, action="read", resource=RESOURCE).SerializeToString()
    nobodys = lane.forge.token(lane.store.clock(), sub=GATEWAY.principal)
    assert lane.ask(lane.call(subject=BOB.principal))

    assert lane.together([lane.sent(about_bob, nobodys)]) == [None]


def test_what_came_plainly_is_not_sound_by_a_path_that_names_another(lane: Batch) -> None:
    call = lane.call()
    assert lane.ask(call)

    assert lane.together([call._replace(metadata=(*call.metadata, ("x-envoy-original-path", "/v1/grants")))]) == [None]


def test_an_address_is_the_askers_own(lane: Batch) -> None:
    add_policy(lane.store, name="policies/here", priority=1, check_condition="context.source_ip == '192.0.2.1'")
    approve(lane.store, ask(lane.store))
    here = lane.call(ALICE.principal)

    answers = lane.ask(
        here,
        here._replace(peer="ipv4:192.0.2.2:4000"),
        here._replace(peer="ipv4:192.0.2.1:4001"),
        here._replace(peer="ipv6:%5B2001:db8::1%5D:4000"),
        here._replace(peer="ipv6:%5B2001:db8::2%5D:4000"),
    )

    assert [answer.allowed for answer in answers] == [True, False, True, False, False]
    assert [event.origin.source_address for event in recorded(lane.store)] == [
        "192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1", "2001:db8::2",
    ]  # fmt: skip


def test_an_address_of_another_is_what_the_asker_says_in_that_call(lane: Batch) -> None:
    """Calls that wait together are of different words; none sees what another says, or where it came from."""
    add_policy(lane.store, name="policies/here", priority=1, check_condition="context.source_ip == '192.0.2.1'")
    approve(lane.store, ask(lane.store))
    told = [{"source_ip": "192.0.2.1"}, {"source_ip": "192.0.2.2"}, None, {"source_ip": "::ffff:192.0.2.1"}]

    answers = lane.ask(*(lane.call(context=context) for context in told))
    refused = lane.together([lane.call(context={"source_ip": "office"})])

    assert [answer.allowed for answer in answers] == [True, False, False, True]
    assert [event.subject_source_ip for event in recorded(lane.store)] == ["192.0.2.1", "192.0.2.2", "", "192.0.2.1"]
    assert refused == [None]


def test_a_long_request_is_answered_like_any_other(lane: Batch) -> None:
    approve(lane.store, ask(lane.store))
    long = lane.call(context={"why": "x" * 2 * MAX_BYTES})

    assert [answer.allowed for answer in lane.ask(long, long)] == [True, True]


def test_a_grant_that_counts_its_checks_is_counted_by_itself(lane: Batch) -> None:
    add_policy(lane.store, name="policies/once", max_uses=1, priority=1)
    approve(lane.store, ask(lane.store))

    assert lane.together([lane.call(), lane.call()]) == [None, None]
    assert recorded(lane.store) == []


def test_a_question_about_the_past_is_never_answered_from_memory(lane: Batch) -> None:
    approve(lane.store, ask(lane.store))
    then = Timestamp()
    then.FromDatetime(lane.store.clock())

    about_then, about_now = lane.together([lane.call(read_time=then), lane.call()])

    assert about_then is None
    assert isinstance(about_now, bytes)
    assert lane.together([lane.call(read_time=then)]) == [None]


def test_one_that_is_refused_leaves_no_sender_to_those_behind_it(lane: Batch) -> None:
    approve(lane.store, ask(lane.store))
    good, bad = lane.call(), lane.call()._replace(metadata=(("authorization", "Bearer nonsense"),))

    answers = lane.together([good, bad, good, bad])

    assert [isinstance(answer, bytes) for answer in answers] == [True, False, True, False]


@pytest.mark.parametrize("broken", ["look", "commit"])
def test_where_it_cannot_be_sure_nobody_is_allowed(lane: Batch, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    approve(lane.store, ask(lane.store))
    if broken == "look":
        monkeypatch.setattr(lane.view._reader, "moved", away)
    else:
        monkeypatch.setattr(lane.store, "append", away)

    answers: list[Answer] = list(lane.together([lane.call(), lane.call()]))

    assert [type(answer) for answer in answers] == [StoreUnavailable, StoreUnavailable]


@pytest.mark.parametrize(("mode", "records"), [(AuditMode.BUFFERED, 2), (AuditMode.DENIED, 1), (AuditMode.OFF, 0)])
def test_each_mode_records_what_it_says(store: Store, tmp_path: Path, mode: AuditMode, records: int) -> None:
    add_policy(store)
    approve(store, ask(store))
    lane = Batch(store, tmp_path, mode)

    answers = lane.ask(lane.call(), lane.call(subject=CAROL.principal))
    lane.stop()

    assert [answer.allowed for answer in answers] == [True, False]
    assert len(recorded(store)) == records


def test_a_call_whose_key_is_not_at_hand_holds_up_none_that_came_with_it(
    lane: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered by itself, where it may wait for the issuer."""
    monkeypatch.setattr("jit_service.rpc.authentication._PATIENCE_SECONDS", 30)
    with provider() as idp:
        idp.publish(lane.forge.path)
        clock = Monotonic()
        keys = UrlKeys(idp.jwks_url, seconds=2, clock=clock)
        assert keys.key(lane.forge.kid) is not None
        issuer, _ = lane.authenticator._trust.issuers[lane.forge.name]
        lane.authenticator._trust.issuers[lane.forge.name] = issuer, keys
        idp.answering.clear()
        clock.now += 11
        made_up = lane.forge.sign(lane.forge.claims(lane.store.clock()), kid="made-up")

        strange, known = lane.together([lane.sent(b"", made_up), lane.call()])

        assert strange is None
        assert isinstance(known, bytes)
        assert keys._fetch is not None
        assert keys._fetch.is_alive(), "it was waited for"


TWINS: list[tuple[str, Any, str, str, Callable[[Batch, pytest.MonkeyPatch], None]]] = [
    (
        "a key of one that all wait for",
        Admission.identify_in_batch,
        "self._authenticator.identify_at_once(",
        "self._authenticator.identify(",
        test_a_call_whose_key_is_not_at_hand_holds_up_none_that_came_with_it,
    ),
    (
        "answers without their records",
        Recording.answer,
        "self._record(payloads, digests, at=view.now)",
        "pass",
        test_all_are_recorded_before_any_is_answered_in_one_transaction,
    ),
    (
        "a revision that is not there yet",
        checker._is_plain,
        "0 <= request.min_revision <= view.revision",
        "True",
        lambda lane, _: test_what_is_not_sound_is_left_to_be_refused_by_itself_and_holds_nobody_up(lane),
    ),
    (
        "calls that nobody has looked into",
        BatchCheckHandler._sound,
        "self._admission.check_in_batch(sender.caller, request, call.metadata)",
        "pass",
        lambda lane, _: test_what_is_not_sound_is_left_to_be_refused_by_itself_and_holds_nobody_up(lane),
    ),
    (
        "a token whose lost rights nobody has ended",
        BatchCheckHandler._sender,
        "if not self._has_met(caller)",
        "if False",
        lambda lane, _: test_the_first_call_with_a_token_is_left_to_the_way_that_ends_what_it_no_longer_gives(lane),
    ),
    (
        "a past that is answered by what is now",
        BatchCheckHandler._sound,
        'request.HasField("read_time")',
        "False",
        lambda lane, _: test_a_question_about_the_past_is_never_answered_from_memory(lane),
    ),
    (
        "one caller for all",
        BatchCheckHandler.__call__,
        "way = _without_id(metadata), host",
        "way = (), host",
        test_all_are_recorded_before_any_is_answered_in_one_transaction,
    ),
    (
        "the sender of the call before",
        BatchCheckHandler.__call__,
        ") != before:",
        ") and before is None:",
        lambda lane, _: test_one_that_is_refused_leaves_no_sender_to_those_behind_it(lane),
    ),
    (
        "one address for all",
        origins.without_port,
        "peer.rpartition",
        "peer.partition",
        lambda lane, _: test_an_address_is_the_askers_own(lane),
    ),
    (
        "whoever asks with the same words",
        request_cache.asker,
        "caller.roles, ",
        "",
        lambda lane, _: test_what_one_may_ask_is_not_sound_from_another(lane),
    ),
    (
        "an address that is anybody's",
        request_cache.asker,
        ", caller.origin.source_address",
        "",
        lambda lane, _: test_an_address_is_the_askers_own(lane),
    ),
    (
        "what the edge says is not heard",
        BatchCheckHandler._sender,
        ", *edge_metadata(call.metadata)",
        "",
        lambda lane, _: test_what_came_plainly_is_not_sound_by_a_path_that_names_another(lane),
    ),
]


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str,
    function: Any,
    sound: str,
    bug: str,
    caught_by: Callable[[Batch, pytest.MonkeyPatch], None],
    lane: Batch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(function, "__code__", sown(Twin(name, function, sound, bug, lambda: None)))

    with pytest.raises(AssertionError):
        caught_by(lane, monkeypatch)
