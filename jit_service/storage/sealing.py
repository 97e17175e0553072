"""Seals the rows that decisions rest on, so that a change by anybody without the key is noticed.

A row's seal is a keyed BLAKE2b (RFC 7693) of the fact in the row, under a key that is never stored in the database. A
row that was added, removed or put back is noticed by the sum of all seals of its kind: a multiset hash as Bellare and
Micciancio's AdHash (EUROCRYPT 1997), over keyed values. The head row has the sums, and a seal of its own
(docs/adr/0041-seal-rows.md).
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic_core import to_json

from jit_service.domain.checks.cached_grant import CachedGrant
from jit_service.domain.errors import StoreUnavailable
from jit_service.storage.columns import EPOCH, MICROSECOND

GRANTS: Final = "access_grant"
"""The kind of the sum of grants that nobody ended and that are not recorded as expired, as Check keeps them."""
TABLES: Final = ("policy", "signal", "delegation", "access_lock", "policy_proposal", "grant_beginning", "known_name")
"""The tables that have a sum of all their rows."""
_BYTES: Final = 32
_ID_BYTES: Final = 8
_MODULUS: Final = 1 << (8 * _BYTES)
_BETWEEN: Final = "\x1f"
_log = logging.getLogger(__name__)


Sums = dict[str, int]


class Sealer:
    """Makes and verifies seals, with a key of 32 bytes that is never stored in the database."""

    def __init__(self, key: bytes, *, refused: set[str] | None = None) -> None:
        """`refused` are the problems that stand, which several sealers may share."""
        self._facts, self._live, self._heads = (_keyed(key, purpose) for purpose in (b"facts", b"live", b"head"))
        self.refused: set[str] = set() if refused is None else refused
        self.key_id = key_id(key)

    @property
    def live_state(self) -> Any:
        """The hash state that `of_live` starts from, for a loop that makes a million of them."""
        return self._live

    def of(self, name: str, fact: object) -> bytes:
        """Returns the seal of the fact that is stored under the name."""
        return _sealed(self._facts, f"{name}{_BETWEEN}{canonical(fact)}")

    def of_live(self, text: str) -> bytes:
        """Returns the seal of a grant as Check keeps it; `text` is the result of `live_text`."""
        return _sealed(self._live, text)

    def of_head(self, *, revision: int, locks: int, sums: str) -> bytes:
        """Returns the seal of the head row; `sums` is the result of `sums_text`."""
        return _sealed(self._heads, f"{revision}{_BETWEEN}{locks}{_BETWEEN}{sums}")

    def of_summary(self, seq: int, hash_: bytes, text: str) -> bytes:
        """Returns the seal of a summary of audit records; seq and hash are those of the last of them."""
        return _sealed(self._facts, f"audit_piece/{seq}{_BETWEEN}{hash_.hex()}{_BETWEEN}{text}")

    def demand(self, name: str, fact: object, seal: bytes | None) -> None:
        """Raises StoreUnavailable if this is not the fact's seal."""
        self.demand_equal(name, self.of(name, fact), seal)

    def demand_equal(self, name: str, wanted: bytes, seal: bytes | None) -> None:
        """Raises StoreUnavailable if the seal is not the wanted one."""
        problem = f"{name} is not as this service left it"
        if seal is None or not hmac.compare_digest(wanted, bytes(seal)):
            raise self.refuse(problem)
        self.refused.discard(problem)

    def demand_head(self, *, revision: int, locks: int, sums: str, seal: bytes) -> Sums:
        """Returns the sums of the head row. Raises StoreUnavailable if they do not match its seal."""
        if revision == 0 and not sums:
            return {}
        self.demand_equal("the head", self.of_head(revision=revision, locks=locks, sums=sums), seal)
        return {kind: int(total, 16) for kind, total in json.loads(sums or "{}").items()}

    def demand_sum(self, kind: str, seals: Iterable[bytes], sums: Sums) -> None:
        """Raises StoreUnavailable if these are not the seals of all rows of the kind."""
        self.demand_total(kind, sum(map(seal_number, seals)), sums)

    def demand_total(self, kind: str, total: int, sums: Sums) -> None:
        """Raises StoreUnavailable if the sum of the rows of the kind is not the head's."""
        problem = f"rows of {kind} are missing, too many, or older than the last"
        if total % _MODULUS != sums.get(kind, 0):
            raise self.refuse(problem)
        self.refused.discard(problem)

    def refuse(self, problem: str) -> StoreUnavailable:
        """Returns the error for the problem. The first time, it logs the problem as critical."""
        if problem not in self.refused:
            self.refused.add(problem)
            _log.critical("%s: somebody changed the database, or the key is another one; nothing is allowed", problem)
        return StoreUnavailable(problem)


def seal_number(seal: bytes | None) -> int:
    """Returns the seal as a number, to be added to a sum."""
    return int.from_bytes(seal or b"", "big")


def exchange(sums: Sums, kind: str, *, old: bytes | None, new: bytes | None) -> Sums:
    """Returns the sums after a row's seal was replaced. `old` is None for a new row, `new` for a removed one."""
    return sums | {kind: (sums.get(kind, 0) - seal_number(old) + seal_number(new)) % _MODULUS}


def sums_text(sums: Sums) -> str:
    """Returns the sums as the head row stores them."""
    return json.dumps({kind: f"{total:x}" for kind, total in sorted(sums.items())})


def live_text(grant: CachedGrant) -> str:
    """Returns the text that is sealed of a grant as Check keeps it.

    It omits the end of a metered grant, which a use may put off: such a grant is checked in a transaction, by the seal
    of the whole grant.
    """
    proved = grant.subject_groups
    parts = (
        grant.name,
        grant.subject,
        grant.policy,
        str(grant.policy_revision),
        list_text(grant.resources),
        list_text(grant.actions),
        str(grant.duration // MICROSECOND),
        _instant(grant.starts_at),
        "" if grant.is_metered else _instant(grant.expires_at),
        _instant(grant.request_expires_at),
        "" if proved is None else list_text(sorted(proved)),
        "" if grant.subject_claims is None else canonical(grant.subject_claims),
        quoted_text(grant.check_condition),
        list_text(grant.chain),
        str(grant.is_metered),
    )
    return _BETWEEN.join(parts)


def list_text(texts: Sequence[str]) -> str:
    """Returns a text that only an equal list has."""
    return to_json(texts).decode()


def quoted_text(text: str) -> str:
    """Returns the text, quoted so that it contains no separator."""
    return to_json(text).decode()


def canonical(fact: object) -> str:
    """Returns the fact as text: the same for equal facts, from either database.

    A field with its default value is left out, so that seals from before the field existed stay valid.
    """
    return _encode(_json_value(fact))


def _json_value(value: Any) -> Any:
    kind: Any = type(value)
    return _converter(kind)(value)


@cache
def _converter(kind: Any) -> Callable[[Any], Any]:
    """Returns what makes JSON of a value of the type. To find it takes longer than the rest, so it is done once."""
    for kinds, convert in _CONVERTERS:
        if issubclass(kind, kinds):
            return convert
    if dataclasses.is_dataclass(kind):
        fields = _defaults(kind)
        return lambda value: {
            # Most are texts, and what they become need not be looked up.
            name: found if type(found) is str else _json_value(found)
            for name, default in fields
            if (found := getattr(value, name)) != default
        }
    return lambda value: [item if type(item) is str else _json_value(item) for item in value]


def _text(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): _json_value(item) for key, item in value.items()}


_encode: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
_CONVERTERS: Final[tuple[tuple[tuple[type, ...], Callable[[Any], Any]], ...]] = (
    ((type(None), bool, str), _text),
    # A database may return 1e300 as an integer, and -0.0 without its sign.
    ((int, float), lambda value: repr(float(value) + 0.0)),
    ((datetime,), lambda value: (value - EPOCH) // MICROSECOND),
    ((timedelta,), lambda value: value // MICROSECOND),
    ((Mapping,), _mapping),
    ((set, frozenset), lambda value: sorted(map(_json_value, value))),
)


def _defaults(kind: Any) -> tuple[tuple[str, object], ...]:
    """Returns each field with its default."""
    return tuple(
        (each.name, each.default_factory() if each.default_factory is not dataclasses.MISSING else each.default)
        for each in dataclasses.fields(kind)
    )


def _instant(instant: datetime | None) -> str:
    return "" if instant is None else str((instant - EPOCH) // MICROSECOND)


def key_id(key: bytes) -> str:
    """Returns 16 hexadecimal digits that tell the key from others, and nothing of it (HKDF, RFC 5869).

    No key, which only tests have, has no id.
    """
    return _derived(key, b"jitaccess sealing key id")[:_ID_BYTES].hex() if key else ""


def _keyed(key: bytes, purpose: bytes) -> Any:
    """Returns a keyed hash state. It takes a third of HMAC's time, and up to a million seals are made at start."""
    return hashlib.blake2b(key=_derived(key, b"jitaccess row seals: " + purpose), digest_size=_BYTES)


def _derived(key: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=_BYTES, salt=None, info=info).derive(key)


def _sealed(keyed: Any, text: str) -> bytes:
    state = keyed.copy()
    state.update(text.encode())
    seal: bytes = state.digest()
    return seal
