"""PostgreSQL over TLS: the server proves its name, and the service by a certificate who it is."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jit_service.domain.errors import StoreUnavailable
from jit_service.storage import Store
from jit_service.storage.migrate import migrate
from tests.certificates import certificate
from tests.conftest import Clock
from tests.storage.people import add_policy
from tests.storage.servers import Server, oldest, running


class Secured:
    """A server that takes only clients with a certificate for `jit`, and where the files are."""

    def __init__(self, server: Server, directory: Path) -> None:
        (directory / "server").mkdir()
        (directory / "client").mkdir()
        self.authority, both = certificate("localhost", directory / "server")
        self.client_authority, self.client = certificate("jit", directory / "client")
        self.client.chmod(0o600)
        for name, file in (("server.crt", both), ("server.key", both), ("clients.crt", self.client_authority)):
            (server.data / name).write_bytes(file.read_bytes())
            server.own(server.data / name)
        (server.data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 cert\n")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        server.restart("ssl=on", "ssl_ca_file=clients.crt", "listen_addresses=127.0.0.1", f"port={self.port}")

    def url(self, host: str = "localhost", *, authority: Path | None = None, **more: str) -> str:
        given = {"sslmode": "verify-full", "sslrootcert": str(authority or self.authority), "hostaddr": "127.0.0.1"}
        given |= {"sslcert": str(self.client), "sslkey": str(self.client)} | more
        query = "&".join(f"{name}={value}" for name, value in given.items() if value)
        return f"postgresql+psycopg://jit@{host}:{self.port}/jit?{query}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with running(oldest()) as server:
        migrate(server.url)
        yield Secured(server, tmp_path_factory.mktemp("tls"))


def test_a_server_with_the_name_that_was_asked_for_is_used(secured: Secured, clock: Clock) -> None:
    with closing(Store(secured.url(), clock=clock)) as store, store.engine.connect() as connection:
        told = connection.exec_driver_sql("SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()").one()
        assert add_policy(store)

    assert (told.ssl, told.client_dn) == (True, "/CN=jit")


def test_a_server_with_another_name_or_authority_or_no_certificate_of_ours_is_refused(
    secured: Secured, clock: Clock
) -> None:
    for url in (
        secured.url("other.example.com"),
        secured.url(authority=secured.client_authority),
        secured.url(sslcert="", sslkey=""),
    ):
        with closing(Store(url, clock=clock)) as store, pytest.raises(StoreUnavailable):
            store.head()
