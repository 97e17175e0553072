"""The store: the only place that knows SQL. SQLite and PostgreSQL give the same answers."""

from jit_service.storage.check_record import payload_of_check
from jit_service.storage.rows import payload_of
from jit_service.storage.store import Snapshot, Store, Transaction

__all__ = ["Snapshot", "Store", "Transaction", "payload_of", "payload_of_check"]
