"""What people want to know of a grant, in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from jitaccess.model import Grant, GrantState, Preview, PrincipalSet, Review, StepPreview, StepStatus

if TYPE_CHECKING:
    from jitaccess.cli.screen import Screen

LS_COLUMNS = ("ID", "STATE", "SUBJECT", "ACTIONS", "RESOURCES", "FOR", "WHEN")
INBOX_COLUMNS = ("ID", "WHO", "ACTIONS", "RESOURCES", "FOR", "WHY", "TICKET", "MISSING", "LAPSES")


def ls_row(grant: Grant, shown_id: str, screen: Screen) -> tuple[str, ...]:
    """Returns the cells of LS_COLUMNS."""
    return (
        shown_id,
        grant.state.value,
        grant.subject,
        ", ".join(grant.actions),
        ", ".join(grant.resources),
        screen.span(grant.duration),
        standing(grant, screen),
    )


def inbox_row(grant: Grant, shown_id: str, screen: Screen) -> tuple[str, ...]:
    """Returns the cells of INBOX_COLUMNS: what a reviewer needs to decide."""
    return (
        shown_id,
        who(grant),
        ", ".join(grant.actions),
        ", ".join(grant.resources),
        _how_long(grant, screen),
        grant.justification.text,
        grant.justification.ticket,
        missing(grant),
        screen.moment(grant.request_expire_time),
    )


def fields(grant: Grant, screen: Screen) -> list[tuple[str, str]]:
    """Returns all that is known of the grant, labelled; what is not known is empty."""
    return [
        ("grant", grant.name),
        ("state", grant.state.value),
        ("", standing(grant, screen)),
        ("subject", grant.subject),
        ("requester", grant.requester if grant.requester != grant.subject else ""),
        ("actions", "\n".join(grant.actions)),
        ("resources", "\n".join(grant.resources)),
        ("for", _how_long(grant, screen)),
        ("why", grant.justification.text),
        ("ticket", grant.justification.ticket),
        ("policy", f"{grant.policy}, revision {grant.policy_revision}"),
        ("labels", "\n".join(f"{key}={value}" for key, value in sorted(grant.labels.items()))),
        ("asked", screen.clock(grant.create_time)),
        ("approved", screen.clock(grant.approve_time)),
        ("steps", "\n".join(_step(number, step) for number, step in enumerate(grant.steps, 1))),
        ("reviews", "\n".join(_review(review, screen) for review in grant.reviews)),
        ("context", "\n".join(f"{key}={json.dumps(value)}" for key, value in sorted(grant.context.items()))),
        ("etag", grant.etag),
    ]


def preview(found: Preview) -> list[tuple[str, str]]:
    """Returns who could approve a request, labelled, and what is missing."""
    return [
        (
            "could approve",
            "\n".join(_could(number, step) for number, step in enumerate(found.steps, 1)) or "nobody needs to",
        ),
        ("satisfiable", "yes" if found.satisfiable else f"no: {found.shortfall}"),
    ]


def standing(grant: Grant, screen: Screen) -> str:
    """Returns what the state means now: until when, since when, by whom."""
    match grant.state:
        case GrantState.PENDING:
            return f"{missing(grant)}; lapses {screen.moment(grant.request_expire_time)}"
        case GrantState.SCHEDULED:
            return f"starts {screen.moment(grant.start_time)}; ends {screen.clock(grant.expire_time)}"
        case GrantState.ACTIVE:
            return f"until {screen.moment(grant.expire_time)}"
        case GrantState.EXPIRED:
            return f"ended {screen.moment(grant.expire_time)}"
        case GrantState.LAPSED:
            return f"nobody decided by {screen.moment(grant.request_expire_time)}"
        case GrantState.UNKNOWN:
            return "a state that this command is too old to know"
        case _:
            comment = f": {grant.end_comment}" if grant.end_comment else ""
            return f"by {grant.ended_by} {screen.moment(grant.end_time)}{comment}"


def what_next(grant: Grant) -> str:
    """Returns who must act before the grant can be used, or that nobody needs to."""
    if grant.state is GrantState.PENDING:
        number, step = next(
            ((number, step) for number, step in enumerate(grant.steps, 1) if step.approvals_remaining), (0, None)
        )
        return _step(number, step) if step else ""
    if grant.state is GrantState.ACTIVE:
        return "it can be used now"
    return "it can be used once it has started" if grant.state is GrantState.SCHEDULED else ""


def who(grant: Grant) -> str:
    """Returns the subject, with the requester where that is another."""
    return grant.subject if grant.subject == grant.requester else f"{grant.subject} (asked by {grant.requester})"


def missing(grant: Grant) -> str:
    """Returns how many approvals are missing."""
    count = grant.approvals_remaining
    return f"{count} approval{'' if count == 1 else 's'} missing"


def principals(several: PrincipalSet) -> str:
    """Returns who is in the set."""
    return ", ".join([*several.principals, *(f"group {group}" for group in several.groups)]) or "nobody"


def _how_long(grant: Grant, screen: Screen) -> str:
    start = screen.clock(grant.start_time) if grant.start_time and not grant.approve_time else ""
    return f"{screen.span(grant.duration)}, from {start}" if start else screen.span(grant.duration)


def _step(number: int, step: StepStatus) -> str:
    name = f" ({step.display_name})" if step.display_name else ""
    if step.skipped:
        return f"step {number}{name}: not needed here"
    given = step.approvals_needed - step.approvals_remaining
    return f"step {number}{name}: {given} of {step.approvals_needed} approvals, by {principals(step.approvers)}"


def _could(number: int, step: StepPreview) -> str:
    name = f" ({step.display_name})" if step.display_name else ""
    excluded = f"; not {', '.join(step.excluded)}" if step.excluded else ""
    return f"step {number}{name}: {step.approvals_needed} of {principals(step.approvers)}{excluded}"


def _review(review: Review, screen: Screen) -> str:
    comment = f": {review.comment}" if review.comment else ""
    return f"{review.decision} by {review.reviewer}, step {review.step}, {screen.clock(review.create_time)}{comment}"
