"""Policies as code: diff, lint, test and simulate, and the proposals of dual control."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from jitaccess import policy_file
from jitaccess.cli import progress
from jitaccess.v1 import policy_pb2
from tests.cli.conftest import Jit
from tests.cli.samples import soon
from tests.cli.test_policy import CHANGE, FILE, difference, policy
from tests.client.service import Refusal, Service
from tests.domain.test_sown_bugs import Twin, demand_caught

Proposal = policy_pb2.PolicyProposal
Progress = policy_pb2.StreamPolicySimulationResponse
Case = policy_pb2.PolicyTestCase
Result = policy_pb2.PolicyTestResult
CASES = """
tests:
- policy: orders-read
  cases:
  - {displayName: an engineer reads, principal: "user:a", groups: [engineering], resources: [database/orders/eu],
     actions: [read], duration: 600s, expect: ACTIVE}
  - {principal: "user:b", resources: [database/orders/eu], actions: [read], expect: REFUSED,
     expectReason: NOT_ELIGIBLE}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policies.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.fixture
def tried(file: Path) -> Path:
    """A policy file with cases beside it."""
    file.with_name("policies.test.yaml").write_text(CASES, encoding="utf-8")
    return file


def unchanged() -> policy_pb2.ApplyPoliciesResponse:
    change = CHANGE(policy="policies/a", change_type=CHANGE.UNCHANGED, before=policy("a"), after=policy("a"))
    return policy_pb2.ApplyPoliciesResponse(changes=[change])


def proposal(**fields: Any) -> policy_pb2.PolicyProposal:
    whole: dict[str, Any] = {
        "name": "policyProposals/p1",
        "state": Proposal.PENDING,
        "proposer": "user:admin@example.com",
        "comment": "for the audit",
        "changes": difference().changes,
        "create_time": soon(minutes=-5),
        "expire_time": soon(minutes=42),
        "etag": "e1",
    }
    return Proposal(**(whole | fields))


def report(*results: policy_pb2.PolicyTestResult) -> policy_pb2.TestPolicyResponse:
    failed = sum(not result.passed for result in results)
    return policy_pb2.TestPolicyResponse(results=results, passed_count=len(results) - failed, failed_count=failed)


def test_a_difference_exits_1_and_writes_nothing(jit: Jit, service: Service, file: Path) -> None:
    service.will_answer("ApplyPolicies", difference())

    ran = jit("policy", "diff", str(file), "--prune")

    assert (ran.code, "- policies/c would be deleted" in ran.out) == (1, True)
    assert [(sent.validate_only, sent.prune) for sent in service.sent("ApplyPolicies")] == [(True, True)]


def test_no_difference_exits_0(jit: Jit, service: Service, file: Path) -> None:
    service.will_answer("ApplyPolicies", unchanged())

    ran = jit("policy", "diff", str(file))

    assert (ran.code, ran.out) == (0, "0 created, 0 updated, 0 deleted, 1 unchanged; nothing was written\n")


def test_a_service_that_is_away_is_no_difference(jit: Jit, service: Service, file: Path) -> None:
    service.will_answer("ApplyPolicies", Refusal(code=grpc.StatusCode.INTERNAL))

    assert jit("policy", "diff", str(file)).code == 7


WHOLE = """policies:
- name: policies/a
  eligible: {groups: [engineering]}
  resources: ["database/orders", "database/orders/**"]
  actions: [read]
"""
"""A policy that only lacks its longest duration, up to line 5."""


@pytest.mark.parametrize(
    ("more", "findings"),
    [
        ("  maxDuration: 1h30m\n", []),
        ("  maxDuration: 7d\n  displayName: on\n", []),
        ("  max_duration: 90s\n  labels: {any: thing}\n  disabled: on\n", []),
        ("  maxDuration: 1h\n  nane: b\n", ["7: Policy has no field 'nane'; did you mean name?"]),
        (
            "  maxDuration: 1h\n  steps:\n  - approvers: {groups: [x]}\n    approvals: 2\n",
            ["9: Step has no field 'approvals'; did you mean approvalsNeeded?"],
        ),
        (
            "  maxDuration: 1h\n  steps:\n  - approvers: {\n      group: [x], principals: [user:b]}\n",
            ["9: PrincipalSet has no field 'group'; did you mean groups?"],
        ),
        (
            "  maxDuration: an hour\n  requestTtl: 3600\n  maxUses: -1\n  priority: high\n",
            [
                "6: maxDuration: 'an hour' is no duration; write days, hours, minutes, seconds: 90s, 30m, ",
                "7: requestTtl: '3600' is no duration; write days, hours, minutes, seconds: 90s, 30m, 1h, 1h30m, 2d",
                "8: maxUses: is -1; 0 to 1000000 are allowed",
                "9: priority: ",
            ],
        ),
        ("  maxDuration: 1h\n  maxDuration: 2h\n", ["7: the key 'maxDuration' stands twice"]),
        ("  maxDuration: 1h\n  displayName: 7\n", ["7: displayName: must be text; put 7 in quotes"]),
        ("  maxDuration: 1h\n  deny: maybe\n", ["7: deny: 'maybe' is neither true nor false"]),
        ("  maxDuration: 1h\n  steps: {}\n", ["7: steps: must be a list"]),
        ("  maxDuration: 1h\n  steps: [x]\n", ["7: steps[0]: must be a mapping with the fields of Step"]),
        ("  maxDuration: 1h\n  requestCondition: 1 +\n", ["7: requestCondition: "]),
        ("  maxDuration: 1h\n- name: a\n", ["7: policies/a is at {path}:2 already", "7: eligible: ", "7: resources: "]),
        ("  maxDuration: [\n", ["7: "]),
    ],
)
def test_lint_finds_all_that_is_wrong_and_where(
    jit: Jit, service: Service, tmp_path: Path, more: str, findings: list[str]
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(WHOLE + more)

    ran = jit("policy", "lint", str(path), "--offline")

    told = ran.out.splitlines()
    expected = [f"{path}:{finding.format(path=path)}" for finding in findings] or ["nothing is wrong"]
    assert ran.code == (1 if findings else 0), ran
    assert all(line.startswith(start) for line, start in zip(told, expected, strict=False)), told
    assert len(told) >= len(expected)
    assert service.received == []


@pytest.mark.parametrize("content", ["policies: {}\n", "", "- x", "policies: []\nmore: 1\n"])
def test_what_is_no_policy_file_is_found(jit: Jit, tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(content)

    ran = jit("policy", "lint", str(path), "--offline")

    assert (ran.code, ran.out) == (1, f"{path}: must hold `policies:` and a list, and nothing else\n")


def test_merged_keys_are_the_policys_own(jit: Jit, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    again = "- <<: *a\n  name: policies/b\n  maxDuration: 2h\n"
    path.write_text(WHOLE.replace("- name", "- &a\n  name") + "  maxDuration: 1h\n" + again)

    assert jit("policy", "lint", str(path), "--offline").out == "nothing is wrong\n"


def test_without_the_services_package_offline_says_in_one_line_what_to_install(
    jit: Jit, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jitaccess.cli.judges.entry_points", lambda **_: ())

    for command in ("lint", "test"):
        file.with_name("policies.test.yaml").write_text(CASES, encoding="utf-8")
        ran = jit("policy", command, str(file), "--offline")

        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
        assert "install the package jit-service" in ran.err


def test_offline_cases_are_judged_by_all_files(jit: Jit, service: Service, tried: Path) -> None:
    assert jit("policy", "test", "--offline", str(tried)).out.splitlines()[-1] == "2 passed, 0 failed"
    deny = tried.with_name("deny.yaml")
    deny.write_text(FILE.replace("orders-read", "none").replace("  maxDuration: 3600s", "  deny: true"))

    ran = jit("policy", "test", "--offline", str(tried.parent))

    beside = tried.with_name("policies.test.yaml")
    assert (ran.code, ran.out.splitlines()[:2]) == (
        1,
        [
            "✗ policies/orders-read: an engineer reads",
            f"    {beside}:5: expected ACTIVE, and it is REFUSED "
            "(DENIED_BY_POLICY: policies/none denies user:a read on database/orders/eu)",
        ],
    )
    assert service.received == []


def test_an_instant_and_a_word_that_yaml_1_1_takes_for_something_else_are_text(jit: Jit, tried: Path) -> None:
    condition = '  requestCondition: signals.incident == "on" && now.getHours() == 22\n'
    tried.write_text(FILE + condition)
    more = "     time: 2026-03-02T22:00:00Z, signals: {incident: on}, expect: ACTIVE}"
    beside = tried.with_name("policies.test.yaml")
    beside.write_text(CASES.replace("actions: [read], duration: 600s, expect: ACTIVE}", f"actions: [read],\n{more}"))

    ran = jit("policy", "test", "--offline", str(tried))

    assert (ran.code, ran.out.splitlines()[-1]) == (0, "2 passed, 0 failed"), ran


def test_an_expectation_that_can_never_come_is_refused_at_its_line(jit: Jit, tried: Path) -> None:
    beside = tried.with_name("policies.test.yaml")
    beside.write_text(CASES.replace("NOT_ELIGIBLE", "JUSTIFICATION_REQUIRED"))

    ran = jit("policy", "test", "--offline", str(tried))

    assert (ran.code, ran.out) == (2, "")
    assert f"{beside}:8: expectReason: 'JUSTIFICATION_REQUIRED' can not come here; what can is NOT_ELIGIBLE," in ran.err
    assert "TOKEN_MISSING" not in ran.err


def test_every_fault_of_a_test_file_is_told_with_its_line(jit: Jit, tried: Path) -> None:
    beside = tried.with_name("policies.test.yaml")
    beside.write_text(CASES.replace("duration: 600s", "duraton: 600s").replace("expect: REFUSED", "expect: REFUSE"))

    ran = jit("policy", "test", "--offline", str(tried))

    assert ran.code == 2
    assert f"{beside}:6: PolicyTestCase has no field 'duraton'; did you mean duration?" in ran.err
    assert (
        f"{beside}:7: expect: 'REFUSE' is none of ACTIVE, SCHEDULED, PENDING, REFUSED; did you mean REFUSED?" in ran.err
    )


def test_offline_a_file_is_compared_with_another(jit: Jit, service: Service, file: Path, tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    (before / "a.yaml").write_text(FILE.replace("3600s", "30m"))
    (before / "b.yaml").write_text(FILE.replace("orders-read", "gone"))

    ran = jit("policy", "diff", "--offline", str(file), "--against", str(before), "--prune")

    assert (ran.code, ran.out.splitlines()) == (
        1,
        [
            "- policies/gone would be deleted",
            "~ policies/orders-read would be updated",
            '    max_duration: "1800s" -> "3600s"',
            "0 created, 1 updated, 1 deleted, 0 unchanged; nothing was written",
        ],
    )
    assert jit("policy", "diff", "--offline", str(file), "--against", str(file)).code == 0
    assert service.received == []


@pytest.mark.parametrize("options", [["--offline"], ["--against", "x"]])
def test_offline_and_what_to_compare_with_go_together(jit: Jit, file: Path, options: list[str]) -> None:
    ran = jit("policy", "diff", str(file), *options)

    assert (ran.code, "--offline and --against go together" in " ".join(ran.err.split())) == (2, True)


def test_what_the_service_refuses_of_files_names_the_line(jit: Jit, service: Service, file: Path) -> None:
    fault = Refusal(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="INVALID_FIELD",
        violations={"policies[0].max_duration": "is too long", "policies[0].actions[0]": "is none"},
    )
    service.will_answer("ApplyPolicies", fault)

    ran = jit("policy", "apply", str(file))

    assert ran.code == 2
    assert f"  {file}:8: maxDuration: is too long" in ran.err
    assert f"  {file}:7: actions[0]: is none" in ran.err


def test_lint_looks_at_all_files_and_compares_them(jit: Jit, tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("policies: [{name: same}]")
    # As the fake service answers, nothing else is wrong.

    ran = jit("policy", "lint", str(tmp_path / "a.yaml"), str(tmp_path / "none.yaml"), str(tmp_path / "b.yaml"))

    assert [line.removeprefix(f"{tmp_path}/") for line in ran.out.splitlines()] == [
        f"b.yaml:1: policies/same is at {tmp_path}/a.yaml:1 already",
        "none.yaml: No such file or directory",
    ]


def test_lint_asks_the_service_and_places_what_it_refuses(jit: Jit, service: Service, file: Path) -> None:
    fault = Refusal(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="INVALID_FIELD",
        violations={"policies[0].request_condition": "is no CEL"},
    )
    service.will_answer("ApplyPolicies", fault)

    ran = jit("policy", "lint", str(file))

    assert (ran.code, ran.out.splitlines()[0]) == (1, f"{file}:3: requestCondition: is no CEL")
    assert [sent.validate_only for sent in service.sent("ApplyPolicies")] == [True]


def test_lint_reads_the_standard_input_once(jit: Jit, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(FILE.encode())))

    assert jit("policy", "lint", "-").code == 0
    assert [item.name for item in service.sent("ApplyPolicies")[0].policies] == ["policies/orders-read"]


def test_lint_that_may_not_ask_has_no_finding(jit: Jit, service: Service, file: Path) -> None:
    service.will_answer("ApplyPolicies", Refusal(code=grpc.StatusCode.PERMISSION_DENIED, reason="ROLE_REQUIRED"))

    assert jit("policy", "lint", str(file)).code == 4


def test_a_role_that_is_missing_is_told_with_the_command(jit: Jit, service: Service, file: Path) -> None:
    refusal = Refusal(
        code=grpc.StatusCode.PERMISSION_DENIED,
        reason="ROLE_REQUIRED",
        message="/jitaccess.v1.PolicyService/ApplyPolicies needs the role admin or auditor, which user:a does not have",
    )
    service.will_answer("ApplyPolicies", refusal)

    ran = jit("policy", "diff", str(file))

    assert ran.err.startswith("error: `jit policy diff` needs the role admin or auditor, which user:a does not have (")


def test_findings_can_be_had_as_json(jit: Jit, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("policies: [{nane: a}]")

    ran = jit("policy", "lint", str(path), "-o", "json")

    finding = {"file": str(path), "line": 1, "message": "Policy has no field 'nane'; did you mean name?"}
    assert json.loads(ran.out) == {"findings": [finding], "warnings": []}


def test_the_cases_beside_a_file_try_its_drafts(jit: Jit, service: Service, tried: Path) -> None:
    service.will_answer(
        "TestPolicy", report(Result(display_name="an engineer reads", passed=True), Result(passed=True))
    )

    ran = jit("policy", "test", str(tried))

    assert (ran.code, ran.out.splitlines()) == (
        0,
        ["✓ policies/orders-read: an engineer reads", "✓ policies/orders-read: case 2", "2 passed, 0 failed"],
    )
    [sent] = service.sent("TestPolicy")
    assert (sent.name, sent.policies[0].display_name) == ("policies/orders-read", "Read orders")
    assert [case.expect for case in sent.cases] == [Case.ACTIVE, Case.REFUSED]


def test_a_case_that_comes_out_otherwise_exits_1_and_says_how(jit: Jit, service: Service, tried: Path) -> None:
    wrong = Result(
        display_name="an engineer reads",
        outcome=Case.REFUSED,
        reason="NOT_ELIGIBLE",
        message="user:a is not eligible",
        differences=["expected ACTIVE, got REFUSED"],
    )
    service.will_answer("TestPolicy", report(wrong, Result(passed=True)))

    ran = jit("policy", "test", str(tried))

    assert (ran.code, ran.out.splitlines()) == (
        1,
        [
            "✗ policies/orders-read: an engineer reads",
            f"    {tried.with_name('policies.test.yaml')}:5: expected ACTIVE, got REFUSED",
            "    user:a is not eligible",
            "✓ policies/orders-read: case 2",
            "1 passed, 1 failed",
        ],
    )


def test_results_can_be_had_as_json(jit: Jit, service: Service, tried: Path) -> None:
    service.will_answer("TestPolicy", report(Result(display_name="x", outcome=Case.REFUSED)))

    ran = jit("policy", "test", str(tried), "-o", "json")

    answer = json.loads(ran.out)
    assert (ran.code, answer["failedCount"]) == (1, 1)
    assert answer["tests"][0]["policy"] == "policies/orders-read"
    assert answer["tests"][0]["results"][0]["outcome"] == "REFUSED"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("tests: [{policy: gone, cases: []}]", ":1: tests[0] is of policies/gone, which the file beside it does not"),
        ("tests: [{policy: orders-read}]", ":1: tests[0] must hold `policy:` and a list of `cases:`"),
        ("tests: [{policy: orders-read, cases: [{nane: x}]}]", ":1: PolicyTestCase has no field 'nane'"),
        ("tests: {}", ": must hold `tests:` and a list"),
        ("- x", ": must hold `tests:` and a list"),
    ],
)
def test_cases_that_are_none_are_refused_by_file(
    jit: Jit, service: Service, tried: Path, content: str, words: str
) -> None:
    beside = tried.with_name("policies.test.yaml")
    beside.write_text(content)

    ran = jit("policy", "test", str(tried))

    assert (ran.code, f"{beside}{words}" in ran.err) == (2, True)
    assert service.received == []


def test_a_file_without_cases_is_refused_by_name(jit: Jit, service: Service, file: Path) -> None:
    ran = jit("policy", "test", str(file))

    assert (ran.code, "policies.test.yaml: No such file" in ran.err) == (2, True)


def test_simulate_shows_what_would_have_been_answered_otherwise(jit: Jit, service: Service, file: Path) -> None:
    changed = policy_pb2.SimulatedChange(
        kind=policy_pb2.SimulatedChange.CHECK,
        event_time=soon(hours=-1),
        subject="user:alice@example.com",
        resources=["database/orders/eu"],
        actions=["read"],
        before="ALLOWED",
        after="DENIED",
        after_reason="DENIED_BY_POLICY",
        message="policies/no denies it",
    )
    found = policy_pb2.SimulatePoliciesResponse(
        request_count=3, check_count=9, changed_count=2, changes=[changed], truncate_time=soon(hours=-1)
    )
    service.will_stream("StreamPolicySimulation", [Progress(event_count=12), Progress(result=found)])

    ran = jit("policy", "simulate", str(file), "--prune", "--since", "7d", "--max", "1")

    assert ran.code == 0, ran.err
    [sent] = service.sent("StreamPolicySimulation")
    assert (sent.prune, sent.max_changes, len(sent.policies)) == (True, 1, 1)
    assert abs(sent.start_time.seconds - soon(days=-7).seconds) < 60
    _, row, count, more, truncated = ran.out.splitlines()
    for part in ("CHECK", "user:alice@example.com", "ALLOWED", "DENIED (DENIED_BY_POLICY)", "policies/no denies it"):
        assert part in row
    assert count == "2 of 3 requests and 9 checks would be answered otherwise"
    assert more == "... and more than these 1; --max N shows more"
    assert truncated.startswith("nothing after")


def test_simulate_leaves_the_window_to_the_service(jit: Jit, service: Service, file: Path) -> None:
    service.will_stream("StreamPolicySimulation", [Progress(result=policy_pb2.SimulatePoliciesResponse())])

    ran = jit("policy", "simulate", str(file))

    assert ran.out == "0 of 0 requests and 0 checks would be answered otherwise\n"
    assert not service.sent("StreamPolicySimulation")[0].HasField("start_time")


@pytest.mark.parametrize("stream", [[], [Progress(event_count=12)]])
def test_a_simulation_without_a_result_is_an_error(
    jit: Jit, service: Service, file: Path, stream: list[Progress]
) -> None:
    service.will_stream("StreamPolicySimulation", stream)

    ran = jit("policy", "simulate", str(file))

    assert (ran.code, ran.out, "without a result" in ran.err) == (7, "", True)


@pytest.mark.parametrize("flags", [(), ("-q",)])
def test_on_a_terminal_it_is_shown_how_far_the_simulation_is(
    jit: Jit, service: Service, file: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(progress, "tell", shown.append)
    result = policy_pb2.SimulatePoliciesResponse()
    told = [Progress(), Progress(event_count=4), Progress(judged_count=2, event_count=4, result=result)]
    service.will_stream("StreamPolicySimulation", told)

    jit("policy", "simulate", str(file), *flags)

    none, some = f"[{'-' * 30}]   0 %", f"[{'#' * 15}{'-' * 15}]  50 %"
    texts = [f"{none}  0 of 0", f"{none}  0 of 4", f"{some}  2 of 4"]
    assert shown == ([] if flags else [*(f"{text} requests and checks" for text in texts), ""])


def test_apply_under_dual_control_says_that_a_proposal_waits(jit: Jit, service: Service, file: Path) -> None:
    applied = difference()
    applied.proposal = "policyProposals/p1"
    service.will_answer("ApplyPolicies", applied)

    ran = jit("policy", "apply", str(file), "--comment", "for the audit")

    assert service.sent("ApplyPolicies")[0].comment == "for the audit"
    assert "+ policies/a would be created" in ran.out
    assert ran.out.splitlines()[-2:] == [
        "1 created, 1 updated, 1 deleted, 1 unchanged; nothing was written",
        "policyProposals/p1 waits for another admin: `jit policy approve p1`",
    ]


def test_proposals_are_listed(jit: Jit, service: Service) -> None:
    decided = proposal(
        name="policyProposals/p2", state=Proposal.REJECTED, decided_by="user:b", decide_time=soon(hours=-1),
        decide_comment="no",
    )  # fmt: skip
    lapsed = proposal(name="policyProposals/p3", state=Proposal.LAPSED, expire_time=soon(hours=-1))
    service.will_answer(
        "ListPolicyProposals",
        policy_pb2.ListPolicyProposalsResponse(policy_proposals=[proposal(), decided, lapsed]),
    )

    header, *rows = jit("policy", "proposals").out.splitlines()

    assert header.split() == ["ID", "STATE", "PROPOSER", "CHANGES", "WHY", "STANDING"]
    assert rows[0].startswith("p1  PENDING   user:admin@example.com  a, b, c  for the audit  lapses ")
    assert "by user:b" in rows[1]
    assert rows[1].endswith("ago: no")
    assert "lapsed " in rows[2]


def test_a_proposal_is_shown_with_its_difference(jit: Jit, service: Service) -> None:
    service.will_answer("GetPolicyProposal", proposal())

    out = jit("policy", "proposal", "p1").out

    assert service.sent("GetPolicyProposal")[0].name == "policyProposals/p1"
    for part in ("PENDING", "for the audit", "42 min left", "~ policies/b would be updated", "max_duration"):
        assert part in out


def test_a_proposal_is_approved_as_it_was_looked_up(jit: Jit, service: Service) -> None:
    service.will_answer("GetPolicyProposal", proposal())
    service.will_answer("ApprovePolicyProposal", proposal(state=Proposal.APPROVED))

    ran = jit("policy", "approve", "p1", "--comment", "fine")

    assert ran.out.startswith("policyProposals/p1 is APPROVED\n+ policies/a created\n")
    [sent] = service.sent("ApprovePolicyProposal")
    assert (sent.name, sent.etag, sent.comment) == ("policyProposals/p1", "e1", "fine")


def test_a_proposal_is_rejected(jit: Jit, service: Service) -> None:
    service.will_answer("RejectPolicyProposal", proposal(state=Proposal.REJECTED))

    ran = jit("policy", "reject", "policyProposals/p1", "--comment", "no")

    assert (ran.code, ran.out) == (0, "policyProposals/p1 is REJECTED\n")
    assert service.sent("RejectPolicyProposal")[0].comment == "no"


def test_ones_own_proposal_cannot_be_approved(jit: Jit, service: Service) -> None:
    service.will_answer("GetPolicyProposal", proposal())
    service.will_answer(
        "ApprovePolicyProposal", Refusal(code=grpc.StatusCode.PERMISSION_DENIED, reason="SELF_APPROVAL")
    )

    assert jit("policy", "approve", "p1").code == 4


WORDS = b'policies: [{name: a, displayName: on, disabled: on, labels: {since: 2026-03-02, "on": no}, maxDuration: 1h}]'


def test_words_are_text_but_where_a_field_is_a_boolean() -> None:
    read = policy_file.read_policies(WORDS)

    assert read.faults == ()
    assert (read.policies[0].display_name, read.policies[0].disabled) == ("on", True)
    assert dict(read.policies[0].labels) == {"since": "2026-03-02", "on": "no"}
    assert read.policies[0].max_duration.seconds == 3600


def test_what_is_sound_of_a_policy_is_read_beside_its_faults() -> None:
    read = policy_file.read_policies(b"policies:\n- deny: true\n  maxDuration: soon\n  nane: x\n  actions: ['**']\n")

    assert [fault.line for fault in read.faults] == [3, 4]
    assert (read.policies[0].deny, list(read.policies[0].actions)) == (True, ["**"])


@pytest.mark.parametrize(
    ("function", "sound", "bug", "caught_by"),
    [
        (
            policy_file._as_written,
            "return _YES_NO[str(value).lower()]",
            "return bool(value == 'no')",
            test_words_are_text_but_where_a_field_is_a_boolean,
        ),
        (
            policy_file._Reader.read,
            "known = fields.get(str(key.value))",
            "known = None if self.faults else fields.get(str(key.value))",
            test_what_is_sound_of_a_policy_is_read_beside_its_faults,
        ),
    ],
    ids=["a deny that is read as its opposite", "a fault that hides those after it"],
)
def test_a_bug_in_the_reading_of_files_is_noticed(
    monkeypatch: pytest.MonkeyPatch, function: Any, sound: str, bug: str, caught_by: Any
) -> None:
    demand_caught(Twin("", function, sound, bug, caught_by), monkeypatch)
