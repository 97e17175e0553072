"""The store: the only place that knows SQL. SQLite and PostgreSQL give the same answers."""

from jit_service.storage.audit_summary import Outline
from jit_service.storage.check_payload import CheckRecords, Parts, SharedContexts, parts_of_check
from jit_service.storage.readers.locks import set_caller
from jit_service.storage.rows import payload_of
from jit_service.storage.snapshot import Snapshot
from jit_service.storage.store import Store
from jit_service.storage.transaction import Transaction

__all__ = [
    "CheckRecords",
    "Outline",
    "Parts",
    "SharedContexts",
    "Snapshot",
    "Store",
    "Transaction",
    "parts_of_check",
    "payload_of",
    "set_caller",
]
