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
    CERT_FILE = "JIT_CERT_FILE"
    CERT_KEY_FILE = "JIT_CERT_KEY_FILE"
    ID_TOKEN = "JIT_ID_TOKEN"  # noqa: S105 (the variable's name)
    AUDIENCE = "JIT_AUDIENCE"
    CONFIG = "JIT_CONFIG"
    CONTEXT = "JIT_CONTEXT"
    GRANT = "JIT_GRANT"
    SUBJECT = "JIT_SUBJECT"
    EXPIRES = "JIT_EXPIRES"
