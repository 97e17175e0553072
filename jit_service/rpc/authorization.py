"""Which caller may call which RPC, in one table of all RPCs. Nobody may call an RPC that is not in it.

The use cases decide what a caller may see and do within a call. Policies decide who may review.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import RoleRequired


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Who may call one RPC, and how its calls are treated.

    A `public` RPC is served without any check. An `anonymous` one needs no token, but is checked in every other way. A
    `proxy` one is for trusted proxies, which ask for their clients and send the client's token within the message.

    The caller needs one of the `roles`; with None, every authenticated caller may call it. For a dry run, which is a
    request with `validate_only`, one of the `dry_run_roles` is enough too. A refusal of a `recorded`
    RPC leaves an audit record (writes and checks), but for a dry run of one that is `tried_unrecorded`. One that
    `writes` waits for the store's one lock of writers.
    """

    public: bool = False
    anonymous: bool = False
    proxy: bool = False
    roles: frozenset[Role] | None = None
    dry_run_roles: frozenset[Role] = frozenset()
    recorded: bool = False
    tried_unrecorded: bool = False
    writes: bool = False

    def records(self, request: object) -> bool:
        """Returns whether a refusal of the request leaves an audit record."""
        return self.recorded and not (self.tried_unrecorded and _is_dry_run(request))

    def needed_roles(self) -> str:
        """Returns the roles in Markdown, for the documents; empty where none is needed."""
        needed = " or ".join(f"`{role}`" for role in sorted(self.roles or ()))
        enough = " or ".join(f"`{role}`" for role in sorted(self.dry_run_roles))
        return f"{needed}, or {enough} with validate_only" if enough else needed


_PUBLIC = Rule(public=True)
_ANONYMOUS = Rule(anonymous=True)
_PROXY = Rule(proxy=True, recorded=True)
# The request was recorded when it was admitted.
_PROXY_STREAM = Rule(proxy=True)
_READ = Rule()
_CHECK = Rule(recorded=True)
_WRITE = Rule(recorded=True, writes=True)
# A console tries a decision whenever its user looks at a request: nobody has decided anything by that.
_DECIDE = replace(_WRITE, tried_unrecorded=True)
_READ_AUDIT = Rule(roles=frozenset({Role.AUDITOR, Role.ADMIN}))
_WRITE_ADMIN = Rule(roles=frozenset({Role.ADMIN}), recorded=True, writes=True)
_APPLY = replace(_WRITE_ADMIN, dry_run_roles=frozenset({Role.AUDITOR}))
_RESPOND = Rule(roles=frozenset({Role.RESPONDER, Role.ADMIN}), recorded=True, writes=True)
_READ_LOCKS = Rule(roles=frozenset({Role.RESPONDER, Role.AUDITOR, Role.ADMIN}))

RULES: dict[str, Rule] = {
    "/jitaccess.v1.GrantService/RequestGrant": _WRITE,
    "/jitaccess.v1.GrantService/EnsureGrant": _WRITE,
    "/jitaccess.v1.GrantService/GetGrant": _READ,
    "/jitaccess.v1.GrantService/ListGrants": _READ,
    "/jitaccess.v1.GrantService/ApproveGrant": _DECIDE,
    "/jitaccess.v1.GrantService/DenyGrant": _DECIDE,
    "/jitaccess.v1.GrantService/WithdrawGrant": _WRITE,
    "/jitaccess.v1.GrantService/RevokeGrant": _WRITE,
    "/jitaccess.v1.GrantService/RevokeGrants": _RESPOND,
    "/jitaccess.v1.GrantService/ReleaseGrant": _WRITE,
    "/jitaccess.v1.GrantService/CounterGrant": _DECIDE,
    "/jitaccess.v1.GrantService/AcceptCounterOffer": _WRITE,
    "/jitaccess.v1.GrantService/DeclineCounterOffer": _WRITE,
    "/jitaccess.v1.GrantService/ExtendGrant": _DECIDE,
    "/jitaccess.v1.GrantService/CompleteReview": _WRITE,
    "/jitaccess.v1.GrantService/WatchGrants": _READ,
    "/jitaccess.v1.AccessService/CheckAccess": _CHECK,
    "/jitaccess.v1.AccessService/BatchCheckAccess": _CHECK,
    "/jitaccess.v1.AccessService/SearchAccess": _CHECK,
    "/jitaccess.v1.AccessService/WhoAmI": _READ,
    "/jitaccess.v1.PolicyService/CreatePolicy": _WRITE_ADMIN,
    "/jitaccess.v1.PolicyService/GetPolicy": _READ,
    "/jitaccess.v1.PolicyService/ListPolicies": _READ,
    "/jitaccess.v1.PolicyService/UpdatePolicy": _WRITE_ADMIN,
    "/jitaccess.v1.PolicyService/DeletePolicy": _WRITE_ADMIN,
    "/jitaccess.v1.PolicyService/ApplyPolicies": _APPLY,
    "/jitaccess.v1.PolicyService/TestPolicy": _READ_AUDIT,
    "/jitaccess.v1.PolicyService/SimulatePolicies": _READ_AUDIT,
    "/jitaccess.v1.PolicyService/StreamPolicySimulation": _READ_AUDIT,
    "/jitaccess.v1.PolicyService/GetPolicyProposal": _READ_AUDIT,
    "/jitaccess.v1.PolicyService/ListPolicyProposals": _READ_AUDIT,
    "/jitaccess.v1.PolicyService/ApprovePolicyProposal": _WRITE_ADMIN,
    "/jitaccess.v1.PolicyService/RejectPolicyProposal": _WRITE_ADMIN,
    "/jitaccess.v1.DelegationService/CreateDelegation": _WRITE,
    "/jitaccess.v1.DelegationService/GetDelegation": _READ,
    "/jitaccess.v1.DelegationService/ListDelegations": _READ,
    "/jitaccess.v1.DelegationService/DeleteDelegation": _WRITE,
    "/jitaccess.v1.LockService/CreateLock": _RESPOND,
    "/jitaccess.v1.LockService/GetLock": _READ_LOCKS,
    "/jitaccess.v1.LockService/ListLocks": _READ_LOCKS,
    "/jitaccess.v1.LockService/DeleteLock": _RESPOND,
    "/jitaccess.v1.SignalService/SetSignal": _WRITE_ADMIN,
    "/jitaccess.v1.SignalService/GetSignal": _READ_AUDIT,
    "/jitaccess.v1.SignalService/ListSignals": _READ_AUDIT,
    "/jitaccess.v1.SignalService/DeleteSignal": _WRITE_ADMIN,
    "/jitaccess.v1.TokenService/IssueToken": _WRITE,
    # A program that verifies tokens has no token for this service; keys and addresses are no secret.
    "/jitaccess.v1.TokenService/GetKeySet": _ANONYMOUS,
    "/jitaccess.v1.TokenService/GetAuthorizationServerMetadata": _ANONYMOUS,
    # It says where a caller without a token gets one.
    "/jitaccess.v1.TokenService/GetProtectedResourceMetadata": _ANONYMOUS,
    "/jitaccess.v1.TokenService/IntrospectToken": _READ,
    "/jitaccess.v1.TokenService/RevokeToken": _WRITE,
    "/authzen.v1.AuthorizationService/Evaluate": _CHECK,
    "/authzen.v1.AuthorizationService/EvaluateAll": _CHECK,
    "/authzen.v1.AuthorizationService/SearchSubject": _CHECK,
    "/authzen.v1.AuthorizationService/SearchResource": _CHECK,
    "/authzen.v1.AuthorizationService/SearchAction": _CHECK,
    "/authzen.v1.AuthorizationService/GetConfiguration": _ANONYMOUS,
    "/authzen.v1.AccessRequestService/CreateAccessRequest": _WRITE,
    "/authzen.v1.AccessRequestService/GetAccessRequest": _READ,
    "/authzen.v1.AccessRequestService/CancelAccessRequest": _WRITE,
    "/jitaccess.v1.AuditService/ListAuditEvents": _READ_AUDIT,
    "/jitaccess.v1.AuditService/TailAuditEvents": _READ_AUDIT,
    "/jitaccess.v1.AuditService/ExportAuditEvents": _READ_AUDIT,
    "/jitaccess.v1.AuditService/VerifyAuditLog": _READ_AUDIT,
    "/jitaccess.v1.AuditService/StreamAuditVerification": _READ_AUDIT,
    "/jitaccess.v1.AuditService/GetAuditCheckpoint": _READ_AUDIT,
    "/envoy.service.auth.v3.Authorization/Check": _PROXY,
    "/envoy.service.ext_proc.v3.ExternalProcessor/Process": _PROXY_STREAM,
    # The published contract.
    "/jitaccess.v1.DocsService/GetOpenApi": _ANONYMOUS,
    "/jitaccess.v1.DocsService/GetDocsPage": _ANONYMOUS,
    "/jitaccess.v1.DocsService/GetDocsAsset": _ANONYMOUS,
    # A page and its files; what it shows, it asks with its user's token.
    "/jitaccess.v1.ConsoleService/GetConsolePage": _ANONYMOUS,
    "/jitaccess.v1.ConsoleService/GetConsoleAsset": _ANONYMOUS,
    # Envoy asks, for whoever sent what no method could take; the answer is made of the published contract.
    "/jitaccess.edge/ExplainRequest": _PUBLIC,
    # They show only whether the service answers, and its published contract.
    "/grpc.health.v1.Health/Check": _PUBLIC,
    "/grpc.health.v1.Health/Watch": _PUBLIC,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _PUBLIC,
}


def demand(rule: Rule | None, caller: Caller, request: object = None) -> None:
    """Raises RoleRequired unless the rule lets the caller call the method at all, with that request.

    What cannot be read as the method's message is no dry run.
    """
    method = caller.origin.method
    if rule is None:
        raise RoleRequired(f"{method} is not in the authorisation table, so nobody may call it")
    if rule.roles is None:
        return
    roles = rule.roles
    if rule.dry_run_roles and _is_dry_run(request):
        roles |= rule.dry_run_roles
    if not caller.has(*roles):
        needed = " or ".join(sorted(roles))
        raise RoleRequired(f"{method} needs the role {needed}, which {caller.principal} does not have", needed=needed)


def _is_dry_run(request: object) -> bool:
    return getattr(request, "validate_only", False) is True
