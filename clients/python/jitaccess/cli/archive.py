"""An archive of the audit log at the command line: verified from its files, and held against the log that goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import typer

from jitaccess.cli.checkpoint import Kept, KeptFile, kept
from jitaccess.cli.progress import bar, tell
from jitaccess.extras import needed_for

if TYPE_CHECKING:
    from jitaccess import AuditVerdict
    from jitaccess.jose.archives import Archived


class NotOneChain(Exception):
    """Archive and log are not one whole chain. `seq` is the first record that is missing or wrong."""

    def __init__(self, seq: int, problem: str) -> None:
        super().__init__(problem)
        self.seq = seq
        self.problem = problem


@dataclass(frozen=True, kw_only=True)
class Span:
    """The records that an archive says it has, and the signed checkpoint of the last one."""

    first_seq: int
    last_seq: int
    checkpoint: str

    def held_within(self, held: Kept) -> list[Kept]:
        """Returns the checkpoint if it is not of a later record than the archive has."""
        return [held] if held.text and _count(held) <= self.last_seq else []

    def kept_within(self, files: Iterable[KeptFile]) -> list[Kept]:
        """Returns the checkpoints of records that the archive has."""
        return [kept(str(file.path)) for file in files if self.first_seq <= file.event_count <= self.last_seq]


def span_of(directory: Path) -> Span:
    """Returns what the archive says that it has. Raises NotOneChain, BadParameter for what cannot be read."""
    archives = _archives()
    with _faults(directory):
        listed = archives.manifests(directory)
        if not listed:
            raise archives.ArchiveFault(1, f"{directory} has no manifest of an archive")
        return Span(first_seq=listed[0].first_seq, last_seq=listed[-1].last_seq, checkpoint=listed[-1].checkpoint)


def demand_one_chain(directory: Path, verdict: AuditVerdict, held: Sequence[Kept], *, quiet: bool) -> Archived:
    """Returns the archive once it is verified, alone, with checkpoints of records in it, and with the log.

    Raises NotOneChain, TokenRefused for a checkpoint that its key did not sign.
    """
    beginning = verdict.beginning
    wanted = {beginning.pruned_seq} if beginning is not None else set()
    wanted |= {_count(each) for each in held}
    with _faults(directory):
        archived: Archived = _archives().verify(directory, wanted=wanted, told=_telling(quiet))
    for each in sorted(held, key=_count):
        _demand_held(archived, each)
    if beginning is None:
        return archived
    _demand_beginning_signed(archived, verdict)
    if archived.last.last_seq < beginning.pruned_seq:
        missing = f"{archived.last.last_seq + 1} to {beginning.pruned_seq}"
        raise NotOneChain(
            archived.last.last_seq + 1, f"the records {missing} are neither in the archive nor in the log"
        )
    if beginning.pruned_seq < archived.first_seq:
        raise NotOneChain(beginning.pruned_seq + 1, "the archive begins after the log does")
    if archived.hashes[beginning.pruned_seq] != beginning.hash:
        problem = f"record {beginning.pruned_seq} of the archive is not the one after which the log begins"
        raise NotOneChain(beginning.pruned_seq, problem)
    if beginning.archived_from_seq and archived.first_seq > beginning.archived_from_seq:
        missing = f"{beginning.archived_from_seq} to {archived.first_seq - 1}"
        raise NotOneChain(beginning.archived_from_seq, f"the records {missing} were archived, and no file has them")
    return archived


def _demand_held(archived: Archived, held: Kept) -> None:
    from jitaccess.jose.checkpoints import verify_checkpoint
    from jitaccess.jose.jws import decoded

    if held.public_key:
        verify_checkpoint(held.text, held.public_key, issuer=archived.last.signer)
    count = _count(held)
    if archived.hashes.get(count) != decoded(held.text)[1].get("head_hash"):
        raise NotOneChain(count, f"record {count} of the archive or one before it is not as the checkpoint says")


def _demand_beginning_signed(archived: Archived, verdict: AuditVerdict) -> None:
    from jitaccess.jose.checkpoints import verify_checkpoint

    beginning = verdict.beginning
    if beginning is None:
        return
    signed = verify_checkpoint(beginning.checkpoint, beginning.public_key or {}, issuer=archived.last.signer)
    if (signed.event_count, signed.head_hash) != (beginning.pruned_seq, beginning.hash):
        raise NotOneChain(beginning.pruned_seq, "the signed checkpoint of the log's beginning is of something else")


def _telling(quiet: bool) -> Callable[[int, int], None]:
    def told(done: int, total: int) -> None:
        if not quiet:
            tell("" if done >= total else f"{bar(done, total)}  {done:,} of {total:,} archived events")

    return told


def _count(held: Kept) -> int:
    from jitaccess.jose.jws import BadToken, decoded

    try:
        count = decoded(held.text)[1].get("event_count")
    except BadToken as fault:
        raise typer.BadParameter(f"the checkpoint cannot be read: {fault}", param_hint="--checkpoint") from None
    return count if isinstance(count, int) else 0


def _archives() -> ModuleType:
    with needed_for("an archive of the audit log", "jitaccess[tokens]"):
        from jitaccess.jose import archives
    return archives


@contextmanager
def _faults(directory: Path) -> Iterator[None]:
    """Tells what is wrong with the files of the archive."""
    archives = _archives()
    try:
        yield
    except archives.ArchiveFault as fault:
        raise NotOneChain(fault.seq, fault.problem) from fault
    except OSError as fault:
        raise typer.BadParameter(f"{directory} cannot be read: {fault}", param_hint="--archive") from fault
