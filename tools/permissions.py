"""Derives from the code who may do what, and writes it as a page.

For each caller it evaluates the rules themselves: `rpc.authorization` decides whether the caller may call the method,
and the domain whether it may do so to this resource. tests/stories/test_permissions.py tries the same on a service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from jit_service.check import questions, search
from jit_service.domain.caller import Caller, Origin, Role
from jit_service.domain.errors import JitError, NotVisible
from jit_service.domain.grants import approval, break_glass, children, delegation, more_time, request
from jit_service.domain.grants import grant as rules
from jit_service.domain.grants.delegation import Delegation, NewDelegation
from jit_service.domain.grants.grant import Grant, Justification
from jit_service.domain.grants.more_time import MoreTime
from jit_service.domain.grants.request import Ask
from jit_service.domain.grants.terms import Edits
from jit_service.domain.policies import proposal
from jit_service.domain.policies.diff import ChangeType, PolicyChange
from jit_service.domain.policies.policy import BreakGlassRule, ExtensionRule, Policy, PrincipalSet, Step
from jit_service.domain.policies.proposal import Proposal
from jit_service.domain.tokens import token
from jit_service.feeds import replica
from jit_service.rpc.authorization import RULES, demand
from jit_service.use_cases import policies
from jitaccess.v1.policy_pb2 import ApplyPoliciesRequest

NOW: Final = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
JOB: Final = "service:job"
RESOURCE: Final = "database/orders/eu"
SERVICE: Final = "/jitaccess.v1."

PEOPLE: Final = {
    "requester": Caller(principal="user:alice", groups=frozenset({"engineers"})),
    "holder": Caller(principal="service:bot"),
    "approver": Caller(principal="user:bob", groups=frozenset({"owners"})),
    "later approver": Caller(principal="user:carol", groups=frozenset({"security"})),
    "delegate": Caller(principal="user:dave"),
    "stranger": Caller(principal="user:eve"),
    "checker": Caller(principal="service:gateway", roles=frozenset({Role.CHECKER})),
    "auditor": Caller(principal="user:auditor", roles=frozenset({Role.AUDITOR})),
    "responder": Caller(principal="user:responder", roles=frozenset({Role.RESPONDER})),
    "admin": Caller(principal="user:admin", roles=frozenset({Role.ADMIN})),
}
"""The callers: alice asked for the bot, bob approves the first step and lets dave act for him, carol the second."""

POLICY: Final = Policy(
    name="policies/orders",
    eligible=PrincipalSet(groups=("engineers",), principals=("service:bot",)),
    resources=("database/orders/**",),
    actions=("read", "write"),
    max_duration=HOUR,
    steps=(Step(approvers=PrincipalSet(groups=("owners",))), Step(approvers=PrincipalSet(groups=("security",)))),
    extension=ExtensionRule(max_extensions=3, max_total_duration=4 * HOUR),
    break_glass=BreakGlassRule(
        eligible=PrincipalSet(groups=("engineers",)), max_duration=HOUR, review_within=24 * HOUR
    ),
    max_child_depth=1,
    revision=1,
)
LESS: Final = Edits(duration=HOUR / 2)
_WHY: Final = Justification(text="repair")
_DELEGATION: Final = NewDelegation(delegate="user:dave", expires_at=NOW + HOUR)


@dataclass(frozen=True)
class Operation:
    """An operation by an RPC on a resource; `rule` raises if the domain refuses it.

    `request` is the message, where the table of RPCs looks into it.
    """

    label: str
    rpc: str
    rule: Callable[[Caller], object] | None = None
    request: object = None


def cells() -> Iterator[tuple[Operation, dict[str, str]]]:
    """Yields each operation with the answer to every caller: the reason of a refusal, or nothing for a yes."""
    for operation in OPERATIONS:
        yield operation, {label: _answer(operation, person) for label, person in _people().items()}


def page() -> str:
    """Returns the page as Markdown."""
    lines = [
        "# Who may do what",
        "",
        "`tools/permissions.py` derives these tables from the code, and `tests/stories/test_permissions.py` tries",
        "every row over gRPC and REST. ✓ means allowed; anything else is the reason of the refusal.",
        "",
        "## Acts",
        "",
        "The *requester* requested the access, and the *holder* would have it. The *approver* decides the current",
        "step, the *later approver* the next one, and the *delegate* acts in the approver's place. The others have a",
        "role of the API, or none. The grant's policy allows extensions, break-glass and child grants. There are",
        "proposals only with `JIT_POLICIES_DUAL_CONTROL` on.",
        "",
        f"| to | {' | '.join(PEOPLE)} |",
        f"| --- |{' --- |' * len(PEOPLE)}",
    ]
    for operation, answers in cells():
        shown = " | ".join(f"`{answer}`" if answer else "✓" for answer in answers.values())
        lines.append(f"| {operation.label} | {shown} |")
    lines += [
        "",
        "## Calls",
        "",
        "Who may call a method at all, and whether a refusal is recorded.",
        "",
        "| method | who | refusal on record |",
        "| --- | --- | --- |",
    ]
    for method, rule in RULES.items():
        anyone = "anybody, without a token" if rule.public or rule.anonymous else "whoever has a token"
        if rule.proxy:
            anyone = "a trusted proxy, for its client"
        who = rule.needed_roles() or anyone
        lines.append(f"| `{method.removeprefix('/')}` | {who} | {'yes' if rule.recorded else 'no'} |")
    return "\n".join([*lines, ""])


def _people() -> dict[str, Caller]:
    given, _ = delegation.create(_DELEGATION, delegation_name="delegations/d", by=PEOPLE["approver"], now=NOW)
    return PEOPLE | {"delegate": PEOPLE["delegate"]._replace(delegated=(given.right,))}


def _answer(operation: Operation, person: Caller) -> str:
    method = SERVICE + operation.rpc
    caller = person._replace(origin=Origin(method=method))
    try:
        demand(RULES[method], caller, operation.request)
        if operation.rule is not None:
            operation.rule(caller)
    except JitError as refusal:
        return refusal.reason
    return ""


def _requested(**changes: object) -> Grant:
    asked = Ask(**({"subject": "service:bot", "resources": (RESOURCE,), "actions": ("read",)} | changes))  # type: ignore[arg-type]
    by = PEOPLE["requester"]
    judged = request.judge_request(asked, policies=[POLICY], by=by, grant_name="grants/g", now=NOW)
    return approval.open_request(judged, by=by, now=NOW)[0]


def _active() -> Grant:
    grant = _requested()
    for who in ("approver", "later approver"):
        grant, _ = approval.approve(grant, policy=POLICY, by=PEOPLE[who], comment="", now=NOW)
    return grant


def _offered() -> Grant:
    return approval.counter(_requested(), LESS, policy=POLICY, by=PEOPLE["approver"], comment="", now=NOW)[0]


def _more_time(grant: Grant, by: Caller) -> Grant:
    asked = more_time.with_extension(grant, MoreTime(duration=HOUR, justification=_WHY), policy=POLICY, by=by, now=NOW)
    judged = request.judge_extension(asked, policy=POLICY, policies=[POLICY], now=NOW)
    return approval.open_extension(judged, policy=POLICY, by=by, now=NOW)[0]


def _emergency() -> Grant:
    return _requested(subject="user:alice", break_glass=True, justification=_WHY)


def _of(grant: Grant, rule: Callable[[Grant, Caller], object]) -> Callable[[Caller], object]:
    """Returns the rule on the grant; a caller that may not see the grant is refused first."""

    def judged(by: Caller) -> None:
        _demand_sight(approval.is_visible(grant, POLICY, by))
        rule(grant, by)

    return judged


def _demand_sight(sees: bool) -> None:
    if not sees:
        raise NotVisible("the caller may not see it")


def _pass_on(grant: Grant, by: Caller) -> object:
    child = Ask(subject=JOB, resources=(RESOURCE,), actions=("read",), parent=grant.name)
    return children.judge_child(child, grant, policies=[POLICY], by=by, grant_name="grants/c", now=NOW)


def _ask_for_oneself(by: Caller) -> object:
    asked = Ask(subject=by.principal, resources=(RESOURCE,), actions=("read",))
    return request.judge_request(asked, policies=[POLICY], by=by, grant_name="grants/g", now=NOW)


def _given() -> Delegation:
    return delegation.create(_DELEGATION, delegation_name="delegations/d", by=PEOPLE["approver"], now=NOW)[0]


def _of_delegation(rule: Callable[[Delegation, Caller], object]) -> Callable[[Caller], object]:
    def judged(by: Caller) -> None:
        _demand_sight(_given().is_visible_to(by))
        rule(_given(), by)

    return judged


def _proposal(proposer: str) -> Proposal:
    change = PolicyChange(name=POLICY.name, type=ChangeType.CREATED, before=None, after=POLICY)
    by = Caller(principal=f"user:{proposer}")
    return proposal.propose((change,), comment="", proposal_name="policyProposals/p", by=by, now=NOW)[0]


def _of_proposal(proposer: str) -> Callable[[Caller], object]:
    return lambda by: proposal.approve(_proposal(proposer), current={}, by=by, comment="", now=NOW)


OPERATIONS: Final = (
    Operation("ask under the policy, for oneself", "GrantService/RequestGrant", _ask_for_oneself),
    Operation("read the policy", "PolicyService/GetPolicy", lambda by: _demand_sight(policies.may_read(POLICY, by))),
    Operation("read the grant", "GrantService/GetGrant", _of(_requested(), lambda _, by: by)),
    Operation(
        "approve the request",
        "GrantService/ApproveGrant",
        _of(_requested(), lambda grant, by: approval.approve(grant, policy=POLICY, by=by, comment="", now=NOW)),
    ),
    Operation(
        "deny the request",
        "GrantService/DenyGrant",
        _of(_requested(), lambda grant, by: approval.deny(grant, policy=POLICY, by=by, comment="", now=NOW)),
    ),
    Operation(
        "offer other terms",
        "GrantService/CounterGrant",
        _of(_requested(), lambda grant, by: approval.counter(grant, LESS, policy=POLICY, by=by, comment="", now=NOW)),
    ),
    Operation(
        "accept an offer",
        "GrantService/AcceptCounterOffer",
        _of(_offered(), lambda grant, by: approval.with_offered_terms(grant, by=by, now=NOW)),
    ),
    Operation(
        "decline an offer",
        "GrantService/DeclineCounterOffer",
        _of(_offered(), lambda grant, by: approval.decline(grant, by=by, comment="", now=NOW)),
    ),
    Operation(
        "withdraw the request",
        "GrantService/WithdrawGrant",
        _of(_requested(), lambda grant, by: approval.withdraw(grant, by=by, comment="", now=NOW)),
    ),
    Operation(
        "release the access",
        "GrantService/ReleaseGrant",
        _of(_active(), lambda grant, by: rules.release(grant, by=by, comment="", now=NOW)),
    ),
    Operation(
        "revoke the access",
        "GrantService/RevokeGrant",
        _of(_active(), lambda grant, by: approval.revoke(grant, policy=POLICY, by=by, comment="over", now=NOW)),
    ),
    Operation("ask for more time", "GrantService/ExtendGrant", _of(_active(), _more_time)),
    Operation(
        "approve more time",
        "GrantService/ApproveGrant",
        _of(
            _more_time(_active(), PEOPLE["requester"]),
            lambda grant, by: approval.approve(grant, policy=POLICY, by=by, comment="", now=NOW),
        ),
    ),
    Operation("pass the access on to a job", "GrantService/RequestGrant", _of(_active(), _pass_on)),
    Operation(
        "review the requester's break-glass",
        "GrantService/CompleteReview",
        _of(
            _emergency(),
            lambda grant, by: break_glass.complete_review(grant, policy=POLICY, by=by, comment="fine", now=NOW),
        ),
    ),
    Operation(
        "check the holder's access",
        "AccessService/CheckAccess",
        lambda by: questions.question(by, subject="service:bot", action="read", resource=RESOURCE),
    ),
    Operation(
        "search for who has the access",
        "AccessService/SearchAccess",
        lambda by: search.search_query(by, subject="", action="read", resource=RESOURCE),
    ),
    Operation(
        "ask what the holder could do in the past",
        "AccessService/CheckAccess",
        lambda by: questions.past_question(by, subject="service:bot", action="read", resource=RESOURCE),
    ),
    Operation(
        "search for who had the access in the past",
        "AccessService/SearchAccess",
        lambda by: search.search_query(by, subject="", action="read", resource=RESOURCE, read_at=NOW),
    ),
    Operation("feed a replica that checks", "GrantService/WatchGrants", replica.demand_checker),
    Operation(
        "issue a token of the grant",
        "TokenService/IssueToken",
        _of(_active(), lambda grant, by: token.demand_holder(grant, by)),
    ),
    Operation(
        "revoke the holder's token",
        "TokenService/RevokeToken",
        lambda by: token.demand_may_revoke("t", subject="service:bot", by=by),
    ),
    Operation("revoke widely", "GrantService/RevokeGrants"),
    Operation("change policies", "PolicyService/ApplyPolicies"),
    Operation(
        "see what a change of policies would do",
        "PolicyService/ApplyPolicies",
        request=ApplyPoliciesRequest(validate_only=True),
    ),
    Operation("read the proposals of policies", "PolicyService/ListPolicyProposals"),
    Operation("approve the admin's proposal", "PolicyService/ApprovePolicyProposal", _of_proposal("admin")),
    Operation("approve another admin's proposal", "PolicyService/ApprovePolicyProposal", _of_proposal("second")),
    Operation(
        "reject the admin's proposal",
        "PolicyService/RejectPolicyProposal",
        lambda by: proposal.reject(_proposal("admin"), by=by, comment="", now=NOW),
    ),
    Operation("test policies", "PolicyService/TestPolicy"),
    Operation("simulate policies", "PolicyService/SimulatePolicies"),
    Operation("follow the simulation of policies", "PolicyService/StreamPolicySimulation"),
    Operation("set a signal", "SignalService/SetSignal"),
    Operation("read the signals", "SignalService/ListSignals"),
    Operation("delegate one's own right to review", "DelegationService/CreateDelegation"),
    Operation("read the approver's delegation", "DelegationService/GetDelegation", _of_delegation(lambda _, by: by)),
    Operation(
        "end the approver's delegation",
        "DelegationService/DeleteDelegation",
        _of_delegation(lambda given, by: delegation.delete(given, by=by, now=NOW)),
    ),
    Operation("lock somebody", "LockService/CreateLock"),
    Operation("read the locks", "LockService/ListLocks"),
    Operation("lift a lock", "LockService/DeleteLock"),
    Operation("read the audit log", "AuditService/ListAuditEvents"),
    Operation("tail the audit log", "AuditService/TailAuditEvents"),
    Operation("export the audit log", "AuditService/ExportAuditEvents"),
    Operation("verify the audit log", "AuditService/VerifyAuditLog"),
    Operation("follow the verification of the audit log", "AuditService/StreamAuditVerification"),
    Operation("take a checkpoint of the audit log", "AuditService/GetAuditCheckpoint"),
)
