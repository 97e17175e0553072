"""A grpcio server behind pygrpc-native, for what that cannot serve, such as reflection."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import grpc

_THREADS: Final = 2
_CALLS: Final = 16


class GrpcioBehind:
    """A grpcio server on a Unix socket of its own. What it serves sees no peer, so nothing there may trust one."""

    def __init__(self, register: Callable[[grpc.Server], None]) -> None:
        self._server = grpc.server(
            ThreadPoolExecutor(_THREADS, thread_name_prefix="behind"), maximum_concurrent_rpcs=_CALLS
        )
        register(self._server)
        self._directory = Path(tempfile.mkdtemp(prefix="jit-behind-"))

    def start(self) -> str:
        """Begins to answer. Returns the path of its socket, in a directory that is for this user alone."""
        path = str(self._directory / "s")
        self._server.add_insecure_port(f"unix:{path}")
        self._server.start()
        return path

    def stop(self) -> None:
        """Stops at once."""
        self._server.stop(None)
        shutil.rmtree(self._directory, ignore_errors=True)
