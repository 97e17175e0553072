"""The in-memory service: grants whose facts a test sets, judged as `jitaccess.replica.decision` judges."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from jitaccess._error import invalid_field, named
from jitaccess.contract.model import CheckReason, GrantState
from jitaccess.errors import InvalidArgument, Misconfigured, NotFound, Unavailable
from jitaccess.naming import names
from jitaccess.naming.names import canonical, folded
from jitaccess.naming.pattern import Patterns, action_covered, resource_covered
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
from jitaccess.v1 import access_pb2

if TYPE_CHECKING:
    from jitaccess.testing.client import AsyncMemoryClient, MemoryClient
    from jitaccess.testing.issuer import MemoryIssuer

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
MAX_ITEMS = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING_TO_ASK_FOR = (CheckReason.ALLOWED, CheckReason.DENIED_BY_POLICY, CheckReason.LOCKED)
_OVER = {
    GrantState.EXPIRED: CheckReason.EXPIRED,
    GrantState.REVOKED: CheckReason.REVOKED,
    GrantState.RELEASED: CheckReason.RELEASED,
}


class Clock:
    """Stands still until the test moves it."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, span: timedelta) -> None:
        """Lets time pass."""
        self.now += span


@dataclass(frozen=True, kw_only=True)
class MemoryGrant:
    """A grant's facts. `start_time` is None while nobody has approved it; `groups` None where nobody proved any."""

    name: str
    subject: str
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    duration: timedelta
    request_expire_time: datetime
    start_time: datetime | None = None
    end_time: datetime | None = None
    end_state: GrantState | None = None
    groups: frozenset[str] | None = frozenset()

    @property
    def expire_time(self) -> datetime | None:
        """When its time runs out."""
        return self.start_time + self.duration if self.start_time is not None else None

    def state(self, now: datetime) -> GrantState:
        """Returns the state at `now`."""
        if self.end_state is not None:
            return self.end_state
        if self.start_time is None or self.expire_time is None:
            return GrantState.PENDING if now < self.request_expire_time else GrantState.LAPSED
        if now < self.start_time:
            return GrantState.SCHEDULED
        return GrantState.ACTIVE if now < self.expire_time else GrantState.EXPIRED


@dataclass(frozen=True)
class _Policy:
    """A policy that may be asked under."""

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
            subject=_principal(subject),
            resources=_resources(resources),
            actions=_actions(actions),
            duration=duration,
            request_expire_time=self.now() + request_ttl,
            groups=None if groups is None else frozenset(groups),
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
        """Puts a deny policy in force: it beats every grant of whom it names, and ends those that have not begun."""
        with self._lock:
            self._revision += 1
            self._denies[_policy_name(policy)] = Deny(
                name=_policy_name(policy),
                principals=frozenset(map(canonical, principals)),
                groups=frozenset(groups),
                resources=Patterns(_resources(resources), "/"),
                actions=Patterns(_actions(actions), "."),
            )
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
        """Puts a policy in force that those may ask under; a no then names it."""
        with self._lock:
            self._revision += 1
            self._policies[_policy_name(policy)] = _Policy(
                _policy_name(policy),
                frozenset(map(folded, principals)),
                bool(tuple(groups)),
                Patterns(_resources(resources), "/"),
                Patterns(_actions(actions), "."),
            )

    def remove(self, policy: str) -> None:
        """Takes a policy, of either kind, out of force. Grants stay."""
        with self._lock:
            self._revision += 1
            self._policies.pop(_policy_name(policy), None)
            if self._denies.pop(_policy_name(policy), None) is not None:
                self._end_misfits()

    def lock(self, principal: str = "", *, group: str = "", duration: timedelta | None = None) -> str:
        """Locks a principal or a group, for so long or until it is unlocked. Returns the lock's name."""
        if bool(principal) == bool(group):
            raise invalid_field("lock", "must have exactly one of principal and group")
        until = None if duration is None else _micros(self.now() + duration)
        lock = Lock(
            name=f"locks/{uuid.uuid4().hex}",
            principal=_principal(principal) if principal else "",
            group=group,
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
        """Returns the instant by which it judges."""
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
        """Says whether a token of the subject's grant counts, as `verify_token` wants it of a checker."""
        self._demand_there()
        with self._lock:
            found = self._grants.get(grant)
            at = _micros(self.now())
            held = _held(found) if found is not None and found.end_state is None and found.start_time else None
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
        subject = _principal(request.subject)
        _demand_address(request)
        action, resource = (
            _ascii(names.action, request.action, "action"),
            _ascii(names.resource, request.resource, "resource"),
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
        covering = [grant for grant in self._grants.values() if _covers(grant, subject, action, resource)]
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
        latest = max(over, key=_over_at)
        return _OVER[latest.state(now)], latest, ""

    def _judge(self, subject: str, action: str, resource: str, live: Iterable[MemoryGrant], now: datetime) -> Judgement:
        grants = {subject: [_held(grant) for grant in live]}
        denies, locks, at = Denies(self._denies.values()), Locks(self._locks.values()), _micros(now)
        return judge(subject, action, resource, grants=grants, denies=denies, earliest=at, latest=at, locks=locks)

    def _message(self, reason: CheckReason, grant: MemoryGrant | None, by: str, asked: str) -> str:
        if reason is not CheckReason.LOCKED:
            return _message(reason, grant, by, asked)
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
            if grant.state(self.now()) is GrantState.SCHEDULED and self._refuses(_held(grant)):
                self.revoke(grant)

    def _refuses(self, grant: HeldGrant) -> bool:
        return any(deny.refuses(grant) for deny in self._denies.values())

    def _save(self, grant: MemoryGrant) -> MemoryGrant:
        with self._lock:
            self._revision += 1
            self._grants[grant.name] = grant
            return grant


def _covers(grant: MemoryGrant, subject: str, action: str, resource: str) -> bool:
    return (
        grant.subject == subject
        and action_covered(action, grant.actions)
        and resource_covered(resource, grant.resources)
    )


def _held(grant: MemoryGrant) -> HeldGrant:
    if grant.start_time is None or grant.expire_time is None:
        raise AssertionError("a live grant without its instants")
    return HeldGrant(
        name=grant.name,
        subject=grant.subject,
        resources=Patterns(grant.resources, "/"),
        actions=Patterns(grant.actions, "."),
        start=_micros(grant.start_time),
        expire=_micros(grant.expire_time),
        expire_time=grant.expire_time,
        groups=grant.groups,
        needs_check=False,
    )


def _over_at(grant: MemoryGrant) -> datetime:
    over_at = grant.end_time or grant.expire_time
    if over_at is None:
        raise AssertionError("an ended grant without its end")
    return over_at


def _message(reason: CheckReason, grant: MemoryGrant | None, by: str, asked: str) -> str:
    if grant is None:
        return f"no grant lets {asked}"
    match reason:
        case CheckReason.ALLOWED:
            return f"{grant.name} allows it until {_shown(grant.expire_time)}"
        case CheckReason.DENIED_BY_POLICY:
            return f"{by} denies {asked}"
        case CheckReason.NOT_YET_STARTED:
            return f"{grant.name} starts at {_shown(grant.start_time)}"
        case CheckReason.PENDING:
            return f"{grant.name} waits for approval until {_shown(grant.request_expire_time)}"
        case CheckReason.EXPIRED:
            return f"{grant.name} expired at {_shown(grant.expire_time)}"
        case _:
            return f"{grant.name} was {reason.lower()} at {_shown(grant.end_time)}"


def _shown(instant: datetime | None) -> str:
    return "" if instant is None else instant.isoformat(timespec="seconds").replace("+00:00", "Z")


def _micros(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(microseconds=1)


def _principal(text: str) -> str:
    return _ascii(names.principal, text, "subject")


def _demand_address(request: access_pb2.CheckAccessRequest) -> None:
    """Refuses what the service would as the subject's address; there are no conditions here to read it."""
    if "source_ip" not in request.context.fields:
        return
    text = request.context.fields["source_ip"].string_value
    try:
        if "%" in text:
            raise ValueError
        ip_address(text)
    except ValueError:
        raise invalid_field("context.source_ip", "must be an IP address, such as 192.0.2.7") from None


def _resources(given: str | Iterable[str]) -> tuple[str, ...]:
    return _patterns(given, names.resource_pattern, "resources")


def _actions(given: str | Iterable[str]) -> tuple[str, ...]:
    return _patterns(given, names.action_pattern, "actions")


def _patterns(given: str | Iterable[str], check: Callable[[str], str], field: str) -> tuple[str, ...]:
    patterns = (given,) if isinstance(given, str) else tuple(given)
    if not patterns:
        raise invalid_field(field, "must not be empty")
    return tuple(_ascii(check, one, field) for one in patterns)


def _policy_name(name: str) -> str:
    return name if name.startswith("policies/") else f"policies/{name}"


def _ascii(check: Callable[[str], str], text: str, field: str) -> str:
    """Returns the name. Raises InvalidArgument for none, Misconfigured for one that is not ASCII."""
    if not text.isascii():
        raise Misconfigured(f"{field}: the in-memory service takes ASCII names only", reason="NOT_OFFERED")
    return named(check, text, field)
