"""Keeps gRPC's own log off the terminal: what it says of a failed handshake, the command's error says in words.

gRPC reads the variable while it loads. It is in the environment only until then, so that no command of the user's
that `jit` starts inherits it. Whoever sets the variable has it as they set it.
"""

from __future__ import annotations

import os
from typing import Final

VARIABLE: Final = "GRPC_VERBOSITY"
_SILENT: Final = "NONE"
_is_ours = False


def before_grpc_loads() -> None:
    """Says that gRPC logs nothing, unless the environment says what it logs."""
    global _is_ours  # The environment is the process's, and so is this.
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = _SILENT
        _is_ours = True


def once_grpc_is_loaded() -> None:
    """Leaves the environment as it was."""
    global _is_ours
    if _is_ours:
        os.environ.pop(VARIABLE, None)
        _is_ours = False
