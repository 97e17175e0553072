"""`jit-service envoy-config`: the configuration of an Envoy of the operator's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jit_service.commands.given import loaded, one_line_errors
from jit_service.commands.options import Flags, takes
from jit_service.configuration.certificate import TlsFiles
from jit_service.runtime.edge import rates_of
from jit_service.runtime.envoy import write_own
from jit_service.runtime.envoy_tls import Upstream
from jit_service.runtime.service import ServiceError


@takes("grpc", "http")
def envoy_config(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where envoy.yaml is written.")],
    *,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="The certificate chain of a TLS listener.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its private key.")] = None,
    upstream_ca: Annotated[
        Path | None,
        typer.Option(
            "--upstream-ca", metavar="FILE", help="Speak TLS to the service, whose certificate this authority signed."
        ),
    ] = None,
    upstream_name: Annotated[
        str,
        typer.Option("--upstream-name", metavar="NAME", help="Whom that certificate must be for [the host of --grpc]."),
    ] = "",
    upstream_cert: Annotated[
        Path | None,
        typer.Option("--upstream-cert", metavar="FILE", help="What Envoy proves itself by to the service (mTLS)."),
    ] = None,
    upstream_key: Annotated[
        Path | None, typer.Option("--upstream-key", metavar="FILE", help="The key of --upstream-cert.")
    ] = None,
    flags: Flags,
) -> None:
    """Write the configuration of an Envoy of your own, in front of `serve`; write it again with each new version.

    --grpc is where the service is. Without --upstream-ca the way there has no TLS.
    """
    with one_line_errors():
        # It is Envoy that listens, and the service may be anywhere.
        settings = loaded(flags, listens=())
        listener = _files(tls_cert, tls_key, "--tls-cert", "--tls-key")
        own = _files(upstream_cert, upstream_key, "--upstream-cert", "--upstream-key")
        upstream = _upstream(upstream_ca, upstream_name, own, host=settings.grpc.host)
        path = write_own(
            http=settings.http,
            upstream=settings.grpc,
            directory=directory,
            rates=rates_of(settings),
            listener_tls=listener,
            upstream_tls=upstream,
        )
        if upstream is None and not settings.grpc.is_loopback:
            typer.echo(f"warning: the way to {settings.grpc} has no TLS; tokens cross it in clear", err=True)
        print(path.resolve())


def _upstream(authority: Path | None, name: str, own: TlsFiles | None, *, host: str) -> Upstream | None:
    """Returns how Envoy speaks TLS to the service at the host; None if it does not."""
    if authority is not None:
        return Upstream(authority=authority, name=name or host, certificate=own)
    if own is not None or name:
        raise ServiceError("--upstream-ca is missing: without it nobody could tell who answers as the service")
    return None


def _files(chain: Path | None, key: Path | None, *flags: str) -> TlsFiles | None:
    if (chain is None) is not (key is None):
        raise ServiceError(f"{' and '.join(flags)} belong together: one of them is missing")
    return TlsFiles(chain=chain, key=key) if chain and key else None
