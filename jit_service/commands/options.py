"""The flags that several commands have: each is a setting, and comes before the environment."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from jit_service.settings import Transport

Flags = Mapping[str, Any]
"""Flags by the names of their settings; None is one that was not given."""

_CONFIG: Final = "config"
_OPTIONS: Final[Mapping[str, Any]] = {
    _CONFIG: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="A file with settings, as `init` writes it [JIT_SERVICE_CONFIG]."
        ),
    ],
    "data_dir": Annotated[Path | None, typer.Option("--data-dir", help="Where files are kept [JIT_DATA_DIR; .data].")],
    "grpc": Annotated[str | None, typer.Option("--grpc", metavar="HOST:PORT", help="gRPC; port 0 takes a free one.")],
    "http": Annotated[str | None, typer.Option("--http", metavar="HOST:PORT", help="REST and gRPC, through Envoy.")],
    "database_url": Annotated[
        str | None, typer.Option("--database-url", help="sqlite:///FILE or postgresql://USER@HOST/DB.")
    ],
    "policies": Annotated[Path | None, typer.Option("--policies", help="A policy file to apply at the start.")],
    "transport": Annotated[Transport | None, typer.Option("--transport", help="The gRPC server [grpcio].")],
    "workers": Annotated[
        int | None, typer.Option("--workers", metavar="N", help="Processes that share the port and the store [1].")
    ],
    "drain_delay": Annotated[
        str | None,
        typer.Option(
            "--drain-delay",
            metavar="DURATION",
            help="Answer on for so long after TERM, while health says no [0s]; for hosts behind a balancer, 10s.",
        ),
    ],
    "metrics": Annotated[
        str | None,
        typer.Option("--metrics", metavar="HOST:PORT", help="Metrics for Prometheus [none]; port 0 takes a free one."),
    ],
    "tls_cert": Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="Serve TLS by this certificate chain, in PEM.")
    ],
    "tls_key": Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its private key, in PEM.")],
    "tls_client_ca": Annotated[
        Path | None,
        typer.Option("--tls-client-ca", metavar="FILE", help="Demand clients' certificates that these sign (mTLS)."),
    ],
    "insecure_listen": Annotated[
        bool | None,
        typer.Option(
            "--insecure-listen", "--allow-plaintext", help="Listen without TLS on other addresses than loopback."
        ),
    ],
}
SERVING: Final = (
    "data_dir",
    "grpc",
    "database_url",
    "policies",
    "transport",
    "workers",
    "drain_delay",
    "metrics",
    "tls_cert",
    "tls_key",
    "tls_client_ca",
    "insecure_listen",
)
"""The flags of a command that serves."""
STORING: Final = ("data_dir", "database_url")
"""The flags of a command that opens the store."""


def takes(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command these flags, and the settings file. It gets all of them as its argument `flags`."""
    names = (_CONFIG, *names)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name != "flags"]
        added = [
            inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_OPTIONS[each])
            for each in names
        ]

        @wraps(command)
        def with_flags(*own_arguments: Any, **given: Any) -> None:
            flags = {each: given.pop(each, None) for each in names}
            command(*own_arguments, **given, flags=flags)

        # What typer reads of a command.
        with_flags.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        with_flags.__annotations__ = {each.name: each.annotation for each in (*own, *added)}
        return with_flags

    return decorate
