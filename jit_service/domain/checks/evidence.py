"""What a check is decided by: the grants of its subject, and the evidence beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from jit_service.domain.conditions.signal import NO_SIGNALS, Signals
from jit_service.domain.grants.grant import End, GrantState
from jit_service.domain.grants.lock import NO_LOCKS, Locks
from jit_service.domain.policies.policy import Policy


class Candidate(Protocol):
    """What a decision reads of a grant: a `Grant`, or a `CachedGrant` where it is not metered."""

    @property
    def name(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def policy(self) -> str: ...
    @property
    def policy_revision(self) -> int: ...
    @property
    def resources(self) -> tuple[str, ...]: ...
    @property
    def actions(self) -> tuple[str, ...]: ...
    @property
    def duration(self) -> timedelta: ...
    @property
    def starts_at(self) -> datetime | None: ...
    @property
    def expires_at(self) -> datetime | None: ...
    @property
    def request_expires_at(self) -> datetime | None: ...
    @property
    def subject_groups(self) -> frozenset[str] | None: ...
    @property
    def subject_claims(self) -> Mapping[str, Any] | None: ...
    @property
    def check_condition(self) -> str: ...
    @property
    def chain(self) -> tuple[str, ...]: ...
    @property
    def is_metered(self) -> bool: ...
    @property
    def is_used_up(self) -> bool: ...
    @property
    def use_count(self) -> int: ...
    @property
    def end(self) -> End | None: ...

    def state(self, now: datetime, /) -> GrantState:
        """Returns the state at `now`."""


Above_co = TypeVar("Above_co", covariant=True)


class Evidence(NamedTuple, Generic[Above_co]):
    """Everything but the subject's own grants that a decision rests on, all of one revision of the store.

    `policies` must have every deny policy in force, and may have others. `above` has, by name, every grant that one of
    the subject's grants was passed on from. `signals` are what conditions read, and `locks` those that stand at `now`.
    """

    policies: Sequence[Policy]
    now: datetime
    signals: Signals = NO_SIGNALS
    above: Mapping[str, Above_co] = MappingProxyType({})
    locks: Locks = NO_LOCKS
