"""Archives of the audit log: what the service writes before it prunes, and how anybody verifies it without the service.

A directory has, for each range of records, `audit-FIRST-LAST.ndjson.gz` and `audit-FIRST-LAST.manifest.json`. A line of
the first is `{"seq":N,"record":R}`, where R is the record's bytes as they were hashed. The chain is that of the log
(ADR 3): SHA-256 over the previous hash, seq as 8 bytes big-endian, and R. The manifest has a signed checkpoint of the
last record, so that the chain shows what anybody changed, left out or put elsewhere.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, Final

from jitaccess._error import Misconfigured
from jitaccess.jose.checkpoints import read_checkpoint
from jitaccess.jose.keys import GivenKeys
from jitaccess.jose.refusal import TokenRefused

FORMAT: Final = "jitaccess-audit-archive/1"
GENESIS: Final = bytes(32).hex()
MANIFEST: Final = ".manifest.json"
RECORDS: Final = ".ndjson.gz"
_NAME: Final = re.compile(r"audit-\d{12,19}-\d{12,19}\.manifest\.json")
_MAX_LINE: Final = 1 << 20
_MAX_MANIFEST: Final = 1 << 20
_TOLD_EVERY: Final = 10_000


class ArchiveFault(Exception):
    """The archive is not what was archived. `seq` is the first record that is missing or wrong."""

    def __init__(self, seq: int, problem: str) -> None:
        super().__init__(problem)
        self.seq = seq
        self.problem = problem


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What one file has: the records from `first_seq` to `last_seq`. Hashes and `sha256`, the file's, are in hex.

    `previous_hash` is that of the record before. `checkpoint` is the signed checkpoint of the last record, `public_key`
    the JWK that verifies it, and `signer` the issuer that signed it.
    """

    file: str
    sha256: str
    first_seq: int
    last_seq: int
    count: int
    previous_hash: str
    first_hash: str
    last_hash: str
    first_time: str
    last_time: str
    signer: str
    checkpoint: str
    public_key: Mapping[str, Any] = field(default_factory=dict)
    format: str = FORMAT

    def text(self) -> str:
        """Returns the manifest as its file has it."""
        return json.dumps(asdict(self), indent=2) + "\n"


@dataclass(frozen=True, kw_only=True)
class Archived:
    """An archive that was found whole. `hashes` are those of the records that were asked for, by seq."""

    first_seq: int
    last: Manifest
    count: int
    files: int
    hashes: Mapping[int, str]


def stem(first_seq: int, last_seq: int) -> str:
    """Returns the name of the files of a range, without what they end in; names sort as the ranges do."""
    return f"audit-{first_seq:012}-{last_seq:012}"


def line(seq: int, record: bytes) -> bytes:
    """Returns the line of a record."""
    return _before(seq) + record + b"}\n"


def manifests(directory: Path) -> list[Manifest]:
    """Returns the manifests in the directory, in the order of their ranges. Raises ArchiveFault, OSError."""
    found = [read_manifest(path) for path in directory.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda manifest: (manifest.first_seq, manifest.last_seq))


def read_manifest(path: Path) -> Manifest:
    """Returns the manifest in the file. Raises ArchiveFault for one that is none, OSError."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MAX_MANIFEST))
        known = {each.name for each in fields(Manifest)}
        manifest = Manifest(**{name: value for name, value in found.items() if name in known})
    except (ValueError, TypeError, AttributeError) as fault:
        raise ArchiveFault(_first_of(path), f"{path.name} is not a manifest: {type(fault).__name__}") from None
    if manifest.format != FORMAT:
        raise ArchiveFault(_first_of(path), f"{path.name} is of the format {manifest.format!r}, not {FORMAT}")
    wanted = f"{stem(manifest.first_seq, manifest.last_seq)}{RECORDS}" if _has_numbers(manifest) else ""
    if manifest.file != wanted or path.name != manifest.file.removesuffix(RECORDS) + MANIFEST:
        raise ArchiveFault(_first_of(path), f"{path.name} does not tell of the file of its own name")
    return manifest


def verify(
    directory: Path, *, wanted: Collection[int] = (), told: Callable[[int, int], None] = lambda *_: None
) -> Archived:
    """Recomputes the chain through all files of the archive, and holds each end against its signed checkpoint.

    `told` is called now and then with how many records were read and how many there are. Raises ArchiveFault for the
    first place that is wrong, OSError for a directory that cannot be read. That nothing is missing before the first or
    after the last file, only the log tells that goes on from the last one.
    """
    listed = manifests(directory)
    if not listed:
        raise ArchiveFault(1, f"{directory} has no manifest of an archive")
    total = sum(manifest.count for manifest in listed)
    done, previous, last_seq = 0, listed[0].previous_hash, listed[0].first_seq - 1
    if last_seq == 0 and previous != GENESIS:
        raise ArchiveFault(1, f"{listed[0].file} does not begin where the log began")
    hashes: dict[int, str] = {}
    for manifest in listed:
        if manifest.first_seq != last_seq + 1:
            raise ArchiveFault(last_seq + 1, _gap(manifest, last_seq))
        if manifest.previous_hash != previous:
            raise ArchiveFault(manifest.first_seq, f"{manifest.file} does not go on from the record before it")
        for seq, hash_ in chained(directory / manifest.file, manifest):
            previous, last_seq, done = hash_, seq, done + 1
            if seq in wanted:
                hashes[seq] = hash_
            if done % _TOLD_EVERY == 0:
                told(done, total)
        _demand_signed(manifest)
    told(done, total)
    return Archived(first_seq=listed[0].first_seq, last=listed[-1], count=done, files=len(listed), hashes=hashes)


def chained(path: Path, manifest: Manifest) -> Iterator[tuple[int, str]]:
    """Yields seq and hash of each record of the file, recomputed. Raises ArchiveFault unless all is as it says."""
    seq, previous = manifest.first_seq - 1, manifest.previous_hash
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            for record in _records(file, path.name, manifest.first_seq):
                seq += 1
                previous = _link(previous, seq, record)
                if seq == manifest.first_seq and previous != manifest.first_hash:
                    raise ArchiveFault(seq, f"record {seq} in {path.name} is not what was archived")
                yield seq, previous
    except FileNotFoundError:
        raise ArchiveFault(manifest.first_seq, f"{path.name} is missing") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as fault:
        raise ArchiveFault(seq + 1, f"{path.name} is damaged: {fault}") from None
    if seq != manifest.last_seq or seq - manifest.first_seq + 1 != manifest.count:
        raise ArchiveFault(seq + 1, f"{path.name} has records up to {seq}; there were some up to {manifest.last_seq}")
    if previous != manifest.last_hash:
        raise ArchiveFault(manifest.first_seq, f"one of the records in {path.name} is not what was archived")
    if digest != manifest.sha256:
        raise ArchiveFault(manifest.first_seq, f"{path.name} is not the file that was written: its SHA-256 is {digest}")


def _records(file: BinaryIO, name: str, first: int) -> Iterator[bytes]:
    with gzip.open(file) as lines:
        seq = first
        while found := lines.readline(_MAX_LINE):
            before = _before(seq)
            if not found.startswith(before) or not found.endswith(b"}\n"):
                raise ArchiveFault(seq, f"{name} has something else in the place of record {seq}")
            yield found[len(before) : -2]
            seq += 1


def _demand_signed(manifest: Manifest) -> None:
    """Raises ArchiveFault unless the manifest's checkpoint says what the chain says, by the key beside it."""
    try:
        keys = GivenKeys({"keys": [dict(manifest.public_key)]})
        read = read_checkpoint(manifest.checkpoint, keys, issuer=manifest.signer)
    except (TokenRefused, Misconfigured) as fault:
        raise ArchiveFault(manifest.last_seq, f"the checkpoint of {manifest.file}: {fault}") from None
    if not read.is_verified or (read.event_count, read.head_hash) != (manifest.last_seq, manifest.last_hash):
        raise ArchiveFault(manifest.last_seq, f"the checkpoint of {manifest.file} is of something else, or not signed")


def _gap(manifest: Manifest, last_seq: int) -> str:
    if manifest.first_seq <= last_seq:
        return f"{manifest.file} has records that the file before it has too"
    return f"the records {last_seq + 1} to {manifest.first_seq - 1} are missing: no file has them"


def _link(previous: str, seq: int, record: bytes) -> str:
    return hashlib.sha256(bytes.fromhex(previous) + seq.to_bytes(8, "big") + record).hexdigest()


def _before(seq: int) -> bytes:
    return b'{"seq":%d,"record":' % seq


def _has_numbers(manifest: Manifest) -> bool:
    return type(manifest.first_seq) is int and type(manifest.last_seq) is int and manifest.first_seq > 0


def _first_of(path: Path) -> int:
    return int(path.name.split("-")[1])
