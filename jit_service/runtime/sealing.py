"""The sealing keys by the settings, and the note of those that were in effect on this host."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Final

from jit_service.configuration import durable_file
from jit_service.runtime.service_error import ServiceError
from jit_service.settings import Settings
from jit_service.storage.sealing_keys import SealingKeys, Source
from jit_service.use_cases.keyring import KeyFileError, fresh_secrets_by, fresh_secrets_of, make_key_file

NOTE: Final = "sealed"
"""A file in the data directory: the store was sealed. It has the ids of the keys that were in effect, the last last.

With it a host refuses a store that is sealed with a key which was replaced, also after a restart.
"""
_log = logging.getLogger(__name__)


def sealing_keys_of(settings: Settings) -> SealingKeys:
    """Returns the keys that seal the store and the signing keys, and notes which of them come into effect.

    Makes the key file in the data directory if there is none. Raises ServiceError for one that cannot be used.
    """
    note = settings.data_dir / NOTE
    return SealingKeys(_source_with_file(settings), history=_noted(note), on_change=partial(_try_to_note, note))


def known_sealing_keys_of(settings: Settings) -> SealingKeys:
    """As `sealing_keys_of`, for whoever only looks: notes nothing."""
    return SealingKeys(_source_with_file(settings), history=_noted(settings.data_dir / NOTE))


def any_sealing_keys_of(settings: Settings) -> SealingKeys:
    """As `known_sealing_keys_of`, and accepts a key that was replaced: for a restored store, which nobody uses yet."""
    return SealingKeys(_source_with_file(settings))


def source_of(settings: Settings) -> Source:
    """Returns what gives the keys, from the key file or the key command. Raises KeyFileError."""
    return fresh_secrets_by(settings.key_command) if settings.key_command else fresh_secrets_of(settings.key_path)


def note_in_effect(settings: Settings, key_id: str) -> None:
    """Notes that this key is in effect, and that all others are not. Raises OSError."""
    _note(settings.data_dir / NOTE, key_id)


def _note(note: Path, key_id: str) -> None:
    noted = _noted(note)
    if noted[-1:] != [key_id]:
        lines = [*(each for each in noted if each != key_id), key_id]
        durable_file.write(note, "".join(f"{line}\n" for line in lines).encode())


def _try_to_note(note: Path, key_id: str) -> None:
    try:
        _note(note, key_id)
    except OSError as fault:
        _log.warning("%s: cannot note which sealing key is in effect: %s", note, fault.strerror)


def _noted(note: Path) -> list[str]:
    try:
        return note.read_text(encoding="ascii").split()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as fault:
        raise ServiceError(f"{note}, the note of the sealing keys, cannot be read: {type(fault).__name__}") from fault


def _source_with_file(settings: Settings) -> Source:
    try:
        # One that is named is made by whoever shares it among the hosts.
        if not settings.key_command and settings.key_file is None:
            make_key_file(settings.key_path)
        return source_of(settings)
    except (KeyFileError, OSError) as fault:
        raise ServiceError(str(fault)) from fault
