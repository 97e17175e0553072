"""The in-memory service: a test sets the facts of grants, and `jitaccess.replica.decision` decides."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from jitaccess._error import invalid_field
from jitaccess.contract.model import CheckReason, GrantState
from jitaccess.errors import InvalidArgument, Misconfigured, NotFound, Unavailable
from jitaccess.naming import names
from jitaccess.naming.names import canonical
from jitaccess.naming.pattern import Patterns
from jitaccess.replica.decision import (
    Denies,
    Deny,
    HeldGrant,
    Judgement,
    Lock,
    Locks,
    is_live,
    judge,
)
from jitaccess.testing.arguments import (
    action_patterns,
    ascii_name,
    deciders,
    demand_address,
    demand_now,
    group_names,
    policy_name,
    principal_name,
    resource_patterns,
)
from jitaccess.testing.facts import Clock, MemoryGrant, covers, explanation, held_grant, microseconds, over_at
from jitaccess.v1 import access_pb2

if TYPE_CHECKING:
    from jitaccess.testing.client import AsyncMemoryClient, MemoryClient
    from jitaccess.testing.issuer import MemoryIssuer

MAX_ITEMS = 1000
_NOTHING_TO_ASK_FOR = (CheckReason.ALLOWED, CheckReason.DENIED_BY_POLICY, CheckReason.LOCKED)
_OVER = {
    GrantState.EXPIRED: CheckReason.EXPIRED,
    GrantState.REVOKED: CheckReason.REVOKED,
    GrantState.RELEASED: CheckReason.RELEASED,
}


@dataclass(frozen=True)
class _Policy:
    """A policy under which access can be requested."""

    name: str
    principals: frozenset[str]
    has_groups: bool
    resources: Patterns
    actions: Patterns


class MemoryService:
    """Holds grants and policies, and answers checks. Thread-safe.

    While `is_away`, each check raises Unavailable. `clock` returns aware instants; time never goes back.
    """

    def __init__(self, clock: Callable[[], datetime] | None = None) -> None:
        self._clock = clock or Clock()
        self._lock = threading.RLock()
        self._grants: dict[str, MemoryGrant] = {}
        self._denies: dict[str, Deny] = {}
        self._locks: dict[str, Lock] = {}
        self._policies: dict[str, _Policy] = {}
        self._revision = 0
        self._latest = self._clock()
        self.is_away = False

    # What a test sets

    def grant(
        self,
        subject: str,
        resources: str | Iterable[str],
        actions: str | Iterable[str],
        *,
        duration: timedelta = timedelta(hours=1),
        start_time: datetime | None = None,
        groups: Iterable[str] | None = (),
    ) -> MemoryGrant:
        """Gives access, from now or `start_time` on, and returns the grant.

        `resources` and `actions` are patterns. `groups` are those that the subject proved when it asked; None where
        somebody else asked for it. Raises InvalidArgument for what the service would refuse.
        """
        return self.approve(self.request(subject, resources, actions, duration=duration, groups=groups), start_time)

    def request(
        self,
        subject: str,
        resources: str | Iterable[str],
        actions: str | Iterable[str],
        *,
        duration: timedelta = timedelta(hours=1),
        request_ttl: timedelta = timedelta(hours=8),
        groups: Iterable[str] | None = (),
    ) -> MemoryGrant:
        """Asks for access, and returns the grant, which waits for its approval."""
        if duration <= timedelta():
            raise invalid_field("duration", "must be above 0")
        grant = MemoryGrant(
            name=f"grants/{uuid.uuid4().hex}",
            subject=principal_name(subject),
            resources=resource_patterns(resources),
            actions=action_patterns(actions),
            duration=duration,
            request_expire_time=self.now() + request_ttl,
            groups=None if groups is None else group_names(groups),
        )
        return self._save(grant)

    def approve(self, grant: MemoryGrant | str, start_time: datetime | None = None) -> MemoryGrant:
        """Approves a pending request; access begins now, or at a later `start_time`."""
        with self._lock:
            held = self._demand(grant, GrantState.PENDING)
            return self._save(replace(held, start_time=max(self.now(), start_time or self.now())))

    def deny_request(self, grant: MemoryGrant | str) -> MemoryGrant:
        """Denies a pending request."""
        return self._end(grant, GrantState.DENIED, GrantState.PENDING)

    def revoke(self, grant: MemoryGrant | str) -> MemoryGrant:
        """Ends access at once, as somebody else than its holder."""
        return self._end(grant, GrantState.REVOKED, GrantState.SCHEDULED, GrantState.ACTIVE)

    def release(self, grant: MemoryGrant | str) -> MemoryGrant:
        """Ends access at once, as its holder."""
        return self._end(grant, GrantState.RELEASED, GrantState.SCHEDULED, GrantState.ACTIVE)

    def deny(
        self,
        policy: str,
        resources: str | Iterable[str],
        actions: str | Iterable[str],
        *,
        principals: Iterable[str] = (),
        groups: Iterable[str] = (),
    ) -> None:
        """Puts a deny policy in force: it beats every grant of those it names, and ends those that have not begun.

        `policy` is its name; whom it denies, `principals` and `groups` say. Raises InvalidArgument for a name that the
        service would refuse, and where nobody is denied.
        """
        people, teams = deciders(principals, groups)
        denied = Deny(
            name=policy_name(policy),
            principals=frozenset(map(canonical, people)),
            groups=teams,
            resources=Patterns(resource_patterns(resources), "/"),
            actions=Patterns(action_patterns(actions), "."),
        )
        with self._lock:
            self._revision += 1
            self._denies[denied.name] = denied
            self._end_misfits()

    def requestable(
        self,
        policy: str,
        resources: str | Iterable[str],
        actions: str | Iterable[str],
        *,
        principals: Iterable[str] = (),
        groups: Iterable[str] = (),
    ) -> None:
        """Puts a policy in force under which those may request access; a no then names it.

        Raises InvalidArgument as `deny` does.
        """
        people, teams = deciders(principals, groups)
        allowing = _Policy(
            policy_name(policy),
            people,
            bool(teams),
            Patterns(resource_patterns(resources), "/"),
            Patterns(action_patterns(actions), "."),
        )
        with self._lock:
            self._revision += 1
            self._policies[allowing.name] = allowing

    def remove(self, policy: str) -> None:
        """Takes a policy, of either kind, out of force. Grants stay."""
        with self._lock:
            self._revision += 1
            self._policies.pop(policy_name(policy), None)
            if self._denies.pop(policy_name(policy), None) is not None:
                self._end_misfits()

    def lock(self, principal: str = "", *, group: str = "", duration: timedelta | None = None) -> str:
        """Locks a principal or a group, for so long or until it is unlocked. Returns the lock's name."""
        if bool(principal) == bool(group):
            raise invalid_field("lock", "must have exactly one of principal and group")
        until = None if duration is None else microseconds(self.now() + duration)
        lock = Lock(
            name=f"locks/{uuid.uuid4().hex}",
            principal=principal_name(principal, "principal") if principal else "",
            group=ascii_name(names.group, group, "group") if group else "",
            until=until,
        )
        with self._lock:
            self._revision += 1
            self._locks[lock.name] = lock
        return lock.name

    def unlock(self, lock: str) -> None:
        """Lifts the lock of that name."""
        with self._lock:
            self._revision += 1
            self._locks.pop(lock, None)

    # What the program under test is given

    @cached_property
    def client(self) -> MemoryClient:
        """A JitClient of somebody with the role `checker`: `check` and `check_many`; the rest raises Misconfigured."""
        from jitaccess.testing.client import MemoryClient

        return MemoryClient(self)

    @cached_property
    def async_client(self) -> AsyncMemoryClient:
        """The same as an AsyncJitClient."""
        from jitaccess.testing.client import AsyncMemoryClient

        return AsyncMemoryClient(self)

    @cached_property
    def tokens(self) -> MemoryIssuer:
        """Issues tokens of the grants, which `verify_token` takes (extra `tokens`)."""
        from jitaccess.testing.issuer import MemoryIssuer

        return MemoryIssuer(self)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serves over gRPC on a port of this machine, and yields the address for a JitClient; any token will do."""
        from jitaccess.testing.endpoint import serving

        with serving(self) as address:
            yield address

    # Answers

    def now(self) -> datetime:
        """Returns the instant of its answers."""
        with self._lock:
            self._latest = max(self._latest, self._clock())
            return self._latest

    def get(self, grant: MemoryGrant | str) -> MemoryGrant:
        """Returns the grant as it is. Raises NotFound."""
        name = grant if isinstance(grant, str) else grant.name
        with self._lock:
            if name not in self._grants:
                raise NotFound(f"there is no grant {name}", reason="NOT_FOUND")
            return self._grants[name]

    def is_live(self, *, subject: str, grant: str) -> bool:
        """Returns whether a token of the subject's grant counts, as `verify_token` wants it of a checker."""
        self._demand_there()
        with self._lock:
            found = self._grants.get(grant)
            at = microseconds(self.now())
            held = held_grant(found) if found is not None and found.end_state is None and found.start_time else None
            denies = Denies(self._denies.values())
            locks = Locks(self._locks.values())
            return is_live(held, subject, denies=denies, earliest=at, latest=at, locks=locks) is True

    def answer(self, rpc: str, request: Message) -> Message:
        """Answers a call as the service would. Raises the client's errors, Misconfigured for what is not offered."""
        self._demand_there()
        if isinstance(request, access_pb2.CheckAccessRequest):
            return self._check(request)
        if isinstance(request, access_pb2.BatchCheckAccessRequest):
            return self._check_many(request)
        raise Misconfigured(f"the in-memory service does not offer {rpc}", reason="NOT_OFFERED")

    def _check_many(self, request: access_pb2.BatchCheckAccessRequest) -> access_pb2.BatchCheckAccessResponse:
        from jitaccess.testing.endpoint import status_of

        if not 1 <= len(request.items) <= MAX_ITEMS:
            raise invalid_field("items", f"has {len(request.items)} items; 1 to {MAX_ITEMS} are allowed")
        results = []
        for item in request.items:
            try:
                results.append(self._check(item))
            except InvalidArgument as fault:
                results.append(access_pb2.CheckAccessResponse(message=fault.message, error=status_of(fault)))
        return access_pb2.BatchCheckAccessResponse(results=results)

    def _check(self, request: access_pb2.CheckAccessRequest) -> access_pb2.CheckAccessResponse:
        subject = principal_name(request.subject)
        demand_address(request)
        demand_now(request)
        action, resource = (
            ascii_name(names.action, request.action, "action"),
            ascii_name(names.resource, request.resource, "resource"),
        )
        with self._lock:
            if not 0 <= request.min_revision <= self._revision:
                fault = f"is {request.min_revision}; the store is at revision {self._revision}"
                raise invalid_field("min_revision", fault)
            now = self.now()
            reason, grant, by = self._decide(subject, action, resource, now)
            asked_under = () if reason in _NOTHING_TO_ASK_FOR else self._requestable(subject, action, resource)
            answer = access_pb2.CheckAccessResponse(
                allowed=reason is CheckReason.ALLOWED,
                reason=access_pb2.CheckAccessResponse.Reason.Value(reason),
                message=self._message(reason, grant, by, f"{subject} {action} on {resource}"),
                grant=grant.name if grant else "",
                revision=self._revision,
                decision_id=str(uuid.uuid4()),
                requestable_policies=asked_under,
            )
        answer.check_time.FromDatetime(now)
        if reason is CheckReason.ALLOWED and grant is not None and grant.expire_time is not None:
            answer.expire_time.FromDatetime(grant.expire_time)
        return answer

    def _decide(
        self, subject: str, action: str, resource: str, now: datetime
    ) -> tuple[CheckReason, MemoryGrant | None, str]:
        """Returns reason, the grant it rests on, and the policy or lock that forbids it."""
        covering = [grant for grant in self._grants.values() if covers(grant, subject, action, resource)]
        live = [grant for grant in covering if grant.state(now) in (GrantState.ACTIVE, GrantState.SCHEDULED)]
        found = self._judge(subject, action, resource, live, now)
        if found.grant is not None:
            return CheckReason(found.reason), self._grants[found.grant.name], found.by
        if found.reason is CheckReason.LOCKED:
            return found.reason, None, found.by
        pending = [grant for grant in covering if grant.state(now) is GrantState.PENDING]
        if pending:
            return CheckReason.PENDING, pending[0], ""
        over = [grant for grant in covering if grant.start_time is not None and grant.state(now) in _OVER]
        if not over:
            return CheckReason.NO_GRANT, None, ""
        latest = max(over, key=over_at)
        return _OVER[latest.state(now)], latest, ""

    def _judge(self, subject: str, action: str, resource: str, live: Iterable[MemoryGrant], now: datetime) -> Judgement:
        grants = {subject: [held_grant(grant) for grant in live]}
        denies, locks, at = Denies(self._denies.values()), Locks(self._locks.values()), microseconds(now)
        return judge(subject, action, resource, grants=grants, denies=denies, earliest=at, latest=at, locks=locks)

    def _message(self, reason: CheckReason, grant: MemoryGrant | None, by: str, asked: str) -> str:
        if reason is not CheckReason.LOCKED:
            return explanation(reason, grant, by, asked)
        subject, group = asked.partition(" ")[0], self._locks[by].group
        if not group:
            return f"{subject} is locked by {by}"
        unknown = grant is not None and grant.groups is None
        doubt = f": nobody proved which groups {subject} is in, so it may be in that one" if unknown else ""
        return f"{subject} is locked by {by}, which is on the group {group}{doubt}"

    def _requestable(self, subject: str, action: str, resource: str) -> tuple[str, ...]:
        for deny in self._denies.values():
            # Groups that nobody proved are nobody's here; asking decides.
            if canonical(subject) in deny.principals and deny.resources.match(resource) and deny.actions.match(action):
                return ()
        policies = sorted(self._policies.values(), key=lambda policy: policy.name)
        return tuple(
            policy.name
            for policy in policies
            if (policy.has_groups or subject in policy.principals)
            and policy.resources.match(resource)
            and policy.actions.match(action)
        )

    def _demand_there(self) -> None:
        if self.is_away:
            raise Unavailable("the in-memory service is away", reason="UNAVAILABLE")

    def _demand(self, grant: MemoryGrant | str, *states: GrantState) -> MemoryGrant:
        held = self.get(grant)
        if held.state(self.now()) not in states:
            raise Misconfigured(f"{held.name} is {held.state(self.now())}, not {' or '.join(states)}")
        return held

    def _end(self, grant: MemoryGrant | str, state: GrantState, *states: GrantState) -> MemoryGrant:
        with self._lock:
            return self._save(replace(self._demand(grant, *states), end_state=state, end_time=self.now()))

    def _end_misfits(self) -> None:
        """Ends what is scheduled and would be refused now, as each change of a deny policy does."""
        for grant in tuple(self._grants.values()):
            if grant.state(self.now()) is GrantState.SCHEDULED and self._refuses(held_grant(grant)):
                self.revoke(grant)

    def _refuses(self, grant: HeldGrant) -> bool:
        return any(deny.refuses(grant) for deny in self._denies.values())

    def _save(self, grant: MemoryGrant) -> MemoryGrant:
        with self._lock:
            self._revision += 1
            self._grants[grant.name] = grant
            return grant
