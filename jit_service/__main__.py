"""The operator's commands: serve, up, migrate, dev-token. People read stderr; stdout is for programs."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

# Its own log of a bind that fails is many lines; the error below is one.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import typer

from jit_service.dev import DevIssuer
from jit_service.domain.errors import JitError
from jit_service.domain.name import principal as checked_principal
from jit_service.edge import EdgeError, Envoy, render, share
from jit_service.rpc.policy_file import PolicyFileError
from jit_service.service import Service, ServiceError, utc_now
from jit_service.settings import Address, Settings, SettingsError
from jit_service.storage.migrate import migrate as migrate_database

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
_log = logging.getLogger("jit_service")
# sun_path holds 108 bytes on Linux and 104 elsewhere, the closing zero included.
_MAX_SOCKET_PATH = 100

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where files are kept. JIT_DATA_DIR; default .data")]
Grpc = Annotated[str | None, typer.Option("--grpc", metavar="HOST:PORT", help="gRPC; port 0 takes a free one.")]
Http = Annotated[str | None, typer.Option("--http", metavar="HOST:PORT", help="REST, through Envoy.")]
DatabaseUrl = Annotated[str | None, typer.Option("--database-url", help="sqlite:///FILE or postgresql://…")]
Policies = Annotated[Path | None, typer.Option("--policies", help="A policy file to apply at the start.")]
