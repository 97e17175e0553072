"""Makes what Check keeps of a grant from its row: up to a million rows at start, in as few steps as can be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from jit_service.domain.checks.cached_grant import CachedGrant
from jit_service.domain.grants.grant import Limits
from jit_service.storage import rows
from jit_service.storage.columns import EPOCH
from jit_service.storage.sealing import list_text, quoted_text

_NO_LIMITS: Final = Limits()
_MAX_INTERNED: Final = 100_000
# Columns that Check never reads of a grant are NULL: this loads up to a million rows.
COLUMNS: Final = """name, subject, policy, policy_revision, CAST(resources AS TEXT), CAST(actions AS TEXT), duration,
    starts_at, expires_at, CASE WHEN expires_at IS NULL THEN request_expires_at END,
    CASE WHEN requester = subject THEN CAST(requester_groups AS TEXT) END,
    CASE WHEN check_condition <> '' AND requester = subject THEN CAST(claims AS TEXT) END,
    check_condition, CAST(chain AS TEXT), CAST(limits AS TEXT), live_seal"""
"""The columns of a row that `GrantDecoder` takes, in SQL; the last is the seal."""


class GrantChanged(NamedTuple):
    """A grant after a change. `live` is None if it is over; then `was_access` tells whether it had been approved."""

    name: str
    subject: str
    live: CachedGrant | None
    was_access: bool = False


class _Interned(dict[Any, Any]):
    """Keeps one result for each value, until there are _MAX_INTERNED."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def __missing__(self, value: Any) -> Any:
        if len(self) >= _MAX_INTERNED:
            self.clear()
        made = self[value] = None if value is None else self._make(value)
        return made


class _SealedTexts:
    """The parts of `live_text` for texts, lists and groups that many grants share."""

    def __init__(self) -> None:
        self.texts = _Interned(quoted_text)
        self.lists = _Interned(lambda text: list_text(_list(text)))
        self.groups = _Interned(_sealed_groups)


class GrantDecoder:
    """Makes live grants from rows. Equal texts, lists and groups of many grants become one object."""

    def __init__(self) -> None:
        self._texts = _Interned(str)
        self._lists = _Interned(_list)
        self._groups = _Interned(_groups)
        self._spans = _Interned(lambda microseconds: timedelta(microseconds=microseconds))
        self.sealed = _SealedTexts()
        self._metered = _Interned(lambda text: rows.LIMITS.validate_json(text) != _NO_LIMITS)

    def changed(self, row: tuple[Any, ...], now: int) -> GrantChanged:
        """Returns the change that the row describes; its first column is `ended_at`."""
        ended, name, subject = row[:3]
        expires, asked_until = row[9:11]
        if ended is not None or now >= (asked_until if expires is None else expires):
            return GrantChanged(name, subject, None, was_access=expires is not None)
        (live,) = self.live([row[1:]])
        return GrantChanged(name, subject, live)

    def is_live(self, columns: Sequence[Any], now: int) -> bool:
        """Whether the grant, which nobody ended, is not over."""
        expires, asked_until = columns[8:10]
        return bool(now < (asked_until if expires is None else expires))

    def live(self, found: Iterable[tuple[Any, ...]]) -> list[CachedGrant]:
        """Returns the grants of rows that are live, in one loop without calls: up to a million are made at start."""
        texts, lists, groups, spans, metered = self._texts, self._lists, self._groups, self._spans, self._metered
        made: list[CachedGrant] = []
        for (name, subject, policy, revision, resources, actions, duration, starts, expires, asked_until, proved,
                claims, condition, chain, limits, _) in found:  # fmt: skip
            span = spans[duration]
            # Positional arguments: keywords would cost as much as the rest.
            starts_at = None if starts is None else EPOCH + timedelta(0, 0, starts)
            if starts_at is not None and expires == starts + duration:
                expires_at: datetime | None = starts_at + span
            else:
                expires_at = instant(expires)
            made.append(
                CachedGrant(
                    name,
                    subject,
                    texts[policy],
                    revision,
                    tuple(from_json(resources, cache_strings="none")),
                    lists[actions],
                    span,
                    starts_at,
                    expires_at,
                    None if asked_until is None else instant(asked_until),
                    groups[proved],
                    None if claims is None else json.loads(claims),
                    texts[condition],
                    lists[chain],
                    metered[limits],
                )
            )
        return made


def _groups(text: str) -> frozenset[str] | None:
    """Returns the groups; None if the token left them out."""
    found = from_json(text)
    return None if found is None else frozenset(found)


def _sealed_groups(text: str) -> str:
    found = _groups(text)
    return "" if found is None else list_text(sorted(found))


def _list(text: str) -> tuple[str, ...]:
    return tuple(from_json(text, cache_strings="none"))


def instant(microseconds: int | None) -> datetime | None:
    """Returns the instant of a column, which has microseconds since 1970; None of one without."""
    # Positional arguments: a keyword would cost as much as the rest.
    return None if microseconds is None else EPOCH + timedelta(0, 0, microseconds)
