"""The index of live grants by subject, with the policies, signals and locks of the same revision."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from operator import attrgetter
from typing import Final, NamedTuple

from jit_service.check.explanations import Explanations
from jit_service.check.holders import Holders
from jit_service.domain.checks.cached_grant import CachedGrant
from jit_service.domain.checks.decision import Question, covers
from jit_service.domain.checks.ended_grant import EndedGrant
from jit_service.domain.checks.evidence import Candidate, Evidence
from jit_service.domain.checks.policy_set import PolicySet
from jit_service.domain.conditions import signal
from jit_service.domain.conditions.signal import NO_SIGNALS, Signal, Signals
from jit_service.domain.grants.lock import NO_LOCKS, Locks
from jit_service.domain.policies.policy import Policy
from jit_service.storage.grant_loader import Delta, FullLoad

_NOTHING: Final[Mapping[str, CachedGrant]] = {}
_NO_GRANTS: Final[list[CachedGrant]] = []
_by_name: Final = attrgetter("name")
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class SubjectGrants:
    """The live grants of one subject, by name, prepared for questions."""

    __slots__ = ("__weakref__", "_by_resource", "_patterned", "grants")

    def __init__(self, grants: tuple[CachedGrant, ...] = ()) -> None:
        self.grants = grants
        # Prepared at the first question: most subjects are not asked about before the next change replaces this.
        self._by_resource: dict[str, list[CachedGrant]] | None = None
        self._patterned: list[CachedGrant] = []

    def covering(self, asked: Question) -> list[CachedGrant]:
        """Returns the grants that cover the question, sorted by name."""
        if self._by_resource is None:
            self._prepare()
        assert self._by_resource is not None  # noqa: S101 (for mypy)
        found = self._by_resource.get(asked.resource, _NO_GRANTS)
        if self._patterned:
            # A grant that names both the resource and a pattern is in both lists.
            others = [grant for grant in self._patterned if grant not in found]
            found = sorted([*found, *others], key=_by_name) if found else others
        return [grant for grant in found if covers(grant, asked)] if found else []

    def _prepare(self) -> None:
        by_resource: dict[str, list[CachedGrant]] = {}
        patterned: list[CachedGrant] = []
        for grant in self.grants:
            for resource in grant.resources:
                if "*" not in resource:
                    by_resource.setdefault(resource, []).append(grant)
                elif not patterned or patterned[-1] is not grant:
                    patterned.append(grant)
        self._patterned = patterned
        # Set last: another thread that sees it also sees `_patterned`.
        self._by_resource = by_resource


class View(NamedTuple):
    """The grants of some subjects at one revision, with all that a decision at `now` needs.

    `above` has the grants that theirs were passed on from, by name. `book` has the policies in force, `signals` the
    signals that conditions read, and `locks` the locks that stand. `staleness` is how old all this may be; None for a
    view that includes every commit.
    """

    revision: int
    now: datetime
    book: PolicySet
    signals: Signals
    held: Mapping[str, SubjectGrants]
    above: Mapping[str, CachedGrant]
    staleness: timedelta | None = None
    locks: Locks = NO_LOCKS

    @property
    def evidence(self) -> Evidence[Candidate]:
        """What a decision rests on besides the subject's grants. Made at each access: a cached decision needs none."""
        return Evidence(self.book.denying, self.now, self.signals, self.above, self.locks)

    def is_sufficient(self, grant: CachedGrant) -> bool:
        """Returns whether the view suffices to check the grant: neither it nor a grant above it counts its uses."""
        if grant.is_metered:
            return False
        return all((above := self.above.get(name)) is not None and not above.is_metered for name in grant.chain)


class Index:
    """Holds the live grants by subject. One thread applies changes; any thread may read a View.

    A View is of one revision, since changes and reads exclude each other. Its `now` is the clock's instant, but never
    earlier than that of a view before it (invariant I13).
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._by_subject: dict[str, SubjectGrants] = {}
        self._by_name: dict[str, CachedGrant] = {}
        # The grants that were passed on: few, even where grants are many.
        self._passed_on: dict[str, CachedGrant] = {}
        self._policies: dict[str, Policy] = {}
        self._book = PolicySet()
        # Shared by all subjects without grants.
        self._nobody = SubjectGrants()
        self._signals: tuple[Signal, ...] = ()
        self._locks = NO_LOCKS
        self._ended = Explanations()
        self._latest = _LONG_AGO
        self.revision = 0
        # Made at the first search for subjects: most services have none. What changes meanwhile is noted.
        self._holders: Holders | None = None
        self._making = threading.Lock()
        self._meanwhile: list[tuple[CachedGrant | None, CachedGrant | None]] | None = None

    def __len__(self) -> int:
        return len(self._by_name)

    def apply(self, delta: Delta) -> None:
        """Applies the changes of a range of revisions."""
        with self._lock:
            for changed in delta.grants:
                self._replace(changed.name, changed.subject, changed.live)
            if delta.forgot:
                self._ended.drop_all()
            if delta.grants or delta.ended or delta.forgot:
                # A cached no of a subject without grants must not stand: its reason may be another one now.
                self._nobody = SubjectGrants()
            if delta.policies:
                self._set_policies(delta.policies)
            if delta.signals is not None:
                self._signals = tuple(delta.signals)
            self._set_locks(delta.locks)
            self._ended.add_subjects(delta.ended)
            self.revision = delta.head.revision
            self._latest = max(self._latest, delta.head.time)

    def held(self, name: str) -> CachedGrant | None:
        """Returns the live grant of the name, if there is one."""
        return self._by_name.get(name)

    def clear(self) -> None:
        """Forgets everything but the time."""
        with self._lock:
            for part in (self._by_subject, self._by_name, self._passed_on, self._policies, self._ended):
                part.clear()
            self._book = PolicySet()
            self._nobody = SubjectGrants()
            self._holders = self._meanwhile = None
            self._signals = ()
            self._locks = NO_LOCKS
            self.revision = 0

    def fill(self, everything: FullLoad) -> None:
        """Fills an empty index with everything that was loaded, in one step."""
        gathered: defaultdict[str, list[CachedGrant]] = defaultdict(list)
        by_name: dict[str, CachedGrant] = {}
        for piece in everything.grants:
            for grant in piece:
                by_name[grant.name] = grant
                gathered[grant.subject].append(grant)
        by_subject: dict[str, SubjectGrants] = {}
        while gathered:
            # Sort once: one subject may have a million grants. Take the lists out one by one to free their memory.
            subject, held = gathered.popitem()
            by_subject[subject] = SubjectGrants(tuple(sorted(held, key=_by_name)))
        passed_on = {name: grant for name, grant in by_name.items() if grant.chain}
        with self._lock:
            if self.revision:
                raise AssertionError("only an empty index can be filled")
            self._by_subject, self._by_name, self._passed_on = by_subject, by_name, passed_on
            self._set_policies(everything.policies)
            self._signals = tuple(everything.signals)
            self._locks = everything.locks
            self._ended.add_subjects(everything.ended)
            self.revision = everything.head.revision
            self._latest = max(self._latest, everything.head.time)

    def advance(self, time: datetime) -> None:
        """Moves the time forward to the latest instant in the store."""
        with self._lock:
            self._latest = max(self._latest, time)

    def look(self, subjects: Iterable[str], staleness: timedelta | None = None) -> View:
        """Returns a view of the subjects."""
        with self._lock:
            nobody = self._nobody
            held = {subject: self._by_subject.get(subject, nobody) for subject in subjects}
            above = self._above(held.values()) if self._passed_on else _NOTHING
            now = self._latest = max(self._clock(), self._latest)
            return View(self.revision, now, self._book, self._seen(now), held, above, staleness, self._standing(now))

    def reaching(
        self, resource: str, wants: Callable[[str], bool], most: int
    ) -> tuple[View, list[tuple[CachedGrant, ...]]]:
        """Returns a View, and the grants of each of the first `most` subjects, by name, with one for the resource.

        Only subjects that `wants` accepts count. The first call goes through all grants, and checks go on meanwhile.
        """
        self._make_holders()
        with self._lock:
            now = self._latest = max(self._clock(), self._latest)
            above = self._above([SubjectGrants(tuple(self._passed_on.values()))])
            view = View(self.revision, now, self._book, self._seen(now), {}, above, None, self._standing(now))
            # Without holders everything was read anew just now.
            subjects: Iterable[str] = self._by_subject if self._holders is None else self._holders.of(resource)
            first = nsmallest(most, filter(wants, subjects))
            return view, [self._by_subject[subject].grants for subject in first]

    def _make_holders(self) -> None:
        with self._making:
            with self._lock:
                if self._holders is not None:
                    return
                everything = [held.grants for held in self._by_subject.values()]
                meanwhile = self._meanwhile = []
            holders = Holders()
            try:
                for grants in everything:
                    for grant in grants:
                        holders.add(grant)
            except BaseException:
                with self._lock:
                    # Nobody would ever take what changes from now on.
                    self._meanwhile = None
                raise
            with self._lock:
                if self._meanwhile is meanwhile:
                    for gone, come in meanwhile:
                        _exchange(holders, gone, come)
                    self._holders, self._meanwhile = holders, None

    def known_past(self, subject: str) -> Sequence[EndedGrant] | None:
        """Returns the subject's ended grants; None if they must be read from the store."""
        with self._lock:
            return self._ended.of(subject)

    def past(self, subject: str, read: Callable[[], Sequence[EndedGrant]]) -> Sequence[EndedGrant]:
        """Returns the subject's ended grants, from an earlier `read` if nothing has changed, else from a new one."""
        revision = self.revision
        if (known := self.known_past(subject)) is not None:
            return known
        found = tuple(read())
        with self._lock:
            # Do not keep what was read before a change that has been applied meanwhile.
            if self.revision == revision:
                self._ended.keep(subject, found)
        return found

    def _seen(self, now: datetime) -> Signals:
        return signal.at(self._signals, now) if self._signals else NO_SIGNALS

    def _standing(self, now: datetime) -> Locks:
        """Returns the locks that stand, as the same object while none of them changes."""
        if self._locks:
            self._locks = self._locks.at(now)
        return self._locks

    def _set_locks(self, locks: Locks) -> None:
        # Keep the object while the locks are equal: cached decisions compare it by identity, and few commits change it.
        locks = locks.at(self._latest)
        if locks != self._locks:
            self._locks = locks

    def _above(self, everything: Iterable[SubjectGrants]) -> Mapping[str, CachedGrant]:
        names = {name for held in everything for grant in held.grants for name in grant.chain}
        return {name: self._by_name[name] for name in names if name in self._by_name}

    def _replace(self, name: str, subject: str, live: CachedGrant | None) -> None:
        self._ended.drop(subject)
        others = self._by_subject.get(subject, self._nobody).grants
        gone = self._by_name.pop(name, None)
        if self._holders is not None:
            _exchange(self._holders, gone, live)
        elif self._meanwhile is not None:
            self._meanwhile.append((gone, live))
        if gone is not None:
            others = tuple(grant for grant in others if grant.name != name)
        self._passed_on.pop(name, None)
        if live is not None:
            self._by_name[name] = live
            if live.chain:
                self._passed_on[name] = live
            # Sorted by name, as the store lists them.
            others = (live,) if not others else tuple(sorted((*others, live), key=_by_name))
        if others:
            self._by_subject[subject] = SubjectGrants(others)
        else:
            self._by_subject.pop(subject, None)

    def _set_policies(self, changed: Iterable[Policy]) -> None:
        for policy in changed:
            if policy.deleted_at is None:
                self._policies[policy.name] = policy
            else:
                self._policies.pop(policy.name, None)
        self._book = PolicySet([policy for _, policy in sorted(self._policies.items())])


def _exchange(holders: Holders, gone: CachedGrant | None, come: CachedGrant | None) -> None:
    if gone is not None:
        holders.remove(gone)
    if come is not None:
        holders.add(come)
