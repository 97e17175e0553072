"""A host on which the service has run: its data directory, its settings and its store."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from jit_service.domain.audit.event import SERVICE
from jit_service.domain.caller import Caller, Origin
from jit_service.runtime.service import issuing_of, open_store
from jit_service.settings import Settings
from jit_service.storage import Store
from jit_service.use_cases import signing_keys
from tests.conftest import Clock
from tests.rpc.tokens import Forge


@dataclass
class Host:
    """A data directory, with the database that is named or with SQLite's in it."""

    data_dir: Path
    forge: Forge
    clock: Clock
    database_url: str = ""

    @classmethod
    def made(cls, tmp_path: Path, template: Path, clock: Clock) -> Self:
        """Returns a host with a copy of the migrated database, which has a key to sign tokens with."""
        data_dir = tmp_path / "data"
        data_dir.mkdir(mode=0o700)
        shutil.copyfile(template, data_dir / "jit.db")
        host = cls(data_dir, Forge(tmp_path), clock)
        host.make_signing_key()
        return host

    @property
    def key(self) -> Path:
        return self.data_dir / "token.key"

    def settings(self, **changes: Any) -> Settings:
        usual = {"data_dir": self.data_dir, "issuers": [self.forge.issuer()], "grpc": "127.0.0.1:0"}
        usual |= {"token_issuer": "https://jit.example.com", "database_url": self.database_url}
        return Settings.load(**(usual | changes))

    def open(self, **changes: Any) -> Store:
        return open_store(self.settings(**changes), clock=self.clock)

    def make_signing_key(self) -> None:
        issuing = issuing_of(self.settings())
        assert issuing is not None
        with closing(self.open()) as store:
            signing_keys.replace_all(store, issuing, by=Caller(principal=SERVICE, origin=Origin(method="test")))
