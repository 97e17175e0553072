"""The sealing keys that a host has, and which of them is in effect.

There are several while one takes the place of another. The head row names the key that sealed a state of the store, and
no other key opens a row of that state. A key that was once replaced opens nothing any more, although the host still has
it: whoever stole it could seal what they like (docs/adr/0070-rotate-the-sealing-key.md).
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from jit_service.domain.errors import StoreUnavailable
from jit_service.storage.sealing import Sealer, Sums

Source = Callable[[], Sequence[bytes]]
"""Returns the keys of 32 bytes as they are now, the newest first; at least one."""
_KEY_ID: Final = re.compile("[0-9a-f]{16}")
_log = logging.getLogger(__name__)


class Superseded(StoreUnavailable):
    """The state of the store is sealed with a key that another one has replaced."""


class SealingKeys:
    """The keys, read again when the store is sealed with one that was not there yet. Any thread may use them."""

    def __init__(
        self, source: Source, *, history: Sequence[str] = (), on_change: Callable[[str], None] = lambda _: None
    ) -> None:
        """`history` has the ids of the keys that were in effect until now, the last one last.

        `on_change` is called with the id of each key that comes into effect after them.
        """
        self._source = source
        self._on_change = on_change
        self._turn = threading.Lock()
        self._in_effect = history[-1] if history else ""
        self._replaced = frozenset(history[:-1])
        self._keys: dict[str, tuple[bytes, Sealer]] = {}
        self._unopened = ""
        self.refused: set[str] = set()
        self._read()

    @classmethod
    def of(cls, *keys: bytes) -> SealingKeys:
        """Returns these keys, which do not change, the newest first."""
        return cls(lambda: keys)

    @property
    def first(self) -> Sealer:
        """The sealer of the newest key, which seals a new store, and every store once it is sealed anew."""
        return next(iter(self._keys.values()))[1]

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys, the newest first."""
        return tuple(self._keys)

    def sealers(self) -> list[Sealer]:
        """Returns the sealer of each key, the newest first."""
        return [sealer for _, sealer in self._keys.values()]

    def sealer(self, key_id: str) -> Sealer:
        """Returns the sealer of the key. Raises StoreUnavailable if this host has not got it."""
        found = self._known(key_id)
        if found is None:
            raise self._refuse(key_id)
        return found[1]

    def secret(self, key_id: str) -> bytes | None:
        """Returns the 32 bytes of the key, None if this host has not got it. No id means the newest key."""
        if not key_id:
            return next(iter(self._keys.values()))[0]
        found = self._known(key_id)
        return None if found is None else found[0]

    def opening(self, head: Any) -> tuple[Sealer, Sums]:
        """Returns the sealer of the key in effect, and the sums, of the state with this head row.

        Raises Superseded for a key that was replaced, and StoreUnavailable if this host has not got the key or the row
        does not match its seal.
        """
        sealer = self._sealer_of(head)
        if sealer.key_id in self._replaced:
            raise Superseded(
                f"the store is sealed with key {sealer.key_id}, which key {self._in_effect} has replaced on this host: "
                "somebody put an older database in its place; after a restore that was meant so, see Restore in "
                "docs/runbooks.md"
            )
        sums = sealer.demand_head(revision=head.revision, locks=head.locks, sums=head.sums, seal=head.seal)
        if self._unopened:
            self.refused.discard(self._unopened)
            self._unopened = ""
        # Nothing is sealed in a store without a revision, so nothing proves that this key is in effect.
        if head.revision and sealer.key_id != self._in_effect:
            self._comes_into_effect(sealer.key_id)
        return sealer, sums

    def _sealer_of(self, head: Any) -> Sealer:
        if not head.sealing_key:
            # It is from before heads named their key, or nothing was written yet.
            return self._that_opens(head) if head.revision else self.first
        return self.sealer(head.sealing_key)

    def _that_opens(self, head: Any) -> Sealer:
        """Returns the sealer of the key that opens the row; the newest key's, which then refuses it, if none does."""
        for sealer in self.sealers():
            if head.seal == sealer.of_head(revision=head.revision, locks=head.locks, sums=head.sums):
                return sealer
        return self.first

    def _known(self, key_id: str) -> tuple[bytes, Sealer] | None:
        if key_id not in self._keys:
            self._read()
        return self._keys.get(key_id)

    def _read(self) -> None:
        with self._turn:
            secrets = self._source()
            sealers = (Sealer(secret, refused=self.refused) for secret in secrets)
            read = {sealer.key_id: (secret, sealer) for secret, sealer in zip(secrets, sealers, strict=True)}
            # Those that are known stay, with what is in their hands.
            self._keys = {key_id: self._keys.get(key_id, found) for key_id, found in read.items()}

    def _comes_into_effect(self, key_id: str) -> None:
        with self._turn:
            before, self._in_effect = self._in_effect, key_id
            if before:
                self._replaced |= {before}
        if before:
            _log.warning("the store is sealed with key %s now; key %s opens nothing any more", key_id, before)
        self._on_change(key_id)

    def _refuse(self, key_id: str) -> StoreUnavailable:
        named = key_id if _KEY_ID.fullmatch(key_id) else "of an id that is none"
        problem = f"the store is sealed with key {named}, and this host has only {', '.join(self.ids)}"
        self._unopened = problem
        if problem not in self.refused:
            self.refused.add(problem)
            _log.critical("%s: give its key file that key too; nothing is allowed until then", problem)
        return StoreUnavailable(problem)
