"""What `up --dev` has beside the service: made-up people, with tokens in files and a provider at which they log in."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from jit_service.runtime.dev_issuer import DevIssuer, first_steps
from jit_service.runtime.dev_provider.provider import Provider
from jit_service.runtime.dev_provider.server import ProviderServer
from jit_service.runtime.service import ServiceError, utc_now
from jit_service.settings import Address, Settings
from jit_service.storage.readers.reading import Clock


class DevMode:
    """The development mode of a service with these settings. Raises ServiceError unless all is on loopback.

    There is no provider where an issuer of the settings is the one at which people log in.
    """

    def __init__(self, settings: Settings, *, clock: Clock = utc_now) -> None:
        _demand_loopback(settings)
        self._issuer = DevIssuer(settings.data_dir)
        self._issuer.write_tokens(clock())
        is_needed = not any(issuer.logs_in for issuer in settings.issuers)
        self._provider = Provider(self._issuer, settings.http, clock) if is_needed else None

    @property
    def login(self) -> str | None:
        """The provider's URL."""
        return None if self._provider is None else self._provider.url

    def added_to(self, settings: Settings) -> Settings:
        """Returns the settings with the issuers of this mode, and with the edge's address as the service's URL."""
        settings = settings.with_issuer(self._issuer.issuer()).with_token_issuer(f"http://{settings.http}")
        return settings if self._provider is None else settings.with_issuer(self._provider.issuer())

    def serve(self, directory: Path, stack: ExitStack) -> Path | None:
        """Serves the provider at a socket in the directory until the stack ends it. Returns the socket."""
        if self._provider is None:
            return None
        path = directory / "dev-oidc.sock"
        server = ProviderServer(self._provider, path)
        stack.callback(server.stop)
        server.start()
        return path

    def first_steps(self, settings: Settings, *, http: Address, grpc: Address) -> str:
        """Returns what to paste for a first request."""
        return first_steps(
            settings.data_dir, http=str(http), grpc=str(grpc), tls=settings.tls is not None, login=self.login
        )


def _demand_loopback(settings: Settings) -> None:
    for flag, address in (("--grpc", settings.grpc), ("--http", settings.http)):
        if not address.is_loopback:
            raise ServiceError(f"--dev is for loopback only, and {flag} is {address}, where anyone could act as alice")
