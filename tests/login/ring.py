"""A key ring in a file, in place of the system's, for processes of tests to share."""

from __future__ import annotations

import json
import os
from pathlib import Path

import keyring.errors
from keyring.backend import KeyringBackend

VARIABLE = "TEST_KEY_RING"


class Ring(KeyringBackend):
    """Keeps everything in the file that TEST_KEY_RING names. Where that is `locked`, nothing can be had."""

    priority = 5  # type: ignore[assignment]

    def get_password(self, service: str, username: str) -> str | None:
        return self._all().get(f"{service}/{username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self._write(self._all() | {f"{service}/{username}": password})

    def delete_password(self, service: str, username: str) -> None:
        kept = self._all()
        del kept[f"{service}/{username}"]
        self._write(kept)

    def _all(self) -> dict[str, str]:
        path = Path(os.environ[VARIABLE])
        if path.name == "locked":
            raise keyring.errors.KeyringLocked("the secret is 42")
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def _write(self, kept: dict[str, str]) -> None:
        Path(os.environ[VARIABLE]).write_text(json.dumps(kept))
