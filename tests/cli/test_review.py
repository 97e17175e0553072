"""Other terms, more time, and the review of break-glass uses: what is sent, shown, and said by the exit code."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from jitaccess.v1 import grant_pb2, policy_pb2
from tests.cli.conftest import Jit
from tests.cli.samples import FULL_ID, active, grant, instant, listed, soon, step
from tests.cli.test_waiting import told
from tests.client.service import Held, Refusal, Service

EDITS = (
    "--for", "30m", "--resource", "database/orders/eu/1", "--resource", "database/orders/eu/2", "--action", "read",
    "--start", "2026-11-24T09:00:00+01:00", "--comment", "less will do",
)  # fmt: skip
ASKED = grant_pb2.AccessTerms(
    resources=["database/orders/eu"], actions=["read", "write"], duration=Duration(seconds=5400)
)
OFFERED = grant_pb2.AccessTerms(resources=["database/orders/eu/1"], actions=["read"], duration=Duration(seconds=1800))
Extension = grant_pb2.GrantExtension


def offered() -> grant_pb2.Grant:
    offer = grant_pb2.CounterOffer(
        reviewer="user:bob@example.com", terms=OFFERED, comment="enough", create_time=soon(minutes=-1)
    )
    return grant(counter_offer=offer)


def extended(state: str, **fields: Any) -> grant_pb2.Grant:
    extension = Extension(
        state=Extension.State.Value(state),
        requester="user:alice@example.com",
        duration=Duration(seconds=1800),
        justification=grant_pb2.Justification(text="not done", ticket="OPS-2"),
        create_time=soon(minutes=-1),
        request_expire_time=soon(minutes=42),
    )
    return active(extension=extension, **fields)


def emergency(**fields: Any) -> grant_pb2.Grant:
    return active(break_glass=True, **({"review_due_time": soon(hours=4)} | fields))


def words(shown: str) -> str:
    return " ".join(shown.split())


@pytest.mark.parametrize(("command", "rpc"), [("approve", "ApproveGrant"), ("counter", "CounterGrant")])
def test_a_reviewer_gives_or_offers_less(jit: Jit, service: Service, command: str, rpc: str) -> None:
    service.will_answer("GetGrant", grant())
    service.will_answer(rpc, active())

    ran = jit(command, FULL_ID, *EDITS)

    assert ran.code == 0, ran.err
    [sent] = service.sent(rpc)
    assert (sent.name, sent.etag, sent.comment) == (f"grants/{FULL_ID}", "etag-1", "less will do")
    assert (sent.duration.seconds, list(sent.actions)) == (1800, ["read"])
    assert list(sent.resources) == ["database/orders/eu/1", "database/orders/eu/2"]
    assert sent.start_time == instant(datetime(2026, 11, 24, 8, tzinfo=UTC))


@pytest.mark.parametrize(
    ("command", "rpc"), [("approve", "ApproveGrant"), ("deny", "DenyGrant"), ("counter", "CounterGrant")]
)
def test_a_dry_run_of_a_decision_says_what_it_would_do_to_the_request_as_it_is(
    jit: Jit, service: Service, command: str, rpc: str
) -> None:
    service.will_answer("GetGrant", grant())
    service.will_answer(rpc, active())

    ran = jit(command, FULL_ID, "--dry-run", *(("--for", "30m") if command == "counter" else ()))

    assert ran.code == 0, ran.err
    [sent] = service.sent(rpc)
    assert (sent.validate_only, sent.etag) == (True, "etag-1")
    assert f"grants/{FULL_ID} would be ACTIVE: until" in ran.out
    assert "approved:" not in ran.out


def test_a_dry_run_says_what_would_refuse_the_approval(jit: Jit, service: Service) -> None:
    service.will_answer("GetGrant", grant())
    refusal = Refusal(code=grpc.StatusCode.PERMISSION_DENIED, message="bob is none", reason="NOT_APPROVER")
    service.will_answer("ApproveGrant", refusal)

    ran = jit("approve", FULL_ID, "--dry-run")

    assert (ran.code, "bob is none (NOT_APPROVER)" in ran.err) == (4, True), ran.err


def test_an_approval_of_less_shows_what_was_asked_for_and_what_was_given(jit: Jit, service: Service) -> None:
    less = active(actions=["read"], duration=Duration(seconds=1800), requested=ASKED)
    service.will_answer("GetGrant", grant())
    service.will_answer("ApproveGrant", less)

    out = jit("approve", FULL_ID, "--for", "30m").out

    assert "asked for: read, write on database/orders/eu for 1 h 30 min" in out
    assert "given: read on database/orders/eu for 30 min" in out


def test_an_offer_of_nothing_is_a_usage_error(jit: Jit, service: Service) -> None:
    ran = jit("counter", FULL_ID, "--comment", "no")

    assert (ran.code, "--for" in ran.err) == (2, True)
    assert service.received == []


def test_an_offer_is_shown_with_how_to_answer_it(jit: Jit, service: Service) -> None:
    service.will_answer("GetGrant", grant())
    service.will_answer("CounterGrant", offered())

    out = jit("counter", FULL_ID, "--for", "30m").out

    assert "offered: read on database/orders/eu/1 for 30 min, by user:bob@example.com" in out
    assert f"next: `jit accept {FULL_ID}` or `jit decline {FULL_ID}` answers the offer" in out


@pytest.mark.parametrize(("command", "rpc"), [("accept", "AcceptCounterOffer"), ("decline", "DeclineCounterOffer")])
def test_an_offer_is_answered_as_it_was_looked_up(jit: Jit, service: Service, command: str, rpc: str) -> None:
    service.will_answer("ListGrants", listed(offered()))
    service.will_answer(rpc, active())

    ran = jit(command, "abcd", "--comment", "fine")

    assert ran.code == 0, ran.err
    [sent] = service.sent(rpc)
    assert (sent.name, sent.etag, sent.comment) == (f"grants/{FULL_ID}", "etag-1", "fine")


@pytest.mark.parametrize(("command", "rpc"), [("accept", "AcceptCounterOffer"), ("decline", "DeclineCounterOffer")])
def test_an_offer_that_has_gone_is_a_conflict(jit: Jit, service: Service, command: str, rpc: str) -> None:
    service.will_answer("GetGrant", grant())
    service.will_answer(rpc, Refusal(code=grpc.StatusCode.FAILED_PRECONDITION, reason="WRONG_STATE"))

    assert jit(command, FULL_ID).code == 6


def test_more_time_is_asked_for_while_the_grant_runs_on(jit: Jit, service: Service) -> None:
    waiting = extended("PENDING", steps=[step("owners", needed=1, remaining=1)])
    service.will_answer("ExtendGrant", waiting)

    ran = jit("extend", FULL_ID, "--for", "30m", "--justification", "not done", "--ticket", "OPS-2")

    assert ran.code == 0, ran.err
    [sent] = service.sent("ExtendGrant")
    assert (sent.name, sent.duration.seconds) == (f"grants/{FULL_ID}", 1800)
    assert (sent.justification.text, sent.justification.ticket) == ("not done", "OPS-2")
    assert "is ACTIVE: until" in ran.out
    assert "more time: 30 min, asked by user:alice@example.com" in ran.out
    assert "PENDING; lapses" in ran.out
    assert "it can be used now; more time waits for step 1 (owners): 0 of 1 approvals" in ran.out


def test_how_much_more_time_must_be_said(jit: Jit, service: Service) -> None:
    assert jit("extend", FULL_ID).code == 2
    assert jit("extend", FULL_ID, "--for", "30m", "--wait-timeout", "5m").code == 2
    assert service.received == []


@pytest.mark.parametrize(("state", "code"), [("APPROVED", 0), ("DENIED", 1), ("WITHDRAWN", 1), ("LAPSED", 1)])
def test_who_waits_for_more_time_hears_the_decision(jit: Jit, service: Service, state: str, code: int) -> None:
    service.will_answer("ExtendGrant", extended("PENDING"))
    service.will_stream("WatchGrants", [told("EXTENSION_APPROVED", extended(state, revision=13)), Held()])

    ran = jit("extend", FULL_ID, "--for", "30m", "--wait")

    assert (ran.code, state in ran.out) == (code, True)


@pytest.mark.usefixtures("time_passes")
def test_who_waits_for_more_time_too_long_gets_8(jit: Jit, service: Service) -> None:
    service.will_answer("ExtendGrant", extended("PENDING"))
    service.will_stream("WatchGrants", [Held()])

    ran = jit("extend", FULL_ID, "--for", "30m", "--wait", "--wait-timeout", "5m")

    first, last = ran.err.splitlines()[0], ran.err.splitlines()[-1]
    assert ran.code == 8
    assert first.startswith(f"waiting for more time for grants/{FULL_ID}: 0 approvals missing; the request lapses ")
    assert last == f"waited 5 min: more time for grants/{FULL_ID} is still pending; see it with: jit show {FULL_ID}"


def test_the_inbox_tells_a_request_for_more_time_by_its_own_words(jit: Jit, service: Service) -> None:
    waiting = extended("PENDING", steps=[step("owners", needed=1, remaining=1)])
    service.will_answer("ListGrants", listed(waiting))

    _, row = jit("inbox").out.splitlines()

    for part in ("30 min more", "not done", "OPS-2", "1 approval missing", "42 min left"):
        assert part in row


def test_review_debt_lists_what_is_owed_and_marks_what_is_overdue(jit: Jit, service: Service) -> None:
    late = emergency(review_due_time=soon(hours=-1), subject="user:carol@example.com")
    service.will_answer("ListGrants", listed(emergency(), late))

    ran = jit("review-debt")

    assert service.sent("ListGrants")[0].view == grant_pb2.ListGrantsRequest.REVIEW_DEBT
    header, due, overdue = ran.out.splitlines()
    assert header.split() == ["ID", "WHO", "TAKEN", "ACTIONS", "RESOURCES", "WHY", "TICKET", "REVIEW"]
    assert "review due" in due
    assert "user:carol@example.com" in overdue
    assert "OVERDUE since" in overdue


def test_no_review_debt_says_so(jit: Jit, service: Service) -> None:
    assert jit("review-debt").out == "no break-glass use owes a review\n"


def test_a_review_says_what_was_found(jit: Jit, service: Service) -> None:
    found = grant_pb2.UseReview(reviewer="user:bob@example.com", comment="it did burn", create_time=soon(minutes=-1))
    service.will_answer("CompleteReview", emergency(use_review=found))

    ran = jit("review", FULL_ID, "--comment", "it did burn")

    assert ran.code == 0, ran.err
    [sent] = service.sent("CompleteReview")
    assert (sent.name, sent.comment) == (f"grants/{FULL_ID}", "it did burn")
    assert ran.out.startswith(f"grants/{FULL_ID} is reviewed by user:bob@example.com")
    assert jit("review", FULL_ID).code == 2


def test_a_review_may_be_bound_to_an_etag_seen_before(jit: Jit, service: Service) -> None:
    service.will_answer("CompleteReview", emergency())

    ran = jit("review", FULL_ID, "--comment", "it did burn", "--etag", "seen")

    assert ran.code == 0, ran.err
    assert service.sent("CompleteReview")[0].etag == "seen"


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"requested": ASKED}, "asked for read, write on database/orders/eu for 1 h 30 min"),
        ({"max_uses": 3, "uses": 2, "last_use_time": soon(minutes=-5)}, "uses 2 of 3, last"),
        ({"uses": 2}, "uses 2"),
        ({"idle_timeout": Duration(seconds=600)}, "unless idle for 10 min"),
        ({"extension_count": 1}, "extended 1 time"),
        ({"extension_count": 2}, "extended 2 times"),
        ({"break_glass": True, "review_due_time": soon(hours=4)}, "break-glass review due"),
        ({"break_glass": True, "review_due_time": soon(hours=-4)}, "break-glass OVERDUE since"),
        ({"parent": "grants/b", "chain": ["grants/a", "grants/b"]}, "passed on from grants/a grants/b"),
    ],
)
def test_show_shows_each_fact(jit: Jit, service: Service, fields: dict[str, Any], shown: str) -> None:
    service.will_answer("GetGrant", active(**fields))

    assert shown in words(jit("show", FULL_ID).out)


def test_show_shows_offers_and_requests_for_more_time(jit: Jit, service: Service) -> None:
    service.will_answer("GetGrant", offered(), extended("DENIED"))

    assert "offered read on database/orders/eu/1 for 30 min, by user:bob@example.com" in words(jit("show", FULL_ID).out)
    assert "(not done): DENIED" in words(jit("show", FULL_ID).out)


def test_show_shows_a_review_with_its_edit_its_round_and_on_whose_behalf_it_was(jit: Jit, service: Service) -> None:
    review = grant_pb2.Review(
        reviewer="user:dave@example.com",
        on_behalf_of="user:bob@example.com",
        decision=grant_pb2.Review.APPROVED,
        step=1,
        round=2,
        terms=OFFERED,
        create_time=soon(minutes=-2),
    )
    service.will_answer("GetGrant", active(reviews=[review]))

    out = words(jit("show", FULL_ID).out)

    assert "APPROVED by user:dave@example.com for user:bob@example.com, step 1 of extension 2" in out
    assert "giving read on database/orders/eu/1 for 30 min" in out


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"due_time": soon(minutes=42)}, "by group database-owners; lapses"),
        ({"due_time": soon(minutes=42), "escalate_to": "sec"}, "by group database-owners; goes to group sec too"),
        ({"due_time": soon(minutes=-1), "escalate_to": "sec", "escalated": True}, "and since"),
        ({"escalate_to": "sec"}, "after its time by group sec too"),
    ],
)
def test_show_shows_what_the_time_of_a_step_does(
    jit: Jit, service: Service, fields: dict[str, Any], shown: str
) -> None:
    timed = step("owners", needed=1, remaining=1)
    group = fields.get("escalate_to")
    more = fields | ({"escalate_to": policy_pb2.PrincipalSet(groups=[group])} if group else {})
    timed.MergeFrom(grant_pb2.StepStatus(**more))
    service.will_answer("GetGrant", grant(steps=[timed]))

    assert shown in words(jit("show", FULL_ID).out)


def test_a_review_says_how_its_reviewer_had_logged_in(jit: Jit, service: Service) -> None:
    decided = grant_pb2.Review(
        reviewer="user:bob@example.com", decision="APPROVED", step=1, create_time=soon(minutes=-1), acr="phr",
        amr=["hwk", "mfa"], auth_time=soon(minutes=-3),
    )  # fmt: skip
    service.will_answer("GetGrant", active(reviews=[decided]))

    assert "logged in by acr phr, amr hwk mfa, at " in words(jit("show", FULL_ID).out)


def test_who_must_log_in_anew_to_approve_is_told_how(jit: Jit, service: Service) -> None:
    service.will_answer("GetGrant", grant())
    asked = {"acr_values": "phrh phr", "amr_values": "mfa", "max_age": "300"}
    service.will_answer(
        "ApproveGrant",
        Refusal(
            code=grpc.StatusCode.PERMISSION_DENIED,
            message="a newer log-in",
            reason="REVIEW_ASSURANCE_REQUIRED",
            metadata=asked,
        ),
    )

    ran = jit("approve", FULL_ID, "--etag", "e1")

    assert ran.code == 4
    assert words(ran.err) == (
        "error: a newer log-in (REVIEW_ASSURANCE_REQUIRED) hint: log in anew at your provider with acr_values=phrh phr,"
        " a method of each of: mfa, max_age=300, so enter the password or the second factor anew: "
        "jit login --acr-values 'phrh phr' --max-age 300; then approve again (a denial needs none of it)"
    )
