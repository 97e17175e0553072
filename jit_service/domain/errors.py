"""Every fact for which the service refuses, one class each.

JitError
├── Unauthenticated      TokenMissing, TokenInvalid, TokenExpired, CertificateInvalid, CertificateMismatch
├── NotPermitted         RoleRequired, NotVisible, NotYours, NotEligible, DeniedByPolicy,
│                        ConditionNotMet, ConditionError, NotApprover, SelfApproval,
│                        ReviewAssuranceRequired, ChildNotAllowed, ProxyRequired, TokenNotCovering, PassageOver, Locked
├── Invalid              InvalidField, MalformedMessage, Unsatisfiable, DenialNotBound, RecordsPruned
├── NotFound             GrantNotFound, PolicyNotFound, SignalNotFound, DelegationNotFound, ProposalNotFound,
│                        LockNotFound, NoPublicUrl, AssetNotFound
├── AlreadyExists        PolicyExists
├── Precondition         WrongState, AlreadyReviewed, PolicyNoLongerAllows, ExtensionCap, ReviewOverdue,
│                        TooManyUnreviewed, DualControlRequired, TokensOff, TokenNotPossible, DenialOver
├── Conflict             StaleEtag, StalePlan, LostRace, RequestIdReused
├── TooMany              TooManyActive, TooManyWatchers, TooManyCalls, TooManyPending, TooManyChildren,
│                        TooManyDelegations, RateExceeded
└── Unavailable          StoreUnavailable, KeysUnavailable, IssuerKeysUnavailable, ClockStepped, ServiceStopping,
                         RouteMisconfigured

A branch is a class of fact and decides the status (`rpc/errors.py` holds that table); a leaf is the fact, with a stable
`reason` for programs and a message that names the id, what is, and what was needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class JitError(Exception):
    """A refusal. `metadata` is what a program may want to know of it, as text; never a secret."""

    reason: ClassVar[str]

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata


class Unauthenticated(JitError):
    """The caller has not proved who it is."""


class TokenMissing(Unauthenticated):
    """No bearer token came with the call."""

    reason = "TOKEN_MISSING"


class TokenInvalid(Unauthenticated):
    """The token does not count: malformed, forged, or made for another purpose."""

    reason = "TOKEN_INVALID"


class TokenExpired(Unauthenticated):
    """The token was good, and its time is over."""

    reason = "TOKEN_EXPIRED"


class CertificateInvalid(Unauthenticated):
    """The client certificate does not count: its time is over, its authority is not trusted now, or it is ambiguous."""

    reason = "CERTIFICATE_INVALID"


class CertificateMismatch(Unauthenticated):
    """The token is another's than the client certificate of the connection, which names a principal too."""

    reason = "CERTIFICATE_MISMATCH"


class NotPermitted(JitError):
    """The caller is known and may not."""


class RoleRequired(NotPermitted):
    """The call needs an API role that the caller's token does not give."""

    reason = "ROLE_REQUIRED"


class NotVisible(NotPermitted):
    """The caller may not see the named thing, whether it exists or not."""

    reason = "NOT_VISIBLE"


class NotYours(NotPermitted):
    """Only the requester or holder of the grant may do this."""

    reason = "NOT_YOURS"


class NotEligible(NotPermitted):
    """No policy lets the subject ask for this."""

    reason = "NOT_ELIGIBLE"


class DeniedByPolicy(NotPermitted):
    """A deny policy forbids what is asked for."""

    reason = "DENIED_BY_POLICY"


class ConditionNotMet(NotPermitted):
    """The policy's condition does not hold for this request."""

    reason = "CONDITION_NOT_MET"


class ConditionError(NotPermitted):
    """The policy's condition could not be judged, so it counts as not met."""

    reason = "CONDITION_ERROR"


class NotApprover(NotPermitted):
    """The caller is not among the approvers of the step."""

    reason = "NOT_APPROVER"


class SelfApproval(NotPermitted):
    """Requester and subject do not review their own request."""

    reason = "SELF_APPROVAL"


class ReviewAssuranceRequired(NotPermitted):
    """The policy takes approvals only after a stronger or a newer log-in than the caller's token shows.

    `acr_values`, `amr_values` and `max_age` of the metadata say which; a client asks the provider for it (RFC 9470).
    """

    reason = "REVIEW_ASSURANCE_REQUIRED"


class ChildNotAllowed(NotPermitted):
    """The grant cannot be passed on to that subject, or not that deep."""

    reason = "CHILD_NOT_ALLOWED"


class ProxyRequired(NotPermitted):
    """Only a trusted proxy makes this call, on behalf of its clients."""

    reason = "PROXY_REQUIRED"


class TokenNotCovering(NotPermitted):
    """The grant's token is good, but not for this action on this resource."""

    reason = "TOKEN_NOT_COVERING"


class PassageOver(NotPermitted):
    """The grant by which a request passed a proxy does not let it pass any more, so it is ended."""

    reason = "PASSAGE_OVER"


class Locked(NotPermitted):
    """A lock stands on the caller, or on whom the call is for."""

    reason = "LOCKED"


class Invalid(JitError):
    """The call itself is wrong."""


class InvalidField(Invalid):
    """A field's value is malformed, out of range, or impossible. `field` is its path in the message.

    `more` are the faults of other fields that were found with it.
    """

    reason = "INVALID_FIELD"

    def __init__(self, field: str, fault: str, *, more: Sequence[InvalidField] = ()) -> None:
        others = f" (and {len(more)} more)" if more else ""
        super().__init__(f"{field}: {fault}{others}", field=field)
        self.field = field
        self.fault = fault
        self.more = tuple(more)

    @property
    def each(self) -> tuple[InvalidField, ...]:
        """This fault and those found with it, each alone."""
        return (InvalidField(self.field, self.fault), *self.more)

    def within(self, parent: str) -> InvalidField:
        """Returns the same faults with their paths under `parent`."""
        separator = "" if self.field.startswith("[") else "."
        more = [fault.within(parent) for fault in self.more]
        return InvalidField(f"{parent}{separator}{self.field}", self.fault, more=more)


class MalformedMessage(Invalid):
    """The request's bytes are not the message they should be."""

    reason = "MALFORMED_MESSAGE"


class Unsatisfiable(Invalid):
    """Nobody could ever approve the request: its policy names too few who may."""

    reason = "UNSATISFIABLE"


class DenialNotBound(Invalid):
    """What is asked for is not what was denied, or nothing proves that it was."""

    reason = "DENIAL_NOT_BOUND"


class RecordsPruned(Invalid):
    """What a field names lies before the first record that is still kept. What was before was pruned.

    `first` is that record, in the field's own kind: `first_seq`, `first_revision` or `first_time`.
    """

    reason = "RECORDS_PRUNED"

    def __init__(self, field: str, fault: str, **first: str) -> None:
        super().__init__(f"{field}: {fault}", field=field, **first)
        self.field = field
        self.fault = fault

    @property
    def each(self) -> tuple[RecordsPruned, ...]:
        """This fault alone, as of `InvalidField.each`."""
        return (self,)


class NotFound(JitError):
    """There is no such thing, and the caller may know that."""


class GrantNotFound(NotFound):
    """There is no such grant."""

    reason = "GRANT_NOT_FOUND"


class PolicyNotFound(NotFound):
    """There is no such policy, or not in that revision."""

    reason = "POLICY_NOT_FOUND"


class SignalNotFound(NotFound):
    """There is no such signal."""

    reason = "SIGNAL_NOT_FOUND"


class DelegationNotFound(NotFound):
    """There is no such delegation."""

    reason = "DELEGATION_NOT_FOUND"


class ProposalNotFound(NotFound):
    """There is no such proposal."""

    reason = "PROPOSAL_NOT_FOUND"


class LockNotFound(NotFound):
    """There is no such lock."""

    reason = "LOCK_NOT_FOUND"


class NoPublicUrl(NotFound):
    """The service does not know where it is seen from outside, so it can name no addresses."""

    reason = "NO_PUBLIC_URL"


class AssetNotFound(NotFound):
    """There is no such file of the page /docs."""

    reason = "ASSET_NOT_FOUND"


class AlreadyExists(JitError):
    """The name is taken."""


class PolicyExists(AlreadyExists):
    """There is a policy of that name already."""

    reason = "POLICY_EXISTS"


class Precondition(JitError):
    """The thing is not in the state that the call needs."""


class WrongState(Precondition):
    """The grant's state does not allow the transition."""

    reason = "WRONG_STATE"


class AlreadyReviewed(Precondition):
    """The caller has already decided on this grant; one principal counts once."""

    reason = "ALREADY_REVIEWED"


class PolicyNoLongerAllows(Precondition):
    """The policy's current revision would not give what the pending request asks for."""

    reason = "POLICY_NO_LONGER_ALLOWS"


class ExtensionCap(Precondition):
    """The policy does not let the grant be extended, or not that often or that long."""

    reason = "EXTENSION_CAP"


class ReviewOverdue(Precondition):
    """The subject owes the review of an earlier break-glass use, so it may not break the glass again."""

    reason = "REVIEW_OVERDUE"


class TooManyUnreviewed(Precondition):
    """As many break-glass uses of the subject wait for their review as the policy lets wait."""

    reason = "TOO_MANY_UNREVIEWED"


class DualControlRequired(Precondition):
    """Policies change only by a proposal that another admin approves; ApplyPolicies makes one."""

    reason = "DUAL_CONTROL_REQUIRED"


class TokensOff(Precondition):
    """The service issues no tokens, since no token_issuer is set."""

    reason = "TOKENS_OFF"


class TokenNotPossible(Precondition):
    """The grant's access depends on what only a check can tell, or it ends at once, so that no token can carry it."""

    reason = "TOKEN_NOT_POSSIBLE"


class DenialOver(Precondition):
    """The denial is too old to ask about; a new evaluation gives a new one."""

    reason = "DENIAL_OVER"


class Conflict(JitError):
    """Something else came first; read again and decide again."""


class StaleEtag(Conflict):
    """The thing has changed since the caller read it."""

    reason = "STALE_ETAG"


class StalePlan(Conflict):
    """What was planned or proposed for is no longer as it was then."""

    reason = "STALE_PLAN"


class LostRace(Conflict):
    """Another write to the same thing was committed first."""

    reason = "LOST_RACE"


class RequestIdReused(Conflict):
    """The request_id was used for another request, or by another principal."""

    reason = "REQUEST_ID_REUSED"


class TooMany(JitError):
    """There is a limit, and it is reached."""


class TooManyActive(TooMany):
    """The subject has as many grants under the policy as it may have at once."""

    reason = "TOO_MANY_ACTIVE"


class TooManyWatchers(TooMany):
    """As many streams as the service keeps are open."""

    reason = "TOO_MANY_WATCHERS"


class TooManyCalls(TooMany):
    """As many calls as the service lets wait are waiting; this one has not begun."""

    reason = "TOO_MANY_CALLS"


class TooManyPending(TooMany):
    """The requester has as many undecided requests as it may."""

    reason = "TOO_MANY_PENDING"


class TooManyChildren(TooMany):
    """As many live grants came from one grant as may."""

    reason = "TOO_MANY_CHILDREN"


class TooManyDelegations(TooMany):
    """The delegator has given, or the delegate has, as many delegations as it may."""

    reason = "TOO_MANY_DELEGATIONS"


class RateExceeded(TooMany):
    """The principal has made as many calls in the last second as it may; `retry_after` is in seconds."""

    reason = "RATE_EXCEEDED"

    def __init__(self, message: str, *, retry_after: float, **metadata: str) -> None:
        super().__init__(message, **metadata)
        self.retry_after = retry_after


class Unavailable(JitError):
    """The service cannot be sure, so it does not answer."""


class StoreUnavailable(Unavailable):
    """The store did not answer in time."""

    reason = "STORE_UNAVAILABLE"


class KeysUnavailable(Unavailable):
    """There is no key to sign or verify tokens by, or none that this host's key file opens."""

    reason = "KEYS_UNAVAILABLE"


class IssuerKeysUnavailable(Unavailable):
    """The keys of the token's issuer cannot be had now, so nobody can say whether the token is good."""

    reason = "ISSUER_KEYS_UNAVAILABLE"


class ClockStepped(Unavailable):
    """The host's clock was set by more than a minute while the service ran, so nobody can say what has expired."""

    reason = "CLOCK_STEPPED"


class ServiceStopping(Unavailable):
    """The service stops; a stream can be resumed, a call has not begun."""

    reason = "SERVICE_STOPPING"


class RouteMisconfigured(Unavailable):
    """The proxy's configuration of a protected route makes no sense, so nobody passes there."""

    reason = "ROUTE_MISCONFIGURED"


def reasons(kind: type[JitError] = JitError) -> frozenset[str]:
    """Returns the reason of every fact below the class."""
    below = kind.__subclasses__()
    return frozenset({kind.reason}) if not below else frozenset().union(*(reasons(child) for child in below))
