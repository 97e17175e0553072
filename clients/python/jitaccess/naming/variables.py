"""The variables of the environment that the client reads, and that `jit run` gives to its command.

Nothing of the client names one elsewhere. The service refuses every other `JIT_*` that is none of its settings.
"""

from __future__ import annotations

from enum import StrEnum


class Variable(StrEnum):
    """A variable of the environment, by its name."""

    ADDRESS = "JIT_ADDRESS"
    TOKEN = "JIT_TOKEN"  # noqa: S105 (the variable's name)
    TOKEN_FILE = "JIT_TOKEN_FILE"  # noqa: S105 (the variable's name)
    TLS = "JIT_TLS"
    CA_FILE = "JIT_CA_FILE"
    CONFIG = "JIT_CONFIG"
    GRANT = "JIT_GRANT"
    SUBJECT = "JIT_SUBJECT"
    EXPIRES = "JIT_EXPIRES"
