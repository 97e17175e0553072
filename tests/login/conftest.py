"""A provider that everybody who logs in here uses, and a service that takes its tokens."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jit_service.domain.caller import Role
from jit_service.issuers import Issuer
from jit_service.runtime.service import Service
from jit_service.settings import Address, Settings
from jit_service.storage.migrate import migrate
from jitaccess.login import code_flow, provider
from jitaccess.login.choices import Place
from jitaccess.login.keeping import Keep, Login
from jitaccess.login.tokens import Tokens
from tests.login.oidc import AUDIENCE, Oidc, Person, publishing, running

METADATA = "/.well-known/oauth-protected-resource"


class Watch:
    """This machine's clock, which a test sets ahead or back."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture(scope="package")
def shared_oidc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oidc]:
    if shutil.which("npm") is None:
        pytest.skip("there is no node with npm")
    with running(tmp_path_factory.mktemp("oidc") / "log") as oidc:
        yield oidc


@pytest.fixture
def oidc(shared_oidc: Oidc) -> Oidc:
    """The provider, there and with the right clock."""
    shared_oidc.reset()
    return shared_oidc


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def alice() -> Person:
    return Person("alice@example.com")


@pytest.fixture
def logged_in(oidc: Oidc, alice: Person) -> Callable[..., Tokens]:
    """Logs alice in at the provider, and returns her tokens."""

    def logged_in(client_id: str = "jit-cli", **options: Any) -> Tokens:
        at, registration = provider.discover(oidc.issuer), oidc.registration(client_id)
        return code_flow.log_in(at, registration, **({"show": alice.open} | options))

    return logged_in


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    return Keep(tmp_path / "jit", "prod", Place.FILE)


@pytest.fixture
def kept(keep: Keep, oidc: Oidc, logged_in: Callable[..., Tokens]) -> Login:
    """Alice's login, as it is kept."""
    login = Login(registration=oidc.registration(), tokens=logged_in())
    keep.write(login)
    return login


@pytest.fixture(scope="package")
def service_watch() -> Watch:
    return Watch()


@pytest.fixture(scope="package")
def grpc_address(shared_oidc: Oidc, service_watch: Watch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real service that takes the provider's tokens, without Envoy, by the clock `service_watch`."""
    issuer = Issuer(
        issuer=shared_oidc.issuer,
        audience=(AUDIENCE,),
        principal_prefix="user:",
        roles_claim="sub",
        roles={Role.AUDITOR: ("erin@example.com",)},
    )
    settings = Settings.load(data_dir=tmp_path_factory.mktemp("service")).with_issuer(issuer)
    migrate(settings.store_url)
    service = Service(settings, clock=lambda: datetime.fromtimestamp(service_watch(), UTC))
    address = service.listen(Address("127.0.0.1", 0))
    service.start()
    yield str(address)
    service.stop()


@pytest.fixture
def metadata(oidc: Oidc, grpc_address: str) -> dict[str, Any]:
    """What the service says of how to log in, but for its own URL."""
    return {
        "authorization_servers": [oidc.issuer],
        "jit_cli_client_id": "jit-cli",
        "jit_scopes": "openid",
        "jit_audience": AUDIENCE,
        "jit_grpc_address": grpc_address,
    }


@pytest.fixture
def url(metadata: dict[str, Any]) -> Iterator[str]:
    """The service's URL, at which it says `metadata`."""
    documents = {METADATA: metadata}
    with publishing(documents) as url:
        metadata.setdefault("resource", url)
        yield url


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keeps the developer's own settings out, and any key ring."""
    for name in [name for name in os.environ if name.startswith(("JIT_", "ACTIONS_", "GITLAB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    return tmp_path / "config" / "jit"
