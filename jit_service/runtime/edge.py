"""The Envoy of `up`: its sockets to the workers, its port, and its process, all by the settings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from jit_service.configuration.certificate import TlsFiles
from jit_service.runtime.envoy import Envoy, Rates, render, temporary_directory
from jit_service.runtime.workers import hold
from jit_service.settings import Settings

# sun_path holds 108 bytes on Linux and 104 elsewhere, the closing zero included.
_MAX_SOCKET_PATH: Final = 100


def socket_paths(settings: Settings, stack: ExitStack) -> list[Path]:
    """Returns Envoy's sockets to the workers: in the data directory, or in a private one if that path is too long."""
    directory = settings.data_dir.resolve()
    if len(os.fsencode(directory / _socket_name(settings.workers - 1))) > _MAX_SOCKET_PATH:
        directory = Path(stack.enter_context(temporary_directory("jit-")))
    return [directory / _socket_name(number) for number in range(settings.workers)]


def _socket_name(number: int) -> str:
    return f"grpc-{number}.sock"


def with_http_port(settings: Settings, stack: ExitStack) -> Settings:
    """Returns the settings with a free port instead of port 0, since tokens and denials name the address.

    This process holds the port until Envoy, which shares it, has ended. Raises ServiceError.
    """
    if settings.http.port:
        return settings
    held, http = hold(settings.http)
    stack.callback(held.close)
    return settings.model_copy(update={"http": http})


def envoy_of(
    settings: Settings,
    sockets: Sequence[Path],
    stack: ExitStack,
    *,
    tls: TlsFiles | None,
    dev_provider: Path | None = None,
) -> Envoy:
    """Writes the configuration of `up`'s Envoy into the data directory. Returns the Envoy, which the stack ends.

    With `tls` its port has TLS by these files. `dev_provider` is the socket of the provider of `up --dev`.
    """
    directory = settings.data_dir.resolve() / "envoy"
    directory.mkdir(exist_ok=True)
    config = render(
        http=settings.http,
        upstream=sockets,
        directory=directory,
        rates=rates_of(settings),
        dev_provider=dev_provider,
        listener_tls=tls,
    )
    envoy = Envoy(config, directory=directory, tls=tls is not None)
    stack.callback(envoy.stop)
    return envoy


def rates_of(settings: Settings) -> Rates:
    """Returns the rates that the settings give Envoy."""
    return Rates(total=settings.http_rate, per_address=settings.http_rate_per_address)
