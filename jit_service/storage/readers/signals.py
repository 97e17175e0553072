"""Signals."""

from __future__ import annotations

from jit_service.domain.conditions.signal import Signal
from jit_service.storage import prepared, rows
from jit_service.storage.readers.reading import Reading
from jit_service.storage.tables import SignalRow


class SignalReader(Reading):
    """Reads signals, also expired ones."""

    def signal(self, name: str) -> Signal | None:
        """Returns the signal, even if it is expired, or None."""
        row = self._session.get(SignalRow, name)
        return None if row is None else self._sealed(row, rows.signal_of(row))

    def signals(self) -> list[Signal]:
        """Returns every signal by name, also expired ones."""
        found = prepared.SIGNALS.rows(self._connection)
        self._sealer.demand_sum("signal", (row.seal for row in found), self._sums)
        return [self._sealed(row, rows.signal_of(row)) for row in found]
