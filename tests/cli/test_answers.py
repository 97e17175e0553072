"""Check, audit, whoami and completion, and what every command shares: options, errors, exit codes."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2  # noqa: F401  # Lets json_format read the details.
from google.rpc.status_pb2 import Status

from jitaccess.v1 import access_pb2, audit_pb2
from tests.cli.conftest import Jit
from tests.cli.samples import FULL_ID, soon
from tests.client.service import Refusal, Service

CHECK = ("check", "user:alice@example.com", "read", "database/orders/eu")
Reason = access_pb2.CheckAccessResponse


def jwt(**claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.c2ln"


def test_a_yes_exits_0_and_says_until_when(jit: Jit, service: Service) -> None:
    yes = access_pb2.CheckAccessResponse(
        allowed=True, reason=Reason.ALLOWED, grant=f"grants/{FULL_ID}", expire_time=soon(minutes=42)
    )
    service.will_answer("CheckAccess", yes)

    ran = jit(*CHECK)

    assert ran.code == 0
    assert "ALLOWED" in ran.out
    assert "42 min left" in ran.out


def test_a_no_exits_1_and_says_why_and_what_could_be_asked_for(jit: Jit, service: Service) -> None:
    no = access_pb2.CheckAccessResponse(
        reason=Reason.NO_GRANT, message="no grant covers it", requestable_policies=["policies/orders-read"]
    )
    service.will_answer("CheckAccess", no)

    ran = jit(*CHECK)

    assert ran.code == 1
    assert "DENIED" in ran.out
    assert "no grant covers it" in ran.out
    assert "jit request database/orders/eu --action read --policy orders-read" in ran.out


def test_what_waits_for_approval_is_not_to_be_asked_for_again(jit: Jit, service: Service) -> None:
    waiting = access_pb2.CheckAccessResponse(reason=Reason.PENDING, requestable_policies=["policies/orders-read"])
    service.will_answer("CheckAccess", waiting)

    assert "jit request" not in jit(*CHECK).out


def test_a_no_is_an_answer_in_json_too(jit: Jit, service: Service) -> None:
    service.will_answer("CheckAccess", access_pb2.CheckAccessResponse(reason=Reason.NO_GRANT, revision=7))

    ran = jit(*CHECK, "-o", "json")

    answer = json.loads(ran.out)
    assert ran.code == 1
    assert (answer["allowed"], answer["reason"], answer["revision"]) == (False, "NO_GRANT", "7")


def test_where_the_subject_is_goes_along_with_the_context(jit: Jit, service: Service) -> None:
    service.will_answer("CheckAccess", access_pb2.CheckAccessResponse(allowed=True, reason=Reason.ALLOWED))
    service.will_answer("SearchAccess", access_pb2.SearchAccessResponse())

    jit(*CHECK, "--source-ip", "192.0.2.7", "--context", "ticket=T-1")
    jit("search", "--action", "read", "--resource", "database/orders/eu", "--source-ip", "192.0.2.7")

    assert dict(service.sent("CheckAccess")[0].context) == {"ticket": "T-1", "source_ip": "192.0.2.7"}
    assert dict(service.sent("SearchAccess")[0].context) == {"source_ip": "192.0.2.7"}


def test_explain_asks_for_the_trace_and_shows_it(jit: Jit, service: Service) -> None:
    trace = access_pb2.CheckTrace(name="grants/x1", reason=Reason.EXPIRED, message="ended an hour ago")
    service.will_answer("CheckAccess", access_pb2.CheckAccessResponse(reason=Reason.EXPIRED, trace=[trace]))

    ran = jit(*CHECK, "--explain")

    assert service.sent("CheckAccess")[0].explain
    assert "grants/x1  EXPIRED  ended an hour ago" in ran.out


@pytest.mark.parametrize(("reason", "code", "then"), [("WAS_ALLOWED", 0, "ALLOWED"), ("EXPIRED", 1, "NOT ALLOWED")])
def test_a_check_of_the_past_is_asked_and_told_as_one(
    jit: Jit, service: Service, reason: str, code: int, then: str
) -> None:
    answer = access_pb2.CheckAccessResponse(
        reason=Reason.Reason.Value(reason), read_time=soon(minutes=-60), not_on_record=["who asked"], grant="grants/x1"
    )
    service.will_answer("CheckAccess", answer)

    ran = jit(*CHECK, "--at", "2026-03-02T12:00:00Z")

    assert service.sent("CheckAccess")[0].read_time.ToDatetime().isoformat() == "2026-03-02T12:00:00"
    assert ran.code == code
    assert ran.out.split()[:2] == ["then", *then.split()][:2]
    assert "not on record  who asked" in ran.out
    assert "jit request" not in ran.out


def test_a_search_of_the_past_says_what_is_not_on_record_once(jit: Jit, service: Service) -> None:
    found = access_pb2.FoundAccess(name="user:alice@example.com", grant="grants/x1", expire_time=soon(minutes=42))
    first, second = (
        access_pb2.SearchAccessResponse(found=[found], not_on_record=["who asked"], next_page_token=token)
        for token in ("more", "")
    )
    service.will_answer("SearchAccess", first, second)

    ran = jit("search", "--action", "read", "--resource", "a/b", "--at", "2026-03-02T12:00:00Z")

    assert [sent.read_time.seconds for sent in service.sent("SearchAccess")] == [1772452800] * 2
    assert ran.out.count("not on record: who asked") == 1
    assert "PLANNED END" in ran.out
    assert "left" not in ran.out


def test_an_instant_that_is_none_is_a_usage_error(jit: Jit) -> None:
    ran = jit(*CHECK, "--at", "last Tuesday")

    assert ran.code == 2
    assert "'last Tuesday' is no instant" in ran.err


def test_audit_ls_lists_events(jit: Jit, service: Service) -> None:
    event = audit_pb2.AuditEvent(
        seq=4,
        event_type=audit_pb2.AuditEvent.GRANT_REVOKED,
        event_time=soon(minutes=-1),
        principal="user:bob@example.com",
        decision="REVOKED",
        grant=f"grants/{FULL_ID}",
    )
    service.will_answer("ListAuditEvents", audit_pb2.ListAuditEventsResponse(audit_events=[event]))

    ran = jit("audit", "ls", "--filter", 'event_type = "GRANT_REVOKED"', "--limit", "5")

    assert service.sent("ListAuditEvents") == [
        audit_pb2.ListAuditEventsRequest(filter='event_type = "GRANT_REVOKED"', page_size=5)
    ]
    assert all(part in ran.out for part in ("4", "GRANT_REVOKED", "user:bob@example.com", FULL_ID))


@pytest.mark.parametrize(("valid", "code", "words"), [(True, 0, "valid: 9 events"), (False, 1, "NOT VALID at event 4")])
def test_audit_verify_exits_1_when_the_log_is_not_valid(
    jit: Jit, service: Service, valid: bool, code: int, words: str
) -> None:
    verdict = audit_pb2.VerifyAuditLogResponse(
        valid=valid, event_count=9, first_bad_seq=0 if valid else 4, problem="" if valid else "hash differs"
    )
    service.will_stream("StreamAuditVerification", [audit_pb2.StreamAuditVerificationResponse(result=verdict)])

    ran = jit("audit", "verify")

    assert (ran.code, words in ran.out) == (code, True)


def me() -> access_pb2.WhoAmIResponse:
    return access_pb2.WhoAmIResponse(
        principal="user:alice@example.com", roles=["admin", "auditor"], groups=["engineering"],
        issuer="https://issuer.example", issuer_subject="00u7", jti="t-1", expire_time=soon(minutes=42),
    )  # fmt: skip


def test_whoami_shows_whom_the_service_takes_the_caller_for(jit: Jit, service: Service) -> None:
    service.will_answer("WhoAmI", me())

    ran = jit("whoami")

    assert ran.code == 0
    for part in (
        "user:alice@example.com", "engineering", "admin, auditor", "https://issuer.example", "00u7", "t-1",
        "42 min left", "accepts the token",
    ):  # fmt: skip
        assert part in ran.out
    assert "as read" not in ran.out


def test_whoami_is_what_rest_gives_and_where_it_is_from(jit: Jit, service: Service) -> None:
    service.will_answer("WhoAmI", me())

    data = json.loads(jit("whoami", "-o", "json").out)

    assert (data["principal"], data["roles"], data["groups"], data["jti"]) == (
        "user:alice@example.com", ["admin", "auditor"], ["engineering"], "t-1",
    )  # fmt: skip
    assert (data["readFrom"], data["address"], data["accepted"]) == ("service", service.address, True)


def test_whoami_says_that_groups_are_left_out_and_that_there_are_no_roles(jit: Jit, service: Service) -> None:
    service.will_answer("WhoAmI", access_pb2.WhoAmIResponse(principal="user:a", groups_left_out=True))

    shown = " ".join(jit("whoami").out.split())

    assert "roles none groups not known: the token leaves them out" in shown


def claims_file(tmp_path: Path) -> str:
    expires = (datetime.now(UTC) + timedelta(minutes=42, seconds=1)).timestamp()
    (tmp_path / "t").write_text(jwt(sub="alice", iss="https://other.example", aud=["x", "y"], exp=expires))
    return str(tmp_path / "t")


def test_whoami_of_a_refused_token_says_what_it_says_and_what_would_count(
    jit: Jit, service: Service, tmp_path: Path
) -> None:
    expected = {"issuers": "https://issuer.example", "audience": "jitaccess", "other": "no claim"}
    refusal = Refusal(code=grpc.StatusCode.UNAUTHENTICATED, reason="TOKEN_INVALID", metadata=expected)
    service.will_answer("WhoAmI", refusal)

    ran = jit("whoami", "--token-file", claims_file(tmp_path))
    data = json.loads(jit("whoami", "--token-file", claims_file(tmp_path), "-o", "json").out)

    shown = " ".join(ran.out.split())
    assert (ran.code, "TOKEN_INVALID" in ran.err) == (3, True)
    assert "(as read here from the token, not proved) sub alice iss https://other.example aud x, y" in shown
    assert "refuses the token it takes iss https://issuer.example it takes aud jitaccess" in shown
    assert "42 min left" in shown
    assert (data["readFrom"], data["accepted"], data["claims"]["aud"]) == ("token", False, ["x", "y"])
    assert data["takes"] == {"issuers": "https://issuer.example", "audience": "jitaccess"}


def test_whoami_without_an_answer_says_what_the_token_says_and_that_nobody_judged_it(
    jit: Jit, service: Service, tmp_path: Path
) -> None:
    service.will_answer("WhoAmI", Refusal(code=grpc.StatusCode.INTERNAL))

    ran = jit("whoami", "--token-file", claims_file(tmp_path))

    assert (ran.code, "did not say whether it accepts the token" in ran.out) == (7, True)
    assert "as read here from the token, not proved" in ran.out


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "a.W10.c", "a." + "W1tb" * 4000 + ".c"])
def test_whoami_copes_with_a_token_that_is_no_jwt(jit: Jit, service: Service, tmp_path: Path, token: str) -> None:
    (tmp_path / "t").write_text(token)
    service.will_answer("WhoAmI", Refusal(code=grpc.StatusCode.UNAUTHENTICATED, reason="TOKEN_INVALID"))

    ran = jit("whoami", "--token-file", str(tmp_path / "t"))

    # A token of 16 KB is more than the server of the test reads of a header.
    assert (ran.code in (3, 7), "cannot be read here: it is no JWT" in ran.out) == (True, True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell", "pwsh"])
def test_completion_prints_a_script(jit: Jit, shell: str) -> None:
    ran = jit("completion", shell)

    assert ran.code == 0
    assert "_JIT_COMPLETE" in ran.out


def test_completion_knows_no_other_shell(jit: Jit) -> None:
    assert jit("completion", "tcsh").code == 2


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", 2),
        (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID", 3),
        (grpc.StatusCode.PERMISSION_DENIED, "NOT_VISIBLE", 4),
        (grpc.StatusCode.NOT_FOUND, "GRANT_NOT_FOUND", 5),
        (grpc.StatusCode.ALREADY_EXISTS, "POLICY_EXISTS", 6),
        (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE", 6),
        (grpc.StatusCode.ABORTED, "LOST_RACE", 6),
        (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", 7),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", 7),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY", 7),
        (grpc.StatusCode.INTERNAL, "", 7),
        (grpc.StatusCode.UNKNOWN, "", 7),
    ],
)
def test_each_class_of_error_has_its_exit_code_and_none_is_a_no(
    jit: Jit, service: Service, status: grpc.StatusCode, reason: str, code: int
) -> None:
    service.will_answer("CheckAccess", Refusal(code=status, reason=reason, message="what is"))

    ran = jit(*CHECK)

    assert ran.code == code
    assert ran.out == ""
    assert f"({reason or status.name})" in ran.err.splitlines()[0]


def test_an_error_names_the_fields_and_hides_no_control_character(jit: Jit, service: Service) -> None:
    refusal = Refusal(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="INVALID_FIELD",
        message="resource: \x1b[2J is not one",
        violations={"resource": "has \u202e in it"},
    )
    service.will_answer("CheckAccess", refusal)

    ran = jit(*CHECK)

    assert ran.err.splitlines() == [
        "error: resource: \\x1b[2J is not one (INVALID_FIELD)",
        "  resource: has \\u202e in it",
    ]


def test_a_fault_that_the_message_tells_already_is_told_once(jit: Jit, service: Service) -> None:
    refusal = Refusal(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="INVALID_FIELD",
        message="action: is required",
        violations={"action": "is required"},
    )
    service.will_answer("CheckAccess", refusal)

    assert jit(*CHECK).err == "error: action: is required (INVALID_FIELD)\n"


def test_an_error_in_json_is_the_status_that_rest_would_give(jit: Jit, service: Service) -> None:
    refusal = Refusal(
        code=grpc.StatusCode.PERMISSION_DENIED, reason="NOT_VISIBLE", message="no", metadata={"grant": "grants/x"}
    )
    service.will_answer("CheckAccess", refusal)

    ran = jit(*CHECK, "-o", "json")

    assert json.loads(ran.err) == {
        "code": 7,
        "message": "no",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "NOT_VISIBLE",
                "domain": "jitaccess",
                "metadata": {"grant": "grants/x"},
            }
        ],
    }


def test_an_error_with_details_of_an_unknown_type_is_still_json(jit: Jit, service: Service) -> None:
    status = Status(code=13, message="broke")
    status.details.add(type_url="type.googleapis.com/of.another.World", value=b"\x08\x01")
    service.will_answer("CheckAccess", Refusal(code=grpc.StatusCode.INTERNAL, trailer=status.SerializeToString()))

    ran = jit(*CHECK, "-o", "json")

    assert json.loads(ran.err) == {"code": 13, "message": "broke"}


def test_an_error_of_the_clients_own_is_a_status_too(jit: Jit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JIT_TOKEN")

    ran = jit(*CHECK, "-o", "json")

    status = json_format.Parse(ran.err, Status())
    assert (ran.code, status.code) == (3, 16)
    assert "TOKEN_MISSING" in ran.err


def test_without_a_token_the_error_says_where_it_looked_and_what_to_do(
    jit: Jit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JIT_TOKEN")

    ran = jit(*CHECK)

    assert ran.code == 3
    assert "JIT_TOKEN" in ran.err
    assert "config.toml" in ran.err
    assert "hint: pass --token-file" in ran.err


def test_without_an_address_it_is_a_usage_error(jit: Jit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JIT_ADDRESS")

    ran = jit(*CHECK)

    assert ran.code == 2
    assert "JIT_ADDRESS" in ran.err


@pytest.mark.parametrize(
    "arguments", [("-o", "json", *CHECK), (*CHECK, "-o", "json"), ("-o", "yaml", *CHECK, "-o", "json")]
)
def test_common_options_stand_before_or_after_the_command_and_the_later_counts(
    jit: Jit, service: Service, arguments: tuple[str, ...]
) -> None:
    service.will_answer("CheckAccess", access_pb2.CheckAccessResponse(allowed=True))

    assert json.loads(jit(*arguments).out)["allowed"] is True


def test_common_options_reach_the_commands_of_a_group(jit: Jit, service: Service) -> None:
    verdict = audit_pb2.VerifyAuditLogResponse(valid=True)
    service.will_stream("StreamAuditVerification", [audit_pb2.StreamAuditVerificationResponse(result=verdict)])

    assert json.loads(jit("-o", "json", "audit", "verify").out)["valid"] is True


def test_a_value_that_looks_like_an_option_stays_a_value(jit: Jit, service: Service) -> None:
    jit("release", FULL_ID, "--comment", "-o")

    assert service.sent("ReleaseGrant")[0].comment == "-o"


def test_address_token_file_and_timeout_are_options(
    jit: Jit, service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JIT_ADDRESS", "127.0.0.1:1")
    (tmp_path / "t").write_text("from-file\n")
    service.will_answer("CheckAccess", access_pb2.CheckAccessResponse(allowed=True))

    ran = jit(*CHECK, "--address", service.address, "--token-file", str(tmp_path / "t"), "--timeout", "100")

    assert ran.code == 0, ran.err
    [call] = service.received
    assert call.metadata["authorization"] == "Bearer from-file"
    assert call.time_remaining > 11


@pytest.mark.parametrize(
    "command", ["request", "inbox", "ls", "show", "approve", "deny", "withdraw", "revoke", "release", "check", "whoami",
                "search", "completion", "policy", "audit"]
)  # fmt: skip
def test_every_command_explains_itself(jit: Jit, command: str) -> None:
    ran = jit(command, "--help")

    assert ran.code == 0
    assert ran.out.startswith(f"Usage: jit {command}")


def test_the_help_tells_the_exit_codes(jit: Jit) -> None:
    assert "Exit codes: 0 ok, 1 the answer is no" in jit("--help").out


def test_a_bug_is_never_a_no(jit: Jit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jitaccess.client.JitClient.check", lambda *_, **__: 1 / 0)

    ran = jit(*CHECK)

    assert ran.code == 70
