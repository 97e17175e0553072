"""The lease of a task that one process of all hosts does."""

from __future__ import annotations

import os
import secrets
import socket
from datetime import timedelta

from jit_service.storage import Store


class Lease:
    """This process's claim to the task, which it has to repeat before the span is over."""

    def __init__(self, store: Store, task: str) -> None:
        self._store = store
        self._task = task
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    def is_held(self, *, span: timedelta) -> bool:
        """Takes or prolongs the lease. Returns whether this process has it. Raises StoreUnavailable."""
        return self._store.take_lease(self._task, self._holder, span=span)
