"""Writes archives of the audit log: a compressed file of records, then its manifest, each whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from jit_service.configuration import durable_file
from jit_service.domain.errors import StoreUnavailable
from jitaccess.jose import archives
from jitaccess.jose.archives import ArchiveFault, Manifest

# Records that are pruned are compressed in the background; the next levels win 3 % for twice the time.
_LEVEL: Final = 6


def write_records(directory: Path, first_seq: int, records: list[bytes]) -> tuple[str, str]:
    """Writes the file of the records, the first of which has `first_seq`. Returns its name and SHA-256 in hex.

    Raises OSError.
    """
    for left in directory.glob(f"*{durable_file.PART}"):
        # Of a process that was killed while it wrote: only one process archives at a time.
        left.unlink(missing_ok=True)
    lines = b"".join(archives.line(seq, record) for seq, record in enumerate(records, start=first_seq))
    content = gzip.compress(lines, _LEVEL, mtime=0)
    name = archives.stem(first_seq, first_seq + len(records) - 1) + archives.RECORDS
    durable_file.write(directory / name, content)
    return name, hashlib.sha256(content).hexdigest()


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Writes the manifest of a file that is there; with it the file counts as archived. Raises OSError."""
    name = manifest.file.removesuffix(archives.RECORDS) + archives.MANIFEST
    durable_file.write(directory / name, manifest.text().encode())


def archived_after(directory: Path, seq: int, hash_: str, known: Mapping[int, str]) -> Manifest | None:
    """Returns the manifest of a file that was archived after the record, and whose records were not pruned yet.

    `hash_` is that of the record, and `known` are the hashes of later records, in hex, by seq. Raises StoreUnavailable
    for a file that is damaged or has other records than the log, OSError.
    """
    for path in sorted(directory.glob(f"audit-{seq + 1:012}-*{archives.MANIFEST}")):
        try:
            manifest = archives.read_manifest(path)
            for _ in archives.chained(directory / manifest.file, manifest):
                pass
        except ArchiveFault as fault:
            raise StoreUnavailable(f"the archive {directory} is not whole: {fault}; move it away, or mend it") from None
        if manifest.previous_hash != hash_ or known.get(manifest.last_seq, manifest.last_hash) != manifest.last_hash:
            raise StoreUnavailable(f"{path} has other records than the log; move it away, and find out why")
        return manifest
    return None
