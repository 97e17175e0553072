"""The commands on policies as code: what differs, what is wrong, what comes out, what would have come out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from jitaccess.cli import exits
from jitaccess.cli.command import command, parsed
from jitaccess.cli.policy import Files, Prune, show_changes
from jitaccess.cli.session import Session
from jitaccess.cli.text import listed
from jitaccess.naming.duration import parse_span

if TYPE_CHECKING:
    from jitaccess import JitClient, PolicyTestReport, PolicyTestResult, SimulatedChange, Simulation
    from jitaccess.cli.policyfile import Finding, Linted, Place, Trial
    from jitaccess.cli.screen import Screen

_SIMULATED_COLUMNS = ("TIME", "KIND", "SUBJECT", "ACTIONS", "RESOURCES", "BEFORE", "AFTER", "WHY")
_INDEX = re.compile(r"policies\[([0-9]+)\]\.?(.*)")


def diff(session: Session, files: Files, prune: Prune = False) -> None:
    """Show how the policies there differ from the files.

    Exit code 1 says that they differ.
    """
    from jitaccess.cli import policyfile

    policies = policyfile.read(files)
    with session.client() as client:
        applied = client.apply_policies(policies, prune=prune, validate_only=True)
    session.answer(applied.raw, lambda screen: show_changes(screen, applied, would=True))
    if any(change.change_type != "UNCHANGED" for change in applied.changes):
        raise typer.Exit(exits.NO)


def lint(
    session: Session,
    files: Files,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the service.")] = False,
) -> None:
    """Say what is wrong with policy files.

    That is fields, names given twice, and what the service refuses. Exit code 1 says that something is. Of deny
    policies whose patterns forbid less than they look like there is a warning, which changes no exit code.
    """
    from jitaccess.cli import policyfile

    linted = policyfile.lint(files)
    findings = linted.findings
    if not findings and not offline:
        with session.client() as client:
            findings = _refused(client, linted)

    def show(screen: Screen) -> None:
        for finding in findings:
            screen.say(str(finding))
        for warning in linted.warnings:
            screen.say(str(replace(warning, fault=f"warning: {warning.fault}")))
        if not findings and not linted.warnings:
            screen.say("nothing is wrong")

    session.answer_data({"findings": _told(findings), "warnings": _told(linted.warnings)}, show)
    if findings:
        raise typer.Exit(exits.NO)


def test(session: Session, files: Files) -> None:
    """Try policies by the cases beside their files.

    The cases of FILE.yaml are in FILE.test.yaml. Nothing is changed. Exit code 1 says that a case came out
    otherwise than expected.
    """
    from jitaccess.cli import policyfile

    trials = [trial for path in files for trial in policyfile.trials(path)]
    with session.client() as client:
        reports = [(trial, client.test_policy(trial.policy.name, trial.cases, policy=trial.policy)) for trial in trials]
    failed = sum(not result for _, report in reports for result in report.results)

    def show(screen: Screen) -> None:
        for trial, report in reports:
            for number, result in enumerate(report.results, 1):
                _show_result(screen, trial, number, result)
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
) -> None:
    """Show what the files would have answered otherwise.

    The recorded requests and checks are decided again. Nothing is changed.
    """
    from jitaccess.cli import policyfile

    policies = policyfile.read(files)
    start = datetime.now(UTC) - since if since else None
    with session.client() as client:
        found = client.simulate_policies(policies, prune=prune, start_time=start, max_changes=most)
    session.answer(found.raw, lambda screen: _show_simulation(screen, found))


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    for function in (diff, lint, test, simulate):
        command(app)(function)


def _refused(client: JitClient, linted: Linted) -> tuple[Finding, ...]:
    """Returns what the service finds wrong with the policies."""
    from jitaccess.errors import InvalidArgument

    try:
        client.apply_policies(linted.policies, validate_only=True)
    except InvalidArgument as fault:
        violations = [(item.field, item.description) for item in fault.field_violations] or [("", fault.message)]
        return tuple(_placed(field, words, linted.places) for field, words in violations)
    return ()


def _told(findings: Sequence[Finding]) -> list[dict[str, object]]:
    return [{"file": finding.path, "line": finding.line, "message": finding.fault} for finding in findings]


def _placed(field: str, words: str, places: Sequence[Place]) -> Finding:
    from jitaccess.cli.policyfile import Finding

    match = _INDEX.fullmatch(field)
    if match is None or int(match[1]) >= len(places):
        return Finding(path=places[0].path if places else "-", line=0, fault=f"{field}: {words}" if field else words)
    place = places[int(match[1])]
    return Finding(path=place.path, line=place.line, fault=f"{match[2]}: {words}" if match[2] else words)


def _show_result(screen: Screen, trial: Trial, number: int, result: PolicyTestResult) -> None:
    screen.say(f"{'✓' if result else '✗'} {trial.policy.name}: {result.display_name or f'case {number}'}")
    for difference in () if result else result.differences:
        screen.say(f"    {difference}")
    if not result and result.message:
        screen.say(f"    {result.message}")


def _test_data(reports: Sequence[tuple[Trial, PolicyTestReport]], failed: int) -> dict[str, object]:
    from jitaccess.cli.session import rest_json

    tests = [{"file": trial.path, "policy": trial.policy.name, **rest_json(report.raw)} for trial, report in reports]
    return {"tests": tests, "failedCount": failed}


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
