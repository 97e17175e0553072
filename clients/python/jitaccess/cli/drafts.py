"""The commands on policies as code: diff, lint, test and simulate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from jitaccess.cli import exits
from jitaccess.cli.command import command, parsed
from jitaccess.cli.policy import Files, Prune, show_changes
from jitaccess.cli.progress import Quiet, bar, last_of
from jitaccess.cli.session import Session
from jitaccess.cli.text import listed
from jitaccess.naming.duration import parse_span

if TYPE_CHECKING:
    from jitaccess import PolicyTestReport, PolicyTestResult, SimulatedChange, Simulation, SimulationProgress
    from jitaccess.cli.judges import Judge
    from jitaccess.cli.policyfile import Finding, PolicyFiles, Trial
    from jitaccess.cli.screen import Screen

_SIMULATED_COLUMNS = ("TIME", "KIND", "SUBJECT", "ACTIONS", "RESOURCES", "BEFORE", "AFTER", "WHY")

Offline = Annotated[
    bool, typer.Option("--offline", help="Ask no service: the files are all there is. Needs jit-service installed.")
]


def diff(
    session: Session,
    files: Files,
    prune: Prune = False,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no service; compare with --against.")] = False,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="With --offline: the file or directory to compare with; - is stdin. May be repeated."
        ),
    ] = None,
) -> None:
    """Show how the policies there differ from the files.

    With --offline, how those of --against do; grants that would not be given any more are not known then. Exit code
    1 says that they differ.
    """
    from jitaccess.cli import policyfile

    if offline != bool(against):
        raise typer.BadParameter("--offline and --against go together: without a service there must be files")
    loaded = policyfile.read(files).demand_sound()
    with _judge(session, offline=offline, against=against or ()) as judge, _placed(loaded):
        applied = judge.differences(loaded, prune=prune)
    session.answer(applied.raw, lambda screen: show_changes(screen, applied, would=True))
    if any(change.change_type != "UNCHANGED" for change in applied.changes):
        raise typer.Exit(exits.NO)


def lint(session: Session, files: Files, offline: Offline = False) -> None:
    """Say what is wrong with policy files.

    That is fields, names given twice, and what the service refuses. Exit code 1 says that something is. Warnings tell
    of deny policies that forbid less than they look like, of patterns that leave out their root, and of steps that
    only colleagues of the requester can decide; they change no exit code.
    """
    from jitaccess.cli import policyfile
    from jitaccess.errors import InvalidArgument, JitError

    loaded = policyfile.read(files)
    findings, warnings, failure = loaded.findings, loaded.warnings(), None
    try:
        with _judge(session, offline=offline) as judge:
            judge.differences(loaded, prune=False)
    except InvalidArgument as fault:
        if fault.reason == "SERVICE_NOT_INSTALLED":
            raise
        findings = findings + loaded.refused(fault)
    except JitError as error:
        # What the files show without the service is told all the same.
        failure = error
    findings = sorted(findings, key=lambda finding: (finding.path, finding.line))

    def show(screen: Screen) -> None:
        for finding in findings:
            screen.say(str(finding))
        for warning in warnings:
            screen.say(str(replace(warning, fault=f"warning: {warning.fault}")))
        if not findings and not warnings:
            screen.say("nothing is wrong")

    if failure is not None and not findings:
        raise failure
    session.answer_data({"findings": _told(findings), "warnings": _told(warnings)}, show)
    if failure is not None:
        raise failure
    if findings:
        raise typer.Exit(exits.NO)


def try_cases(
    session: Session,
    files: Files,
    prune: Annotated[bool, typer.Option("--prune", help="As if there were no policies but these.")] = False,
    offline: Offline = False,
) -> None:
    """Try policies by the cases beside their files.

    The cases of FILE.yaml are in FILE.test.yaml. Each is judged by all policies of the files, and by those that the
    service has beside them: what another policy denies or is taken for is told. Nothing is changed. Exit code 1
    says that a case came out otherwise than expected.
    """
    from jitaccess.cli import policyfile

    loaded = policyfile.read(files).demand_sound()
    trials = policyfile.trials(files)
    reports = []
    with _judge(session, offline=offline) as judge, _placed(loaded):
        for trial in trials:
            with _placed(trial):
                reports.append((trial, judge.test(trial, loaded, prune=prune)))
    failed = sum(not result for _, report in reports for result in report.results)

    def show(screen: Screen) -> None:
        for trial, report in reports:
            for index, result in enumerate(report.results):
                _show_result(screen, trial, index, result)
        passed = sum(len(report.results) for _, report in reports) - failed
        screen.say(f"{passed} passed, {failed} failed")

    session.answer_data(_test_data(reports, failed), show)
    if failed:
        raise typer.Exit(exits.NO)


def simulate(
    session: Session,
    files: Files,
    prune: Annotated[bool, typer.Option("--prune", help="As if there were no policies but these.")] = False,
    since: Annotated[
        timedelta | None,
        typer.Option(metavar="DURATION", parser=parsed(parse_span), help="How far back: 90m, 12h, 7d [default: 24h]."),
    ] = None,
    most: Annotated[
        int,
        typer.Option("--max", metavar="N", min=0, max=1000, help="Show at most this many changes [default: 100]."),
    ] = 0,
    quiet: Quiet = False,
) -> None:
    """Show what the files would have answered otherwise.

    The recorded requests and checks are decided again. Nothing is changed.
    """
    from jitaccess.cli import policyfile

    loaded = policyfile.read(files).demand_sound()
    start = datetime.now(UTC) - since if since else None
    with session.client() as client, _placed(loaded):
        told = client.stream_policy_simulation(loaded.policies, prune=prune, start_time=start, max_changes=most)
        found = _followed(told, quiet)
    session.answer(found.raw, lambda screen: _show_simulation(screen, found))


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    for function in (diff, lint, simulate):
        command(app)(function)
    command(app, "test")(try_cases)


@contextmanager
def _judge(session: Session, *, offline: bool, against: Sequence[str] = ()) -> Iterator[Judge]:
    """Gives who judges. Raises InvalidArgument for files to compare with that are no policy files."""
    from jitaccess.cli import judges, policyfile

    if not offline:
        with session.client() as client:
            yield judges.Online(client)
        return
    there = policyfile.read(against).demand_sound()
    with _placed(there):
        judges.Offline().differences(there, prune=False)
    yield judges.Offline(there.policies)


@contextmanager
def _placed(source: PolicyFiles | Trial) -> Iterator[None]:
    """Lets what the judge refuses name its place in a file. What is no field of the files goes on as it is."""
    from jitaccess.errors import InvalidArgument

    try:
        yield
    except InvalidArgument as fault:
        raise (source.place(fault) if fault.field_violations else fault) from None


def _told(findings: Sequence[Finding]) -> list[dict[str, object]]:
    return [{"file": finding.path, "line": finding.line, "message": finding.fault} for finding in findings]


def _show_result(screen: Screen, trial: Trial, index: int, result: PolicyTestResult) -> None:
    screen.say(f"{'✓' if result else '✗'} {trial.policy}: {result.display_name or f'case {index + 1}'}")
    for difference in () if result else result.differences:
        screen.say(f"    {trial.path}:{trial.line(index)}: {difference}")
    if not result and result.message:
        screen.say(f"    {result.message}")


def _test_data(reports: Sequence[tuple[Trial, PolicyTestReport]], failed: int) -> dict[str, object]:
    from jitaccess.cli.session import rest_json

    tests = []
    for trial, report in reports:
        lines = [trial.line(index) for index in range(len(report.results))]
        tests.append({"file": trial.path, "policy": trial.policy, "lines": lines, **rest_json(report.raw)})
    return {"tests": tests, "failedCount": failed}


def _followed(simulation: Iterable[SimulationProgress], quiet: bool) -> Simulation:
    """Shows how far it is, and returns the result. Raises Internal where it has none."""
    from jitaccess.errors import Internal

    def line(told: SimulationProgress) -> str:
        judged = f"{told.judged_count:,} of {told.event_count:,} requests and checks"
        # Until the first is judged, they are still looked for.
        return f"{bar(told.judged_count, told.event_count or 1)}  {judged}"

    last = last_of(simulation, line, quiet=quiet)
    if last is None or last.result is None:
        raise Internal("the simulation ended without a result; try again")
    return last.result


def _show_simulation(screen: Screen, found: Simulation) -> None:
    rows = [_simulated_row(change, screen) for change in found.changes]
    judged = f"{found.request_count} requests and {found.check_count} checks"
    if rows:
        screen.table(_SIMULATED_COLUMNS, rows)
    screen.say(f"{found.changed_count} of {judged} would be answered otherwise")
    if found.changed_count > len(rows):
        screen.say(f"... and more than these {len(rows)}; --max N shows more")
    if found.truncate_time:
        screen.say(f"nothing after {screen.clock(found.truncate_time)} was judged; ask for less with --since")


def _simulated_row(change: SimulatedChange, screen: Screen) -> tuple[str, ...]:
    return (
        screen.clock(change.event_time),
        change.kind.value,
        change.subject,
        listed(change.actions),
        listed(change.resources),
        _answer(change.before, change.before_reason),
        _answer(change.after, change.after_reason),
        change.message,
    )


def _answer(answer: str, reason: str) -> str:
    return f"{answer} ({reason})" if reason else answer
