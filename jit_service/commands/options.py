"""The flags that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jit_service.settings import Transport

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where files are kept [JIT_DATA_DIR; .data].")]
Grpc = Annotated[str | None, typer.Option("--grpc", metavar="HOST:PORT", help="gRPC; port 0 takes a free one.")]
Http = Annotated[str | None, typer.Option("--http", metavar="HOST:PORT", help="REST and gRPC, through Envoy.")]
DatabaseUrl = Annotated[str | None, typer.Option("--database-url", help="sqlite:///FILE or postgresql://USER@HOST/DB.")]
Policies = Annotated[Path | None, typer.Option("--policies", help="A policy file to apply at the start.")]
TransportName = Annotated[Transport | None, typer.Option("--transport", help="The gRPC server [grpcio].")]
WorkerCount = Annotated[
    int | None, typer.Option("--workers", metavar="N", help="Processes that share the port and the store [1].")
]
Plaintext = Annotated[
    bool | None,
    typer.Option("--allow-plaintext", help="Bind other addresses than loopback, though the ports have no TLS."),
]
Dev = Annotated[
    bool, typer.Option("--dev", help="Issue tokens for made-up people; on loopback only, never in production.")
]
