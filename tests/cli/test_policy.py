"""The commands on policies."""

from __future__ import annotations

import io
import json
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from jitaccess.v1 import policy_pb2
from tests.cli.conftest import Jit
from tests.client.service import Refusal, Service

FILE = """
policies:
- name: policies/orders-read
  displayName: Read orders
  eligible: {groups: [engineering]}
  resources: ["database/orders/**"]
  actions: [read]
  maxDuration: 3600s
"""
CHANGE = policy_pb2.PolicyChange


def policy(name: str, seconds: int = 3600, etag: str = "") -> policy_pb2.Policy:
    return policy_pb2.Policy(
        name=f"policies/{name}",
        eligible=policy_pb2.PrincipalSet(groups=["engineering"]),
        resources=["database/orders/**"],
        actions=["read"],
        max_duration=Duration(seconds=seconds),
        etag=etag,
    )


def difference() -> policy_pb2.ApplyPoliciesResponse:
    updated = CHANGE(
        policy="policies/b",
        change_type=CHANGE.UPDATED,
        changed_fields=["max_duration", "display_name"],
        before=policy("b"),
        after=policy("b", seconds=7200),
    )
    updated.after.display_name = "B \x1b[2J"
    return policy_pb2.ApplyPoliciesResponse(
        changes=[
            CHANGE(policy="policies/a", change_type=CHANGE.CREATED, after=policy("a")),
            updated,
            CHANGE(policy="policies/c", change_type=CHANGE.DELETED, before=policy("c")),
            CHANGE(policy="policies/d", change_type=CHANGE.UNCHANGED, before=policy("d"), after=policy("d")),
        ]
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policies.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_ls_lists_policies_of_every_page(jit: Jit, service: Service) -> None:
    stepped = policy("b")
    stepped.steps.add()
    denying = policy("c")
    denying.deny = True
    service.will_answer(
        "ListPolicies",
        policy_pb2.ListPoliciesResponse(policies=[policy("a"), stepped], next_page_token="t"),
        policy_pb2.ListPoliciesResponse(policies=[denying]),
    )

    ran = jit("policy", "ls")

    _, *rows = ran.out.splitlines()
    assert [row.split()[:2] for row in rows] == [["a", "automatic"], ["b", "1"], ["c", "denies"]]
    assert "group engineering" in rows[0]


def test_show_shows_all_of_a_policy(jit: Jit, service: Service) -> None:
    whole = policy("orders-write", etag="e1")
    whole.steps.add(display_name="owners").approvers.groups.append("database-owners")
    whole.justification.ticket_pattern = "[A-Z]+-[0-9]+"
    service.will_answer("GetPolicy", whole)

    ran = jit("policy", "show", "orders-write")

    assert service.sent("GetPolicy")[0].name == "policies/orders-write"
    for part in ("policies/orders-write", "step 1 (owners): 1 of group database-owners", "[A-Z]+-[0-9]+", "1 h", "e1"):
        assert part in ran.out


def test_show_shows_what_bounds_a_grant_and_its_review(jit: Jit, service: Service) -> None:
    hour, day = Duration(seconds=3600), Duration(seconds=86400)
    whole = policy("orders-write")
    whole.activation_window.seconds = 600
    whole.idle_timeout.seconds = 1800
    whole.max_uses, whole.max_child_depth = 3, 2
    whole.extension.MergeFrom(policy_pb2.ExtensionRule(max_extensions=2, max_total_duration=day))
    sres = policy_pb2.PrincipalSet(groups=["sre"])
    whole.break_glass.MergeFrom(policy_pb2.BreakGlassRule(eligible=sres, max_duration=hour, review_within=day))
    whole.review_comment.MergeFrom(policy_pb2.CommentRule(required_to_approve=True, pattern="OK .*"))
    whole.steps.add(approvers=sres, timeout=hour, escalate_to=policy_pb2.PrincipalSet(groups=["heads"]))
    whole.steps.add(approvers=sres, timeout=hour)
    service.will_answer("GetPolicy", whole)

    out = " ".join(jit("policy", "show", "orders-write").out.split())

    for part in (
        "uses at most 3 a grant",
        "ends unless used within 10 min of its start, again within 30 min",
        "more time at most 2 times, to 1 d in all",
        "break-glass group sre, for at most 1 h; reviewed within 1 d",
        "passed on 2 deep",
        "reviewers must say why, to approve; what matches OK .*",
        "step 1: 1 of group sre; goes to group heads too after 1 h",
        "step 2: 1 of group sre; lapses after 1 h",
    ):
        assert part in out


def test_rm_deletes_a_policy(jit: Jit, service: Service) -> None:
    service.will_answer("DeletePolicy", policy("a"))

    ran = jit("policy", "rm", "policies/a")

    assert ran.out == "policies/a is deleted\n"
    assert service.sent("DeletePolicy")[0].name == "policies/a"


def test_apply_sends_the_policies_of_all_files(jit: Jit, service: Service, file: Path, tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("policies: [{name: policies/b}]")

    ran = jit("policy", "apply", str(file), str(tmp_path / "more.yaml"))

    assert ran.code == 0, ran.err
    [sent] = service.sent("ApplyPolicies")
    expected = policy("orders-read")
    expected.display_name = "Read orders"
    assert list(sent.policies) == [expected, policy_pb2.Policy(name="policies/b")]
    assert (sent.prune, sent.validate_only) == (False, False)


def test_apply_shows_the_difference(jit: Jit, service: Service, file: Path) -> None:
    service.will_answer("ApplyPolicies", difference())

    assert jit("policy", "apply", str(file)).out.splitlines() == [
        "+ policies/a created",
        "~ policies/b updated",
        '    max_duration: "3600s" -> "7200s"',
        '    display_name: (unset) -> "B \\u001b[2J"',
        "- policies/c deleted",
        "1 created, 1 updated, 1 deleted, 1 unchanged",
    ]


def misfits(*, ended: bool) -> policy_pb2.ApplyPoliciesResponse:
    alice = {"subject": "user:alice@example.com", "policy": "policies/a", "why": "policies/a is gone"}
    told = [
        policy_pb2.Misfit(grant="grants/later", scheduled=True, ended=True, **alice),
        policy_pb2.Misfit(grant="grants/live", ended=ended, **alice),
    ]
    return policy_pb2.ApplyPoliciesResponse(misfits=told, misfit_count=7)


def test_apply_shows_what_would_not_be_given_any_more(jit: Jit, service: Service, file: Path) -> None:
    service.will_answer("ApplyPolicies", misfits(ended=False), misfits(ended=True))

    told = jit("policy", "apply", str(file)).out.splitlines()
    foreseen = jit("policy", "apply", str(file), "--dry-run", "--end-misfits").out

    assert told[1:] == [
        "7 scheduled or live would not be given any more:",
        "  grants/later of user:alice@example.com, scheduled, ended: policies/a is gone",
        "  grants/live of user:alice@example.com, live, goes on: policies/a is gone",
        "  ... and 5 more",
        "`jit policy apply --end-misfits` ends those that go on",
    ]
    assert "grants/live of user:alice@example.com, live, would end" in foreseen
    assert [sent.end_misfits for sent in service.sent("ApplyPolicies")] == [False, True]


def test_a_dry_run_writes_nothing_says_so_and_exits_0(jit: Jit, service: Service, file: Path) -> None:
    service.will_answer("ApplyPolicies", difference())

    ran = jit("policy", "apply", str(file), "--dry-run", "--prune")

    assert [(sent.validate_only, sent.prune) for sent in service.sent("ApplyPolicies")] == [(True, True)]
    assert ran.code == 0
    assert "- policies/c would be deleted" in ran.out
    assert ran.out.endswith("nothing was written\n")


def test_away_from_a_terminal_prune_asks_nobody(jit: Jit, service: Service, file: Path) -> None:
    service.will_answer("ApplyPolicies", difference())

    ran = jit("policy", "apply", str(file), "--prune", "-o", "json")

    assert [(sent.validate_only, sent.prune) for sent in service.sent("ApplyPolicies")] == [(False, True)]
    assert len(json.loads(ran.out)["changes"]) == 4


def test_apply_reads_the_standard_input(jit: Jit, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(FILE.encode())))

    jit("policy", "apply", "-")

    assert [item.name for item in service.sent("ApplyPolicies")[0].policies] == ["policies/orders-read"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"policies: {}",
        b"policies: []\nmore: 1",
        b"policies: [",
        b"policies: [7]",
        b"policies: [{nane: policies/a}]",
        b"policies: [{name: 7}]",
        b"policies: [{name: [a]}]",
        b"policies: [{maxDuration: an hour}]",
        b"policies: [{name: a, name: b}]",
        b"policies: [{resources: a}]",
        b"policies: [{2026-01-01: a}]",
        b"policies: [{labels: {a: 1}}]",
        b"policies: !!python/object/apply:os.system [id]",
        b"\xff\xfe\x00",
        b"policies: []\n---\npolicies: []",
        b"{[a]: b}",
    ],
)
def test_a_file_that_is_no_policy_file_is_refused_by_name(
    jit: Jit, service: Service, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)

    ran = jit("policy", "apply", str(path))

    assert ran.code == 2, ran.err
    assert ran.err.startswith(f"error: {path}:")
    assert len(ran.err.splitlines()) == 1
    assert service.received == []


def test_a_file_that_is_not_there_is_refused_by_name(jit: Jit, tmp_path: Path) -> None:
    ran = jit("policy", "apply", str(tmp_path / "none.yaml"))

    assert ran.code == 2
    assert "none.yaml: No such file" in ran.err


def test_apply_that_meets_a_changed_policy_is_a_conflict(jit: Jit, service: Service, file: Path) -> None:
    service.will_answer("ApplyPolicies", Refusal(code=grpc.StatusCode.ABORTED, reason="STALE_ETAG"))

    assert jit("policy", "apply", str(file)).code == 6
