"""The facts of a grant, in words for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from jitaccess.cli.text import listed, quoted
from jitaccess.contract.model import (
    AccessTerms,
    AuditEvent,
    CounterOffer,
    ExtensionState,
    Grant,
    GrantExtension,
    GrantState,
    Preview,
    PrincipalSet,
    Review,
    StepPreview,
    StepStatus,
)

if TYPE_CHECKING:
    from jitaccess.cli.screen import Screen

LS_COLUMNS = ("ID", "STATE", "SUBJECT", "ACTIONS", "RESOURCES", "FOR", "WHEN")
INBOX_COLUMNS = ("ID", "WHO", "ACTIONS", "RESOURCES", "FOR", "WHY", "TICKET", "MISSING", "LAPSES", "ETAG")
DEBT_COLUMNS = ("ID", "WHO", "TAKEN", "ACTIONS", "RESOURCES", "WHY", "TICKET", "REVIEW")


def ls_row(grant: Grant, shown_id: str, screen: Screen) -> tuple[str, ...]:
    """Returns the cells of LS_COLUMNS."""
    return (
        shown_id,
        grant.state.value,
        grant.subject,
        listed(grant.actions),
        listed(grant.resources),
        screen.span(grant.duration),
        standing(grant, screen),
    )


def inbox_row(grant: Grant, shown_id: str, screen: Screen) -> tuple[str, ...]:
    """Returns the cells of INBOX_COLUMNS: what a reviewer needs to decide on the grant, or on more time."""
    more = awaited_extension(grant)
    why, lapse = (
        (more.justification, more.request_expire_time) if more else (grant.justification, grant.request_expire_time)
    )
    return (
        shown_id,
        who(grant),
        listed(grant.actions),
        listed(grant.resources),
        f"{screen.span(more.duration)} more" if more else _how_long(grant, screen),
        why.text,
        why.ticket,
        missing(grant),
        screen.moment(lapse),
        grant.etag,
    )


def debt_row(grant: Grant, shown_id: str, screen: Screen) -> tuple[str, ...]:
    """Returns the cells of DEBT_COLUMNS: what a reviewer of a break-glass use needs to know."""
    return (
        shown_id,
        who(grant),
        screen.clock(grant.start_time),
        listed(grant.actions),
        listed(grant.resources),
        grant.justification.text,
        grant.justification.ticket,
        reviewed(grant, screen),
    )


def fields(grant: Grant, screen: Screen) -> list[tuple[str, str]]:
    """Returns the facts of the grant with their labels; one that is not known is empty."""
    return [
        ("grant", grant.name),
        ("state", grant.state.value),
        ("", standing(grant, screen)),
        ("subject", grant.subject),
        ("requester", grant.requester if grant.requester != grant.subject else ""),
        ("actions", "\n".join(grant.actions)),
        ("resources", "\n".join(grant.resources)),
        ("for", _how_long(grant, screen)),
        ("asked for", terms(grant.requested, screen) if grant.requested else ""),
        ("offered", offer(grant.counter_offer, screen) if grant.counter_offer else ""),
        ("more time", extension(grant.extension, screen) if grant.extension else ""),
        ("extended", _times(grant.extension_count)),
        ("uses", _uses(grant, screen)),
        ("unless idle for", screen.span(grant.idle_timeout)),
        ("why", grant.justification.text),
        ("ticket", grant.justification.ticket),
        ("break-glass", reviewed(grant, screen)),
        ("passed on from", "\n".join(grant.chain) or grant.parent),
        ("policy", f"{grant.policy}, revision {grant.policy_revision}"),
        ("labels", "\n".join(f"{key}={value}" for key, value in sorted(grant.labels.items()))),
        ("asked", screen.clock(grant.create_time)),
        ("approved", screen.clock(grant.approve_time)),
        ("steps", "\n".join(_step(number, step, screen) for number, step in enumerate(grant.steps, 1))),
        ("reviews", "\n".join(_review(review, screen) for review in grant.reviews)),
        ("context", "\n".join(f"{key}={json.dumps(value)}" for key, value in sorted(grant.context.items()))),
        ("etag", grant.etag),
    ]


def terms(given: AccessTerms, screen: Screen) -> str:
    """Returns what access is given, for how long and from when."""
    words = [f"{', '.join(given.actions)} on {', '.join(given.resources)}"]
    words += [f"for {screen.span(given.duration)}"] if given.duration is not None else []
    words += [f"from {screen.clock(given.start_time)}"] if given.start_time else []
    return " ".join(words)


def given(grant: Grant, screen: Screen) -> str:
    """Returns what the grant gives, or would give."""
    start = grant.start_time if grant.requested and grant.start_time != grant.requested.start_time else None
    now = AccessTerms(resources=grant.resources, actions=grant.actions, duration=grant.duration, start_time=start)
    return terms(now, screen)


def offer(made: CounterOffer, screen: Screen) -> str:
    """Returns what a reviewer offers instead."""
    comment = f": {made.comment}" if made.comment else ""
    return f"{terms(made.terms, screen)}, by {made.reviewer} {screen.clock(made.create_time)}{comment}"


def approved(grant: Grant, screen: Screen) -> str:
    """Returns what an approval of the grant, or of more time for it, was for."""
    if grant.extension is not None:
        more = f"{screen.span(grant.extension.duration)} more of"
        return f"approved: {more} {', '.join(grant.actions)} on {', '.join(grant.resources)}, for {grant.subject}"
    start = grant.start_time if grant.state in (GrantState.PENDING, GrantState.SCHEDULED) else None
    given = AccessTerms(resources=grant.resources, actions=grant.actions, duration=grant.duration, start_time=start)
    return f"approved: {terms(given, screen)}, for {grant.subject}"


def extension(asked: GrantExtension, screen: Screen) -> str:
    """Returns how far a request for more time is."""
    length = screen.span(asked.duration)
    if asked.requested_duration is not None:
        length += f" (asked {screen.span(asked.requested_duration)})"
    why = f" ({asked.justification.text})" if asked.justification.text else ""
    lapses = f"; lapses {screen.moment(asked.request_expire_time)}" if asked.state is ExtensionState.PENDING else ""
    return f"{length}, asked by {asked.requester} {screen.clock(asked.create_time)}{why}: {asked.state.value}{lapses}"


def awaited_extension(grant: Grant) -> GrantExtension | None:
    """Returns the request for more time that waits for a decision, if one does."""
    return grant.extension if grant.extension and grant.extension.state is ExtensionState.PENDING else None


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
    """Returns the state in words: until when it lasts, since when it is, and who caused it."""
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


def what_next(grant: Grant, screen: Screen) -> str:
    """Returns who must act before the grant can be used, or have more time, or that nobody needs to."""
    awaited = next(
        (_step(number, step, screen) for number, step in enumerate(grant.steps, 1) if step.approvals_remaining), ""
    )
    if grant.state is GrantState.PENDING:
        if grant.counter_offer is None:
            return awaited
        answers = f"`jit accept {grant.id}` or `jit decline {grant.id}`"
        return f"{answers} answers the offer of {terms(grant.counter_offer.terms, screen)}"
    if grant.state not in (GrantState.SCHEDULED, GrantState.ACTIVE):
        return ""
    more = f"; more time waits for {awaited}" if awaited and awaited_extension(grant) else ""
    return f"it can be used {'now' if grant.state is GrantState.ACTIVE else 'once it has started'}{more}"


def awaited(grant: Grant, screen: Screen) -> str:
    """Returns what a grant that cannot be used yet, or more time for it, waits for: who decides, and until when."""
    more = awaited_extension(grant)
    if more is None and grant.state is GrantState.SCHEDULED:
        return f"{grant.name}: it {standing(grant, screen)}"
    lapses = screen.moment((more or grant).request_expire_time)
    step = next(
        (_step(number, one, screen) for number, one in enumerate(grant.steps, 1) if one.approvals_remaining), ""
    )
    if more is None and grant.counter_offer is not None:
        return f"{grant.name}: {what_next(grant, screen)}; the request lapses {lapses}"
    asked = f"more time for {grant.name}" if more else grant.name
    return f"{asked}: {step or missing(grant)}; the request lapses {lapses}; approve it with: jit approve {grant.id}"


def reviewed(grant: Grant, screen: Screen) -> str:
    """Returns whether a break-glass use still owes its review, and since when that is overdue."""
    if not grant.break_glass:
        return ""
    if grant.use_review is not None:
        review = grant.use_review
        return f"reviewed by {review.reviewer} {screen.clock(review.create_time)}: {review.comment}"
    due = grant.review_due_time
    return f"{'OVERDUE since' if due and due <= screen.now else 'review due'} {screen.moment(due)}"


def who(grant: Grant) -> str:
    """Returns the subject, with the requester where that is another."""
    return grant.subject if grant.subject == grant.requester else f"{grant.subject} (asked by {grant.requester})"


def missing(grant: Grant) -> str:
    """Returns how many approvals are missing."""
    count = grant.approvals_remaining
    return f"{count} approval{'' if count == 1 else 's'} missing"


def principals(several: PrincipalSet) -> str:
    """Returns who is in the set."""
    groups = (f"group {quoted(group)}" for group in several.groups)
    return ", ".join([*map(quoted, several.principals), *groups]) or "nobody"


def _how_long(grant: Grant, screen: Screen) -> str:
    start = screen.clock(grant.start_time) if grant.start_time and not grant.approve_time else ""
    return f"{screen.span(grant.duration)}, from {start}" if start else screen.span(grant.duration)


def _times(count: int) -> str:
    return f"{count} time{'' if count == 1 else 's'}" if count else ""


def _uses(grant: Grant, screen: Screen) -> str:
    last = f", last {screen.moment(grant.last_use_time)}" if grant.last_use_time else ""
    if grant.max_uses:
        return f"{grant.uses} of {grant.max_uses}{last}"
    return f"{grant.uses}{last}" if grant.uses else ""


def _step(number: int, step: StepStatus, screen: Screen) -> str:
    name = f" ({step.display_name})" if step.display_name else ""
    if step.skipped:
        return f"step {number}{name}: not needed here"
    given = step.approvals_needed - step.approvals_remaining
    needs = f"step {number}{name}: {given} of {step.approvals_needed} approvals, by {principals(step.approvers)}"
    return needs + _due(step, screen)


def _due(step: StepStatus, screen: Screen) -> str:
    """Returns what happens, or has happened, at the timeout of the step."""
    others = principals(step.escalate_to) if step.escalate_to else ""
    if step.escalated:
        return f", and since {screen.clock(step.due_time)} by {others}"
    if step.due_time is None:
        return f", after its time by {others} too" if others and step.approvals_remaining else ""
    becomes = f"goes to {others} too" if others else "lapses"
    return f"; {becomes} {screen.moment(step.due_time)}"


def _could(number: int, step: StepPreview) -> str:
    name = f" ({step.display_name})" if step.display_name else ""
    excluded = f"; not {', '.join(step.excluded)}" if step.excluded else ""
    only = f"; only where {step.condition}" if step.condition else ""
    return f"step {number}{name}: {step.approvals_needed} of {principals(step.approvers)}{excluded}{only}"


def _review(review: Review, screen: Screen) -> str:
    reviewer = f"{review.reviewer} for {review.on_behalf_of}" if review.on_behalf_of else review.reviewer
    what = f"step {review.step}" + (f" of extension {review.round}" if review.round else "")
    edit = f", giving {terms(review.terms, screen)}" if review.terms else ""
    comment = f": {review.comment}" if review.comment else ""
    by = log_in(review, screen)
    logged_in = f", logged in by {by}" if by else ""
    return f"{review.decision} by {reviewer}, {what}, {screen.clock(review.create_time)}{edit}{logged_in}{comment}"


def log_in(of: Review | AuditEvent, screen: Screen) -> str:
    """Returns how whoever decided had logged in, as far as that is kept; nothing where it is not."""
    words = [f"acr {of.acr}"] if of.acr else []
    words += [f"amr {' '.join(of.amr)}"] if of.amr else []
    words += [f"at {screen.clock(of.auth_time)}"] if of.auth_time else []
    return ", ".join(words)
