"""The commands on the audit log."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jitaccess.cli import exits
from jitaccess.cli.command import command
from jitaccess.cli.grants import DEFAULT_LIMIT, PAGE_LIMIT, Filter, Limit
from jitaccess.cli.progress import Quiet, bar, last_of
from jitaccess.cli.session import Session
from jitaccess.cli.text import listed

if TYPE_CHECKING:
    from jitaccess import AuditEvent, AuditVerdict, AuditVerification, JitClient
    from jitaccess.cli.checkpoint import Kept, KeptFile
    from jitaccess.cli.screen import Screen


class ExportFormat(StrEnum):
    """What a line of an export is."""

    JITACCESS = "jitaccess"
    CLOUDEVENTS = "cloudevents"
    OCSF = "ocsf"


Format = Annotated[ExportFormat, typer.Option(help="An AuditEvent each, a CloudEvent 1.0, or an event of OCSF.")]
StartSeq = Annotated[int, typer.Option(metavar="SEQ", min=0, help="Only events after this one, to go on with it.")]
EndSeq = Annotated[int, typer.Option(metavar="SEQ", min=0, help="Only events up to this one [default: the last].")]
To = Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write it, once it is whole.")]
Append = Annotated[
    bool,
    typer.Option("--append", help="Add to the file what comes after its last event; a new one begins at the first."),
]
Checkpoint = Annotated[
    str,
    typer.Option(metavar="FILE|DIR|TEXT", help="What `jit audit checkpoint` said then, or a directory of checkpoints."),
]
Archive = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where pruned records were archived: verified with the log, as one chain."),
]
OnlyNew = Annotated[bool, typer.Option("--only-new", help="Recompute only what came after the checkpoint.")]
_COLUMNS = (
    "SEQ",
    "TIME",
    "EVENT",
    "PRINCIPAL",
    "SUBJECT",
    "ACTIONS",
    "RESOURCES",
    "DECISION",
    "REASON",
    "GRANT",
    "LOG-IN",
)
# Of lines that come one by one.
_WIDTHS = (7, 12, 16, 24, 24, 10, 24, 9, 14, 26, 0)


def ls(session: Session, filter: Filter = "", limit: Limit = DEFAULT_LIMIT) -> None:
    """List what was done, newest first."""
    from jitaccess.cli.paging import take
    from jitaccess.contract.calls import audit

    with session.client() as client:
        call = audit.list_audit_events(filter=filter, page_size=limit or PAGE_LIMIT)
        page = take(client, call, all_pages=not limit)

    def show(screen: Screen) -> None:
        rows = [_row(event, screen) for event in page.items]
        screen.listing(_COLUMNS, rows, none="no events", more=bool(page.next_page_token))
        pruned: int = page.raw.pruned_seq  # type: ignore[attr-defined]  # It is a ListAuditEventsResponse.
        if pruned and not page.next_page_token:
            screen.say(f"events 1 to {pruned} were pruned; the log begins with event {pruned + 1}")

    session.answer(page.raw, show)


def show(session: Session, seq: Annotated[int, typer.Argument(metavar="SEQ", min=1, help="Its place.")]) -> None:
    """Show one event with all that its record says."""
    from jitaccess.cli.paging import take
    from jitaccess.contract.calls import audit
    from jitaccess.errors import NotFound

    with session.client() as client:
        page = take(client, audit.list_audit_events(filter=f"seq = {seq}", page_size=1), all_pages=False)
    if not page.items:
        pruned: int = page.raw.pruned_seq  # type: ignore[attr-defined]  # It is a ListAuditEventsResponse.
        gone = f"; events 1 to {pruned} were pruned" if seq <= pruned else ""
        raise NotFound(f"the log has no event {seq}{gone}", reason="EVENT_NOT_FOUND")
    event = page.items[0]
    session.answer(event.raw, lambda screen: screen.fields(_fields(event, screen)))


def tail(session: Session, filter: Filter = "", start_seq: StartSeq = 0) -> None:
    """Print each event as it is recorded, until it is interrupted; where the service goes away, go on once it is back.

    Without --start-seq those that come from now on.
    """
    above: list[tuple[str, ...]] = [_COLUMNS]
    with session.lasting_client() as client:
        for told in client.tail_audit_events(filter=filter, start_seq=start_seq):
            if told.audit_event is not None:
                session.answer_one_of_many(told.raw, partial(_tell, above, told.audit_event))
                above = []


def export(
    session: Session,
    format: Format = ExportFormat.JITACCESS,
    filter: Filter = "",
    start_seq: StartSeq = 0,
    end_seq: EndSeq = 0,
    to: To = None,
    append: Append = False,
) -> None:
    """Write events as lines of JSON, in order, to a file or to the standard output.

    A new file is there whole, or not at all. A job that goes on where it stopped, each night for example:
    jit audit export --to audit.ndjson --append
    """
    from jitaccess.cli import exporting

    if append:
        if to is None or start_seq:
            raise typer.BadParameter("--append goes with --to, and finds by itself where to go on, without --start-seq")
        start_seq = exporting.last_seq(to)
    elif to is not None and start_seq and exporting.holds_something(to):
        raise typer.BadParameter(
            f"{to} is there, and would be replaced by what comes after {start_seq}; --append adds to it",
            param_hint="--to",
        )
    wanted = {"format": str(format), "filter": filter, "start_seq": start_seq, "end_seq": end_seq}
    with session.client() as client:
        parts: Iterable[bytes] = client.export_audit_events(**wanted)  # type: ignore[arg-type]  # Each has its own type.
        if sys.stderr.isatty() and (to is not None or not sys.stdout.isatty()):
            # The export does not say how much there is.
            newest = next(client.list_audit_events(page_size=1), None) if not end_seq else None
            parts = exporting.shown(parts, start_seq, newest.seq if newest is not None else end_seq)
        if to is None:
            exporting.to_stdout(parts)
            return
        count = (exporting.onto_file if append else exporting.to_file)(parts, to)
    said = f"{count} events {'added to' if append else 'in'} {to}"
    session.answer_data({"file": str(to), "eventCount": count}, lambda screen: screen.say(said))


def verify(
    session: Session,
    checkpoint: Checkpoint = "",
    archive: Archive = None,
    only_new: OnlyNew = False,
    quiet: Quiet = False,
) -> None:
    """Recompute the hash chain, and hold it against a checkpoint that was kept elsewhere.

    Exit code 1 says that records were edited, deleted or reordered, or that the store has something that is not as its
    last record says; with a checkpoint, that the log was cut or rewritten, too. With an archive the files are verified
    here, and the log must go on from them; checkpoints of archived records are held against the archive.
    """
    from jitaccess.cli.checkpoint import Kept, kept, kept_in

    if only_new and not checkpoint:
        raise typer.BadParameter("--only-new goes with --checkpoint: new is what came after it")
    files: list[KeptFile] = []
    if os.path.isdir(checkpoint):
        files = kept_in(Path(checkpoint))
        checkpoint = str(files[-1].path)
    held = kept(checkpoint) if checkpoint else Kept("", {})
    if archive is not None:
        _verify_with_archive(session, archive, held, files, only_new=only_new, quiet=quiet)
        return
    with session.client() as client:
        last, verdict = _followed(client.stream_audit_verification(checkpoint=held.text, only_new=only_new), quiet)
        fault = _first_broken(client, files[:-1] if verdict else files, verdict)
    if fault is not None:
        seq, problem = fault
        found = {"valid": False, "firstBadSeq": seq, "problem": problem}
        session.answer_data(found, lambda screen: screen.say(f"NOT VALID at event {seq}: {problem}"))
        raise typer.Exit(exits.NO)
    signature = _signature(verdict, held)
    new = last.checked_count if only_new else None
    session.answer(verdict.raw, lambda screen: _tell_verdict(screen, verdict, signature, new=new))
    if not verdict:
        raise typer.Exit(exits.NO)


def _first_broken(client: JitClient, files: list[KeptFile], verdict: AuditVerdict) -> tuple[int, str] | None:
    """Returns the oldest checkpoint whose record the log has no more as it was, and what is wrong; None if all hold."""
    begin = verdict.beginning.pruned_seq if verdict.beginning is not None else 0
    for file in files:
        if file.event_count <= begin:
            continue
        found = next(client.list_audit_events(filter=f"seq = {file.event_count}", page_size=1), None)
        if found is None:
            return file.event_count, f"the log has no such record, and {file.path} is a checkpoint of it"
        if found.hash != file.head_hash:
            return file.event_count, f"this record or one before it is not as the checkpoint {file.path} says"
    return None


def _verify_with_archive(
    session: Session, directory: Path, held: Kept, files: list[KeptFile], *, only_new: bool, quiet: bool
) -> None:
    from jitaccess.cli import archive as archives

    try:
        span = archives.span_of(directory)
        # The log is held against the end of the archive and what is newer, and the archive against what is older.
        within = span.kept_within(files) if files else span.held_within(held)
        signature = ""
        with session.client() as client:
            _, verdict = _followed(client.stream_audit_verification(checkpoint=span.checkpoint), quiet)
            if held.text and held not in within and verdict:
                told = client.stream_audit_verification(checkpoint=held.text, only_new=only_new)
                _, verdict = _followed(told, quiet)
                signature = _signature(verdict, held)
            newer = [file for file in files[:-1] if verdict and file.event_count > span.last_seq]
            if (fault := _first_broken(client, newer, verdict)) is not None:
                raise archives.NotOneChain(*fault)
        archived = archives.demand_one_chain(directory, verdict, within, quiet=quiet)
    except archives.NotOneChain as fault:
        found = {"valid": False, "firstBadSeq": fault.seq, "problem": fault.problem}
        wrong = f"NOT VALID at event {fault.seq}: {fault.problem}"
        session.answer_data(found, lambda screen: screen.say(wrong))
        raise typer.Exit(exits.NO) from None
    count = "1 file" if archived.files == 1 else f"{archived.files} files"
    said = f"archive: {archived.count} events, {archived.first_seq} to {archived.last.last_seq}, in {count}"

    def show(screen: Screen) -> None:
        screen.say(f"{said}: valid, and the log goes on from it" if verdict else said)
        _tell_verdict(screen, verdict, signature, with_archive=True)

    session.answer(verdict.raw, show)
    if not verdict:
        raise typer.Exit(exits.NO)


def _tell_verdict(
    screen: Screen, verdict: AuditVerdict, signature: str, *, new: int | None = None, with_archive: bool = False
) -> None:
    if verdict:
        of = f"{new} new of " if new is not None else ""
        screen.say(f"valid: {of}{verdict.event_count} events, head {verdict.head_hash}")
    if verdict.first_differing:
        screen.say(f"NOT VALID: {verdict.first_differing} {verdict.difference}")
    if verdict.first_bad_seq:
        screen.say(f"NOT VALID at event {verdict.first_bad_seq}: {verdict.problem}")
    if (beginning := verdict.beginning) is not None:
        seq = beginning.pruned_seq
        hint = "" if with_archive else "; --archive verifies what was before"
        screen.say(
            f"verified from event {seq + 1}, below which the log was pruned at the checkpoint of event {seq}, "
            f"{screen.clock(beginning.prune_time)}{hint}"
        )
    if signature:
        screen.say(signature)


def checkpoint(session: Session) -> None:
    """Sign what the log is now, to be kept elsewhere: `-o json` with the key that verifies it.

    `jit audit verify --checkpoint FILE` shows later whether the log was cut or rewritten.
    """
    with session.client() as client:
        made = client.get_audit_checkpoint()

    def show(screen: Screen) -> None:
        at = screen.clock(made.checkpoint_time)
        screen.say(f"{made.event_count} events, head {made.head_hash}, {at}")
        screen.say(made.checkpoint)

    session.answer(made.raw, show)


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    command(app)(ls)
    command(app)(show)
    command(app)(tail)
    command(app)(export)
    command(app)(verify)
    command(app)(checkpoint)


def _tell(above: Sequence[tuple[str, ...]], event: AuditEvent, screen: Screen) -> None:
    for cells in (*above, _row(event, screen)):
        padded = (cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
        screen.say("  ".join(padded).rstrip())


def _followed(verification: Iterable[AuditVerification], quiet: bool) -> tuple[AuditVerification, AuditVerdict]:
    """Shows how far it is, and returns the last that was told, with its result. Raises Internal where it has none."""
    from jitaccess.errors import Internal

    def line(told: AuditVerification) -> str:
        total = told.event_count - told.start_seq
        return f"{bar(told.checked_count, total)}  {told.checked_count:,} of {total:,} events"

    last = last_of(verification, line, quiet=quiet)
    if last is None or last.result is None:
        raise Internal("the verification ended without a result, so nothing is verified; try again")
    return last, last.result


def _signature(verdict: AuditVerdict, held: Kept) -> str:
    from jitaccess import CheckpointSignature
    from jitaccess.cli.checkpoint import judge

    match verdict.checkpoint_signature:
        case CheckpointSignature.VERIFIED:
            return "the checkpoint is signed by this service"
        case CheckpointSignature.KEY_UNKNOWN:
            return judge(held)
        case _:
            return ""


def _row(event: AuditEvent, screen: Screen) -> tuple[str, ...]:
    from jitaccess.cli.describe import log_in

    return (
        str(event.seq),
        screen.clock(event.event_time),
        event.event_type.value,
        event.principal or "(not proved)",
        event.subject,
        listed(event.actions),
        listed(event.resources),
        event.decision,
        event.reason,
        event.grant.removeprefix("grants/"),
        log_in(event, screen),
    )


def _fields(event: AuditEvent, screen: Screen) -> list[tuple[str, str]]:
    """Returns all that the record says, with labels; what it does not say is empty."""
    from jitaccess.cli.describe import log_in

    left_out = "left out of the token" if event.groups_left_out else ""
    certificate = " ".join(filter(None, (event.client_certificate, event.client_certificate_sha256)))
    return [
        ("event", f"{event.seq}"),
        ("what", event.event_type.value),
        ("time", screen.clock(event.event_time)),
        ("principal", event.principal or "(not proved)"),
        ("logged in by", log_in(event, screen)),
        ("groups", listed(event.groups) or left_out),
        ("subject", event.subject),
        ("actions", "\n".join(event.actions)),
        ("resources", "\n".join(event.resources)),
        ("decision", event.decision),
        ("reason", event.reason),
        ("message", event.message),
        ("for", screen.span(event.duration)),
        ("held for", screen.span(event.held_duration)),
        ("grant", event.grant),
        ("passed on from", "\n".join(event.chain)),
        ("policy", f"{event.policy}, revision {event.policy_revision}" if event.policy_revision else event.policy),
        ("delegation", event.delegation),
        ("proposal", event.proposal),
        ("signal", event.signal),
        ("lock", event.lock),
        ("context", "\n".join(f"{key}={json.dumps(value)}" for key, value in sorted(event.context.items()))),
        ("context of", event.context_of),
        ("address", event.source_address),
        ("subject's address", event.subject_source_ip),
        ("user agent", event.user_agent),
        ("method", event.method),
        ("request_id", event.request_id),
        ("decision_id", event.decision_id),
        ("trace_id", event.trace_id),
        ("token", event.token_id),
        ("issuer", event.issuer),
        ("known there as", event.issuer_subject),
        ("certificate", certificate),
        ("stands for", f"{event.repeat_count} calls" if event.repeat_count else ""),
        ("left out", f"{event.omitted_count} values" if event.omitted_count else ""),
        ("revision", f"{event.revision}" if event.revision else ""),
        ("hash", event.hash),
    ]
