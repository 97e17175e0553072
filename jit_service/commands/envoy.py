"""`jit-service envoy-config`: the configuration of an Envoy of the operator's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jit_service.commands.given import one_line_errors
from jit_service.commands.options import Grpc, Http
from jit_service.runtime.edge import rates_of
from jit_service.runtime.envoy import Certificate, write_own
from jit_service.runtime.service import ServiceError
from jit_service.settings import Settings


def envoy_config(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where envoy.yaml is written.")],
    *,
    grpc: Grpc = None,
    http: Http = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", help="The certificate chain of a TLS listener.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its private key.")] = None,
) -> None:
    """Write the configuration of an Envoy of your own, in front of `serve`; write it again with each new version."""
    with one_line_errors():
        settings = Settings.load(**{key: value for key, value in {"grpc": grpc, "http": http}.items() if value})
        if (tls_cert is None) is not (tls_key is None):
            raise ServiceError("--tls-cert and --tls-key belong together: one of them is missing")
        certificate = Certificate(chain=tls_cert, key=tls_key) if tls_cert and tls_key else None
        path = write_own(
            http=settings.http,
            upstream=settings.grpc,
            directory=directory,
            rates=rates_of(settings),
            certificate=certificate,
        )
        print(path.resolve())
