"""The commands on grants, against a recording service."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from jitaccess.cli import shown
from jitaccess.v1 import grant_pb2, policy_pb2
from tests.cli.conftest import Jit
from tests.cli.samples import FULL_ID, active, grant, instant, listed, soon, step
from tests.client.service import Refusal, Service

WRITES: list[tuple[str, str, tuple[str, ...]]] = [
    ("approve", "ApproveGrant", ()),
    ("deny", "DenyGrant", ()),
    ("withdraw", "WithdrawGrant", ()),
    ("revoke", "RevokeGrant", ("--comment", "over")),
    ("release", "ReleaseGrant", ()),
]
DECISIONS = [
    (("approve", FULL_ID), "ApproveGrant"),
    (("deny", FULL_ID), "DenyGrant"),
    (("counter", FULL_ID, "--for", "10m"), "CounterGrant"),
    (("accept", FULL_ID), "AcceptCounterOffer"),
    (("decline", FULL_ID), "DeclineCounterOffer"),
]


def more_waits(**fields: Any) -> grant_pb2.Grant:
    """A grant with a request for more time that waits."""
    asked = grant_pb2.GrantExtension(
        state="PENDING", round=1, duration=Duration(seconds=777_600), request_expire_time=soon(minutes=9)
    )
    return active(extension=asked, **fields)


def test_request_says_in_its_message_what_the_flags_say(jit: Jit, service: Service) -> None:
    service.will_answer("RequestGrant", grant())
    request_id = "3f0e8c4e-3a52-4a7e-9f0d-0d3f4a7a5b61"

    ran = jit(
        "request", "database/orders/eu", "database/orders/us", "--action", "read", "--action", "write",
        "--for", "1h30m", "--justification", "why", "--ticket", "OPS-1", "--policy", "orders-write",
        "--subject", "user:bob@example.com", "--start", "2026-11-24T09:00:00+01:00",
        "--label", "team=a", "--label", "env=prod", "--request-id", request_id,
    )  # fmt: skip

    assert ran.code == 0, ran.err
    assert service.sent("RequestGrant") == [
        grant_pb2.RequestGrantRequest(
            policy="policies/orders-write",
            subject="user:bob@example.com",
            resources=["database/orders/eu", "database/orders/us"],
            actions=["read", "write"],
            duration=Duration(seconds=5400),
            start_time=instant(datetime(2026, 11, 24, 8, tzinfo=UTC)),
            justification=grant_pb2.Justification(text="why", ticket="OPS-1"),
            labels={"team": "a", "env": "prod"},
            request_id=request_id,
        )
    ]


def test_request_shows_the_grant_and_who_must_approve_it(jit: Jit, service: Service) -> None:
    two = [step("owners", needed=2, remaining=0), step("security", needed=1, remaining=1)]
    service.will_answer("RequestGrant", grant(steps=two))

    ran = jit("request", "database/orders/eu", "--action", "read")

    assert f"grants/{FULL_ID}" in ran.out
    assert "PENDING" in ran.out
    assert "1 approval missing; lapses" in ran.out
    assert "42 min left" in ran.out
    assert "next step 2 (security): 0 of 1 approvals, by group database-owners" in " ".join(ran.out.split())


def test_request_shows_until_when_a_grant_is_active(jit: Jit, service: Service) -> None:
    service.will_answer("RequestGrant", active())

    ran = jit("request", "database/orders/eu", "--action", "read")

    assert "ACTIVE" in ran.out
    assert "42 min left" in ran.out
    assert "it can be used now" in ran.out


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--action", "read", "--for", "soon"),
        ("--action", "read", "--for", "0m"),
        ("--action", "read", "--start", "tomorrow"),
        ("--action", "read", "--label", "team"),
        ("--action", "read", "-o", "xml"),
        ("--action", "read", "--nothing"),
        ("--action", "read", "--timeout", "0"),
    ],
)
def test_a_wrong_flag_is_a_usage_error_and_sends_nothing(jit: Jit, service: Service, flags: tuple[str, ...]) -> None:
    ran = jit("request", "database/orders/eu", *flags)

    assert ran.code == 2
    assert "Error" in ran.err
    assert service.received == []


def test_inbox_lists_what_a_decision_needs(jit: Jit, service: Service) -> None:
    asked_for_another = grant(requester="user:carol@example.com", start_time=soon(days=2))
    service.will_answer("ListGrants", listed(asked_for_another))

    ran = jit("inbox")

    [sent] = service.sent("ListGrants")
    assert sent.view == grant_pb2.ListGrantsRequest.REVIEWABLE
    header, row = ran.out.splitlines()
    assert header.split() == ["ID", "WHO", "ACTIONS", "RESOURCES", "FOR", "WHY", "TICKET", "MISSING", "LAPSES", "ETAG"]
    for part in (
        FULL_ID, "user:alice@example.com (asked by user:carol@example.com)", "read, write", "database/orders/eu",
        "1 h 30 min, from ", "repair order 7", "OPS-1", "1 approval missing", "42 min left", "etag-1",
    ):  # fmt: skip
        assert part in row


@pytest.mark.parametrize(
    ("flags", "filter_"),
    [
        (("--subject", "user:alice@example.com"), 'subject = "user:alice@example.com"'),
        (("--resource", "database/orders/eu"), 'resources : "database/orders/eu"'),
        (("--filter", "policy = p OR policy = q"), "policy = p OR policy = q"),
        (
            ("--subject", 'user:a"b', "--resource", "a/b", "--filter", "policy = p OR policy = q"),
            'subject = "user:a\\"b" AND resources : "a/b" AND (policy = p OR policy = q)',
        ),
    ],
)
def test_an_inbox_is_narrowed_to_one_request(jit: Jit, service: Service, flags: tuple[str, ...], filter_: str) -> None:
    jit("inbox", *flags)

    [sent] = service.sent("ListGrants")
    assert (sent.filter, sent.view) == (filter_, grant_pb2.ListGrantsRequest.REVIEWABLE)


def test_an_inbox_of_ids_has_one_a_line_and_nothing_else(jit: Jit, service: Service) -> None:
    service.will_answer("ListGrants", listed(grant(), grant("b" * 26)), listed())

    both, none = jit("inbox", "--ids"), jit("inbox", "--ids")

    assert (both.out, both.err) == (f"{FULL_ID}\n{'b' * 26}\n", "")
    assert (none.code, none.out) == (0, "")


def test_ids_that_are_not_all_are_said_to_be_so(jit: Jit, service: Service) -> None:
    service.will_answer("ListGrants", listed(grant(), next_page_token="more"))

    ran = jit("inbox", "--ids", "--limit", "1")

    assert (ran.out, ran.err) == (f"{FULL_ID}\n", "... and more than these 1; --limit 0 shows all\n")


def test_ids_are_text(jit: Jit) -> None:
    assert jit("inbox", "--ids", "-o", "json").code == 2


def test_an_id_alone_does_not_count_as_shown(jit: Jit, service: Service) -> None:
    more = grant_pb2.GrantExtension(state=grant_pb2.GrantExtension.PENDING)
    service.will_answer("ListGrants", listed(active(extension=more)))
    service.will_answer("GetGrant", active(extension=more))
    jit("inbox", "--ids")

    ran = jit("approve", FULL_ID)

    assert (ran.code, "NOT_SHOWN" in ran.err) == (2, True)


def test_an_empty_inbox_says_so(jit: Jit, service: Service) -> None:
    service.will_answer("ListGrants", listed())

    assert jit("inbox").out == "nothing waits for your decision\n"


def test_ls_by_reviewer_is_a_filter(jit: Jit, service: Service) -> None:
    service.will_answer("ListGrants", *[grant_pb2.ListGrantsResponse()] * 3)

    jit("ls", "--reviewer", "user:bob@example.com")
    jit("ls", "--reviewer", 'user:b"\\ö@example.com', "--filter", "state = ACTIVE OR state = EXPIRED")
    refused = jit("ls", "--watch", "--reviewer", "user:bob@example.com")

    assert [sent.filter for sent in service.sent("ListGrants")] == [
        'reviewers:"user:bob@example.com"',
        'reviewers:"user:b\\"\\\\ö@example.com" AND (state = ACTIVE OR state = EXPIRED)',
    ]
    assert refused.code == 2


def test_ls_passes_view_filter_order_and_limit_on(jit: Jit, service: Service) -> None:
    service.will_answer("ListGrants", listed(grant()))

    jit("ls", "--view", "all", "--filter", 'state = "ACTIVE"', "--order-by", "expire_time desc", "--limit", "7")

    assert service.sent("ListGrants") == [
        grant_pb2.ListGrantsRequest(
            view=grant_pb2.ListGrantsRequest.ALL,
            filter='state = "ACTIVE"',
            order_by="expire_time desc",
            page_size=7,
        )
    ]


def test_ls_lists_ones_own_by_default(jit: Jit, service: Service) -> None:
    service.will_answer("ListGrants", listed())

    assert jit("ls").out == "no grants\n"
    assert service.sent("ListGrants")[0].view == grant_pb2.ListGrantsRequest.MINE


def test_ls_says_when_there_is_more_than_the_limit(jit: Jit, service: Service) -> None:
    service.will_answer("ListGrants", listed(grant(), next_page_token="more"))

    ran = jit("ls", "--limit", "1")

    assert "and more than these 1" in ran.out
    assert len(service.received) == 1


def test_ls_goes_on_where_the_service_ends_a_page_early(jit: Jit, service: Service) -> None:
    service.will_answer("ListGrants", listed(next_page_token="t1"), listed(grant(), next_page_token="t2"))

    ran = jit("ls", "--limit", "1")

    assert "and more than these 1" in ran.out
    assert [sent.page_token for sent in service.sent("ListGrants")] == ["", "t1"]


def test_a_limit_of_0_lists_all_pages_as_one(jit: Jit, service: Service) -> None:
    service.will_answer("ListGrants", listed(grant("a1"), next_page_token="t1"), listed(grant("b2")))

    ran = jit("ls", "--limit", "0", "-o", "json")

    answer = json.loads(ran.out)
    assert [item["name"] for item in answer["grants"]] == ["grants/a1", "grants/b2"]
    assert answer["nextPageToken"] == ""
    assert [sent.page_token for sent in service.sent("ListGrants")] == ["", "t1"]


def test_json_of_a_list_is_the_response_message_as_rest_prints_it(jit: Jit, service: Service) -> None:
    page = listed(grant(), next_page_token="more")
    service.will_answer("ListGrants", page)

    answer = json.loads(jit("ls", "--limit", "1", "-o", "json").out)

    assert json_format.ParseDict(answer, grant_pb2.ListGrantsResponse()) == page
    [item] = answer["grants"]
    # always_print_primitive_fields: what is empty is there, what is a message and unset is not.
    assert (item["endedBy"], item["reviews"], item["labels"], item["revision"]) == ("", [], {}, "12")
    assert item["requestExpireTime"].endswith("Z")
    assert "expireTime" not in item


def test_yaml_says_the_same_as_json(jit: Jit, service: Service) -> None:
    service.will_answer("GetGrant", grant())

    as_json = jit("show", FULL_ID, "-o", "json").out
    as_yaml = jit("show", FULL_ID, "-o", "yaml").out

    assert yaml.safe_load(as_yaml) == json.loads(as_json)


@pytest.mark.parametrize("form", ["json", "yaml", "table"])
def test_harmful_text_is_harmless_in_every_form(jit: Jit, service: Service, form: str) -> None:
    evil = "\x1b[2J\u202egpj.exe [bold]x[/bold]\x9b"
    service.will_answer("GetGrant", grant(justification=grant_pb2.Justification(text=evil)))

    out = jit("show", FULL_ID, "-o", form).out

    assert not set(out) & {"\x1b", "\u202e", "\x9b"}
    assert "[bold]x[/bold]" in out


def test_show_shows_reviews_steps_and_ends(jit: Jit, service: Service) -> None:
    review = grant_pb2.Review(
        reviewer="user:bob@example.com",
        decision=grant_pb2.Review.APPROVED,
        step=1,
        comment="fine",
        create_time=soon(minutes=-2),
    )
    ended = active(
        state=grant_pb2.Grant.REVOKED,
        reviews=[review],
        steps=[step("owners", needed=1, remaining=0)],
        end_time=soon(minutes=-1),
        ended_by="user:carol@example.com",
        end_comment="enough",
        labels={"team": "a"},
    )
    service.will_answer("GetGrant", ended)

    out = " ".join(jit("show", FULL_ID).out.split())

    assert "REVOKED by user:carol@example.com" in out
    assert "ago: enough" in out
    assert "APPROVED by user:bob@example.com, step 1" in out
    assert "step 1 (owners): 1 of 1 approvals, by group database-owners" in out
    assert "team=a" in out


@pytest.mark.parametrize(
    ("state", "fields", "words"),
    [
        ("SCHEDULED", {"start_time": {"hours": 1}, "expire_time": {"hours": 2}}, "starts"),
        ("EXPIRED", {"expire_time": {"hours": -1}}, "ended"),
        ("LAPSED", {"request_expire_time": {"hours": -1}}, "nobody decided by"),
        ("DENIED", {"end_time": {"hours": -1}}, "by user:bob@example.com"),
        ("WITHDRAWN", {"end_time": {"hours": -1}}, "by user:bob@example.com"),
        ("RELEASED", {"end_time": {"hours": -1}}, "by user:bob@example.com"),
    ],
)
def test_each_state_is_told_with_its_instant(
    jit: Jit, service: Service, state: str, fields: dict[str, Any], words: str
) -> None:
    times = {name: soon(**distance) for name, distance in fields.items()}
    told = grant(state=grant_pb2.Grant.State.Value(state), ended_by="user:bob@example.com", **times)
    service.will_answer("GetGrant", told)

    out = jit("show", FULL_ID).out

    assert state in out
    assert words in out
    assert "left" in out or "ago" in out


@pytest.mark.parametrize(("command", "rpc", "flags"), WRITES)
@pytest.mark.parametrize("prefix", ["", "grants/"])
def test_a_full_id_is_taken_with_or_without_its_collection(
    jit: Jit, service: Service, command: str, rpc: str, flags: tuple[str, ...], prefix: str
) -> None:
    service.will_answer("GetGrant", grant())
    service.will_answer(rpc, active())

    ran = jit(command, prefix + FULL_ID, *flags)

    assert ran.code == 0, ran.err
    assert service.sent(rpc)[0].name == f"grants/{FULL_ID}"
    assert service.sent("ListGrants") == []
    assert "ACTIVE" in ran.out


@pytest.mark.parametrize(("command", "rpc", "flags"), WRITES)
def test_the_beginning_of_an_id_is_looked_up_among_what_is_visible(
    jit: Jit, service: Service, command: str, rpc: str, flags: tuple[str, ...]
) -> None:
    service.will_answer("ListGrants", listed(grant()))
    service.will_answer(rpc, active())

    ran = jit(command, "grants/abcd", *flags)

    assert ran.code == 0, ran.err
    [looked_up] = service.sent("ListGrants")
    assert looked_up.filter == 'name = "grants/abcd*"'
    assert looked_up.view == grant_pb2.ListGrantsRequest.VISIBLE
    assert service.sent(rpc)[0].name == f"grants/{FULL_ID}"


@pytest.mark.parametrize("command", ["show", "approve", "deny", "withdraw", "release"])
def test_an_ambiguous_beginning_lists_the_candidates_and_does_nothing(jit: Jit, service: Service, command: str) -> None:
    service.will_answer("ListGrants", listed(grant("abc1"), grant("abc2", subject="user:bob@example.com")))

    ran = jit(command, "abc")

    assert ran.code == 2
    assert "AMBIGUOUS_ID" in ran.err
    assert "abc1: PENDING, user:alice@example.com, read, write on database/orders/eu" in ran.err
    assert "abc2: PENDING, user:bob@example.com" in ran.err
    assert [call.rpc for call in service.received] == ["ListGrants"]


def test_a_beginning_that_nothing_has_is_not_found(jit: Jit, service: Service) -> None:
    service.will_answer("ListGrants", listed())

    ran = jit("show", "zzz")

    assert ran.code == 5
    assert "GRANT_NOT_FOUND" in ran.err


@pytest.mark.parametrize("identifier", ["", "grants/", 'a" OR state = "ACTIVE', "ABC", "a*", "../x", "a b", "é"])
def test_what_is_no_id_is_refused_before_anything_is_sent(jit: Jit, service: Service, identifier: str) -> None:
    ran = jit("show", identifier)

    assert ran.code == 2
    assert service.received == []


@pytest.mark.parametrize("identifier", [FULL_ID, "abc"])
@pytest.mark.parametrize(("command", "rpc"), [("approve", "ApproveGrant"), ("deny", "DenyGrant")])
def test_a_decision_on_a_request_that_was_never_shown_is_on_what_its_id_says(
    jit: Jit, service: Service, command: str, rpc: str, identifier: str
) -> None:
    service.will_answer("GetGrant", grant())
    service.will_answer("ListGrants", listed(grant()))

    jit(command, identifier, "--comment", "fine")

    [sent] = service.sent(rpc)
    assert (sent.etag, sent.comment) == ("etag-1", "fine")
    assert sent.request_id


def test_a_decision_may_be_bound_to_an_etag_seen_before(jit: Jit, service: Service) -> None:
    service.will_answer("GetGrant", grant())

    jit("approve", FULL_ID, "--etag", "seen")

    assert service.sent("ApproveGrant")[0].etag == "seen"


def test_an_approval_says_what_was_approved(jit: Jit, service: Service) -> None:
    service.will_answer("GetGrant", grant())
    service.will_answer("ApproveGrant", grant(steps=[step("owners", needed=2, remaining=1)]), active())

    for _ in range(2):
        out = jit("approve", FULL_ID).out
        assert "approved: read, write on database/orders/eu for 1 h 30 min, for user:alice@example.com" in out


def test_an_approval_of_more_time_says_what_was_approved(jit: Jit, service: Service) -> None:
    more = grant_pb2.GrantExtension(state="APPROVED", duration=Duration(seconds=1800))
    service.will_answer("GetGrant", active())
    service.will_answer("ApproveGrant", active(extension=more))

    assert "approved: 30 min more of read, write on database/orders/eu" in jit("approve", FULL_ID).out


def test_what_an_inbox_showed_can_be_decided_on_and_nothing_else(jit: Jit, service: Service) -> None:
    service.will_answer("ListGrants", listed(grant()))
    service.will_answer("GetGrant", grant(etag="etag-2"))
    _, row = jit("inbox").out.splitlines()

    jit("approve", FULL_ID, "--etag", row.split()[-1])

    assert service.sent("ApproveGrant")[0].etag == "etag-1"
    assert "etag-2" in jit("show", FULL_ID).out


@pytest.mark.parametrize(("command", "rpc"), DECISIONS)
@pytest.mark.parametrize("showing", [("inbox",), ("inbox", "-o", "json"), ("show", FULL_ID)])
def test_a_decision_is_on_what_was_shown_and_not_on_what_took_its_place(
    jit: Jit, service: Service, command: tuple[str, ...], rpc: str, showing: tuple[str, ...]
) -> None:
    """Seen: bob looked at ten minutes, and `jit approve` a moment later bound him to the nine days that stood there."""
    service.will_answer("ListGrants", listed(grant()))
    service.will_answer("GetGrant", grant())
    jit(*showing)
    service.will_answer("GetGrant", more_waits(etag="etag-2"))

    jit(*command)

    assert service.sent(rpc)[0].etag == "etag-1"


@pytest.mark.parametrize(("command", "rpc"), DECISIONS)
def test_more_time_that_was_never_shown_is_not_decided_on(
    jit: Jit, service: Service, command: tuple[str, ...], rpc: str
) -> None:
    service.will_answer("GetGrant", more_waits())

    ran = jit(*command)

    assert (ran.code, service.sent(rpc)) == (2, [])
    assert f"was not shown here yet; look at it with `jit show {FULL_ID}`, or give --etag (NOT_SHOWN)" in ran.err
    jit("show", FULL_ID)
    jit(*command)
    assert service.sent(rpc)[0].etag == "etag-1"


def test_what_one_was_shown_another_was_not(
    jit: Jit, service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service.will_answer("GetGrant", more_waits())
    jit("show", FULL_ID)
    monkeypatch.setenv("JIT_TOKEN", "another's")

    assert jit("approve", FULL_ID).code == 2
    monkeypatch.setenv("JIT_TOKEN", "t")
    assert jit("approve", FULL_ID).code == 0


@pytest.mark.parametrize("kept", ["", "[", "[]", '{"a": 1}', "\xff"])
def test_what_was_shown_is_kept_by_the_user_alone(jit: Jit, service: Service, tmp_path: Path, kept: str) -> None:
    file = tmp_path / "state" / "jit" / "shown.json"
    file.parent.mkdir(parents=True)
    file.write_text(kept, encoding="latin-1")
    service.will_answer("GetGrant", more_waits())

    jit("show", FULL_ID)

    assert file.stat().st_mode & 0o777 == 0o600
    assert [child.name for child in file.parent.iterdir()] == ["shown.json"]
    assert "etag-1" in file.read_text()
    assert jit("approve", FULL_ID).code == 0


def test_the_latest_that_were_shown_are_kept(
    jit: Jit, service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shown, "MAX_KEPT", 2)
    service.will_answer("ListGrants", listed(*(grant("abc"[at] * 26) for at in range(3))))

    jit("inbox")

    assert len(json.loads((tmp_path / "state" / "jit" / "shown.json").read_text())) == 2


def test_where_nothing_can_be_kept_everything_else_works(
    jit: Jit, service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    service.will_answer("GetGrant", more_waits())

    assert jit("show", FULL_ID).code == 0
    assert jit("approve", FULL_ID).code == 2


def test_a_decision_on_what_has_changed_is_a_conflict_with_a_hint(jit: Jit, service: Service) -> None:
    service.will_answer("GetGrant", grant())
    service.will_answer("ApproveGrant", Refusal(code=grpc.StatusCode.ABORTED, reason="STALE_ETAG", message="changed"))

    ran = jit("approve", FULL_ID)

    assert ran.code == 6
    assert ran.err.splitlines()[0] == "error: changed (STALE_ETAG)"
    assert "hint: " in ran.err


def test_revoke_demands_a_comment(jit: Jit, service: Service) -> None:
    ran = jit("revoke", FULL_ID)

    assert ran.code == 2
    assert "--comment" in ran.err
    assert service.received == []


def test_an_approval_that_is_not_the_last_says_what_is_missing(jit: Jit, service: Service) -> None:
    service.will_answer("GetGrant", grant())
    service.will_answer("ApproveGrant", grant(steps=[step("owners", needed=2, remaining=1)]))

    out = jit("approve", FULL_ID).out

    assert "PENDING: 1 approval missing" in out
    assert "next: step 1 (owners): 1 of 2 approvals" in out


def test_principals_of_a_step_are_named_too(jit: Jit, service: Service) -> None:
    several = policy_pb2.PrincipalSet(principals=["user:bob@example.com"], groups=["owners"])
    needs = grant_pb2.StepStatus(approvers=several, approvals_needed=1, approvals_remaining=1)
    service.will_answer("GetGrant", grant(steps=[needs]))

    assert "by user:bob@example.com, group owners" in jit("show", FULL_ID).out


def test_an_id_is_shown_as_short_as_tells_them_apart() -> None:
    from jitaccess.cli.ids import short

    assert short([]) == []
    assert short(["grants/abcdefgh1", "grants/xyz"]) == ["abcdefgh", "xyz"]
    assert short(["grants/abcdefgh1x", "grants/abcdefgh2x"]) == ["abcdefgh1", "abcdefgh2"]
