"""Checkpoints of the audit log at the command line: read from files, verified by the key kept beside them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jitaccess.errors import InvalidArgument


class Kept(NamedTuple):
    """A checkpoint as it was kept; the key is empty where it was not kept with it."""

    text: str
    public_key: Mapping[str, object]


def kept(given: str) -> Kept:
    """Returns the checkpoint in a file that `jit audit checkpoint` wrote, in any form, or the one that is given itself.

    Raises InvalidArgument.
    """
    import yaml

    try:
        # A text that is too long for a file's name is no path either.
        found = yaml.safe_load(Path(given).read_text(encoding="utf-8") if os.path.exists(given) else given)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _unreadable(type(error).__name__) from error
    if isinstance(found, str):
        return Kept(found.strip(), {})
    text, key = (found.get("checkpoint"), found.get("publicKey", {})) if isinstance(found, dict) else (None, {})
    if not isinstance(text, str) or not isinstance(key, dict):
        raise _unreadable("it has no text of that name")
    return Kept(text, key)


class KeptFile(NamedTuple):
    """A file with a checkpoint, and what that says."""

    path: Path
    event_count: int
    head_hash: str


def kept_in(directory: Path) -> list[KeptFile]:
    """Returns the checkpoints in the directory (`checkpoint-*.json`), the oldest first. Raises InvalidArgument."""
    from jitaccess.jose.jws import BadToken, decoded

    found = []
    for path in sorted(directory.glob("checkpoint-*.json")):
        try:
            claims = decoded(kept(str(path)).text)[1]
            found.append(KeptFile(path, int(claims["event_count"]), str(claims["head_hash"])))
        except (BadToken, InvalidArgument, KeyError, TypeError, ValueError):
            raise _unreadable(f"{path} is no checkpoint") from None
    if not found:
        raise _unreadable(f"{directory} has no checkpoint-*.json")
    return sorted(found, key=lambda file: file.event_count)


def judge(checkpoint: Kept) -> str:
    """Judges a checkpoint by the key that was kept beside it, where the service does not know that key.

    Raises TokenRefused where that key did not sign it.
    """
    unknown = "the service does not know the key that signed the checkpoint"
    if not checkpoint.public_key:
        return f"{unknown}, and none was kept with it: its signature is not verified"
    try:
        from jitaccess.jose.checkpoints import verify_checkpoint
        from jitaccess.jose.jws import decoded
    except ImportError:
        return f"{unknown}; to verify it by the one kept with it, install jitaccess[tokens]"
    # The service has compared it with its own name.
    issuer = str(decoded(checkpoint.text)[1].get("iss", ""))
    verify_checkpoint(checkpoint.text, checkpoint.public_key, issuer=issuer)
    return f"{unknown}; the one kept with it verifies it"


def _unreadable(why: str) -> InvalidArgument:
    return InvalidArgument(f"the checkpoint cannot be read: {why}", reason="INVALID_FIELD")
