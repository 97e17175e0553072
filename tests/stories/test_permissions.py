"""The table of who may do what, walked over the running service: everybody tries everything."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from jit_service.domain.caller import Caller
from jit_service.domain.policies.diff import PolicyDraft
from jit_service.use_cases import proposals
from tests.stories.streams import Refused, exporting, simulating, tailing, verifying, watching
from tests.world import (
    ACCESS,
    AUDIT,
    DELEGATIONS,
    GRANTS,
    LOCKS,
    POLICIES,
    SIGNALS,
    TOKENS,
    Outcome,
    Person,
    Story,
    form,
    of_error,
)

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import permissions  # noqa: E402  # type: ignore[import-not-found]

TABLE: dict[str, dict[str, str]] = {operation.label: answers for operation, answers in permissions.cells()}
JOB = "service:job"
DRAFT = replace(permissions.POLICY, revision=0)
LESS = "1800s"
BEFORE_ALL = "2000-01-01T00:00:00Z"


class Case:
    """The table's people and policy in a story of their own."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.bot = Person(f"service:bot-{story.id}")
        self.ann = Person(f"user:ann-{story.id}@example.com", (story.engineers,))
        self.second = Person(f"user:second-{story.id}@example.com", roles=story.admin.roles)
        self.people = {
            "requester": self.ann,
            "holder": self.bot,
            "approver": story.ben,
            "later approver": story.carol,
            "delegate": story.dave,
            "stranger": Person(f"user:eve-{story.id}@example.com"),
            "checker": story.gateway,
            "auditor": story.auditor,
            "responder": story.responder,
            "admin": story.admin,
        }
        everybody = {"groups": [story.engineers]}
        self.policy = story.create_policy(
            eligible={"groups": [story.engineers], "principals": [self.bot.principal]},
            steps=[{"approvers": {"groups": [story.owners]}}, {"approvers": {"groups": [story.security]}}],
            extension={"maxExtensions": 3, "maxTotalDuration": "28800s"},
            breakGlass={"eligible": everybody, "maxDuration": "3600s", "reviewWithin": "86400s", "maxUnreviewed": 20},
            maxChildDepth=1,
        )
        delegation = {"delegate": story.dave.principal, "expireTime": self.later()}
        self.delegation = story.must(story.ben, DELEGATIONS + "CreateDelegation", {"delegation": delegation})

    @property
    def nobody(self) -> Body:
        """A lock on somebody whom no test asks about."""
        return {"principal": f"user:nobody-{self.story.id}", "comment": "left"}

    def now(self) -> str:
        return str(self.story.world.clock().isoformat().replace("+00:00", "Z"))

    def later(self) -> str:
        from datetime import timedelta

        return (self.story.world.clock() + timedelta(hours=1)).isoformat().replace("+00:00", "Z")

    def pending(self) -> Any:
        return self.story.asks(self.ann, subject=self.bot.principal)

    def active(self) -> Any:
        grant = self.story.approves(self.story.ben, self.pending())
        return self.story.approves(self.story.carol, grant)

    def offered(self) -> Any:
        body = {"name": self.pending().name, "duration": LESS}
        return self.story.must(self.story.ben, GRANTS + "CounterGrant", body)

    def extending(self) -> Any:
        return self.story.must(self.ann, GRANTS + "ExtendGrant", {"name": self.active().name, "duration": LESS})

    def proposed(self, proposer: Person, decision: str) -> tuple[str, dict[str, Any]]:
        """A proposal made beside the API, since this service has no dual control."""
        policy = replace(DRAFT, name=f"policies/p{self.story.id}-{uuid.uuid4().hex[:8]}")
        by = Caller(principal=proposer.principal)
        store = self.story.world.service.store
        name = proposals.propose(store, by, [PolicyDraft(policy=policy)], prune=False, comment="").proposal
        return f"{POLICIES}{decision}PolicyProposal", {"name": name}

    def emergency(self) -> Any:
        return self.story.asks(self.ann, breakGlass=True, justification={"text": "fire"})


Body = dict[str, Any]
Prepared = Callable[[Case], tuple[str, Body]]


def on(rpc: str, grant: Callable[[Case], Any], **more: Any) -> Prepared:
    return lambda case: (GRANTS + rpc, {"name": grant(case).name} | more)


def asking(case: Case) -> tuple[str, Body]:
    return GRANTS + "RequestGrant", {"resources": [case.story.resource], "actions": ["read"]}


def passing_on(case: Case) -> tuple[str, Body]:
    return GRANTS + "RequestGrant", {
        "parent": case.active().name,
        "subject": JOB,
        "resources": [case.story.resource],
        "actions": ["read"],
    }


def checking(case: Case) -> tuple[str, Body]:
    return ACCESS + "CheckAccess", case.story.question(subject=case.bot.principal)


def deleting_a_delegation(case: Case) -> tuple[str, Body]:
    wanted = {"delegate": case.story.dave.principal, "expireTime": case.later()}
    made = case.story.must(case.story.ben, DELEGATIONS + "CreateDelegation", {"delegation": wanted})
    return DELEGATIONS + "DeleteDelegation", {"name": made.name}


def delegating(case: Case) -> tuple[str, Body]:
    wanted = {"delegate": "user:somebody@example.com", "expireTime": case.later()}
    return DELEGATIONS + "CreateDelegation", {"delegation": wanted}


def setting_a_signal(case: Case) -> tuple[str, Body]:
    signal = {"name": f"signals/s_{case.story.id}", "value": True, "expireTime": case.later()}
    return SIGNALS + "SetSignal", {"signal": signal}


def trying(case: Case) -> tuple[str, Body]:
    tried = {"principal": case.ann.principal, "resources": [case.story.resource], "actions": ["read"]}
    return POLICIES + "TestPolicy", {"name": case.policy.name, "cases": [tried]}


def revoking_a_token(case: Case) -> tuple[str, Body]:
    issued = case.story.must(case.bot, TOKENS + "IssueToken", {"name": case.active().name})
    return TOKENS + "RevokeToken", form(issued.token)


def bodiless(method: str, **body: Any) -> Prepared:
    return lambda _: (method, body)


WALK: dict[str, Prepared] = {
    "ask under the policy, for oneself": asking,
    "read the policy": lambda case: (POLICIES + "GetPolicy", {"name": case.policy.name}),
    "read the grant": on("GetGrant", Case.pending),
    "approve the request": on("ApproveGrant", Case.pending),
    "deny the request": on("DenyGrant", Case.pending),
    "offer other terms": on("CounterGrant", Case.pending, duration=LESS),
    "accept an offer": on("AcceptCounterOffer", Case.offered),
    "decline an offer": on("DeclineCounterOffer", Case.offered),
    "withdraw the request": on("WithdrawGrant", Case.pending),
    "release the access": on("ReleaseGrant", Case.active),
    "revoke the access": on("RevokeGrant", Case.active, comment="over"),
    "ask for more time": on("ExtendGrant", Case.active, duration=LESS),
    "approve more time": on("ApproveGrant", Case.extending, extensionRound=1),
    "pass the access on to a job": passing_on,
    "review the requester's break-glass": on("CompleteReview", Case.emergency, comment="fine"),
    "check the holder's access": checking,
    "search for who has the access": bodiless(ACCESS + "SearchAccess", action="read", resource="database/orders"),
    "ask what the holder could do in the past": lambda case: (
        ACCESS + "CheckAccess",
        case.story.question(subject=case.bot.principal) | {"readTime": case.now()},
    ),
    "search for who had the access in the past": lambda case: (
        ACCESS + "SearchAccess",
        {"action": "read", "resource": "database/orders", "readTime": case.now()},
    ),
    "feed a replica that checks": bodiless(GRANTS + "WatchGrants", replica=True),
    "issue a token of the grant": lambda case: (TOKENS + "IssueToken", {"name": case.active().name}),
    "revoke the holder's token": revoking_a_token,
    "revoke widely": lambda case: (GRANTS + "RevokeGrants", {"subject": case.bot.principal}),
    "change policies": lambda case: (POLICIES + "ApplyPolicies", {"policies": [case.story.policy("new")]}),
    "see what a change of policies would do": lambda case: (
        POLICIES + "ApplyPolicies",
        {"policies": [case.story.policy("new")], "validateOnly": True},
    ),
    "read the proposals of policies": bodiless(POLICIES + "ListPolicyProposals"),
    "approve the admin's proposal": lambda case: case.proposed(case.story.admin, "Approve"),
    "approve another admin's proposal": lambda case: case.proposed(case.second, "Approve"),
    "reject the admin's proposal": lambda case: case.proposed(case.story.admin, "Reject"),
    "test policies": trying,
    "simulate policies": bodiless(POLICIES + "SimulatePolicies", endTime=BEFORE_ALL),
    "follow the simulation of policies": bodiless(POLICIES + "StreamPolicySimulation", endTime=BEFORE_ALL),
    "set a signal": setting_a_signal,
    "read the signals": bodiless(SIGNALS + "ListSignals"),
    "delegate one's own right to review": delegating,
    "read the approver's delegation": lambda case: (DELEGATIONS + "GetDelegation", {"name": case.delegation.name}),
    "end the approver's delegation": deleting_a_delegation,
    "lock somebody": lambda case: (LOCKS + "CreateLock", {"lock": case.nobody}),
    "read the locks": bodiless(LOCKS + "ListLocks"),
    "lift a lock": lambda case: (LOCKS + "DeleteLock", {"name": case.story.locks(**case.nobody).name}),
    "read the audit log": bodiless(AUDIT + "ListAuditEvents"),
    "tail the audit log": bodiless(AUDIT + "TailAuditEvents"),
    "export the audit log": bodiless(AUDIT + "ExportAuditEvents", format="ocsf"),
    "verify the audit log": bodiless(AUDIT + "VerifyAuditLog"),
    "follow the verification of the audit log": bodiless(AUDIT + "StreamAuditVerification"),
    "take a checkpoint of the audit log": bodiless(AUDIT + "GetAuditCheckpoint"),
}


STREAMS: dict[str, Callable[..., AbstractContextManager[Iterator[Any]]]] = {
    GRANTS + "WatchGrants": watching,
    AUDIT + "TailAuditEvents": tailing,
    AUDIT + "ExportAuditEvents": exporting,
    AUDIT + "StreamAuditVerification": verifying,
    POLICIES + "StreamPolicySimulation": simulating,
}


def opened(story: Story, person: Person, method: str, body: Body) -> Outcome:
    """Returns what came of opening the stream."""
    try:
        with STREAMS[method](story, person, **body) as events:
            return Outcome("OK", next(events))
    except Refused as refused:
        return refused.outcome
    except grpc.RpcError as error:
        return of_error(error)


def test_the_walk_has_every_row() -> None:
    assert list(WALK) == list(TABLE)


@pytest.mark.parametrize("label", TABLE)
def test_everybody_may_do_what_the_table_says(story: Story, label: str) -> None:
    case = Case(story)
    walked, prepared = {}, None
    for who, person in case.people.items():
        # Who is refused changes nothing, so the next one tries the same.
        prepared = prepared or WALK[label](case)
        method, body = prepared
        outcome = opened(story, person, method, body) if method in STREAMS else story.call(person, method, body)
        walked[who] = outcome.reason if outcome.code != "OK" else ""
        prepared = prepared if walked[who] else None

    assert walked == TABLE[label]
