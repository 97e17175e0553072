"""What a notification says to people: a title, facts, somebody's words and one link, whatever the channel.

Whoever asks for access or decides writes some of the text. Here it loses what would deceive: controls and bidi
characters are shown as escapes, the schemes of links are broken, long texts are cut visibly. Escaping for a format is
each channel's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from jit_service.configuration.forms import shown_span
from jit_service.domain.audit.event import SERVICE, Event
from jit_service.domain.grants.grant import ExtensionState, Grant, GrantState, Review
from jit_service.domain.grants.quorum import current_step
from jit_service.domain.notification import Message
from jitaccess.naming.printable import safe, safe_lines

LONGEST_TITLE: Final = 140
LONGEST_FACT: Final = 400
LONGEST_WORDS: Final = 1500
_LISTED: Final = 3
"""How many resources or actions a title and a fact name."""
_LINK: Final = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}):(?=//)|\b(mailto|javascript|data|tel):(?=\S)|\bwww\.")
_CUT: Final = " … (shortened)"


class Urgency(StrEnum):
    """How soon somebody should look."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, kw_only=True)
class Notice:
    """What is said. `words` are somebody's own, and may have several lines. `about` is the grant's, lock's … name.

    `settled`: nobody is waited for any more. `anew`: people should look again, though they were told of it before.
    """

    id: str
    event: str
    at: datetime
    title: str
    facts: tuple[tuple[str, str], ...]
    words: str
    words_label: str
    link: str
    about: str
    urgency: Urgency
    settled: bool
    anew: bool


def notice_of(message: Message, console: str) -> Notice:
    """Returns what the message says. `console` is the URL below which the console's pages are, without a last slash."""
    if message.crowd:
        return _digest(message, console)
    event, grant = message.recorded.event, message.grant
    label, words = _words(event, grant)
    return Notice(
        id=message.id,
        event=event.type.value,
        at=event.at,
        title=_shortened(_one_line(_title(message)), LONGEST_TITLE),
        facts=tuple((label, _shortened(_one_line(value), LONGEST_FACT)) for label, value in _facts(message) if value),
        words=_shortened(_unlinked(safe_lines(words)).strip(), LONGEST_WORDS),
        words_label=label,
        link=f"{console}/console/{event.grant}" if event.grant else f"{console}/console/",
        about=event.grant or event.lock or event.policy or event.delegation or event.proposal or message.id,
        urgency=_URGENCY.get(event.type.value, Urgency.INFO),
        settled=_is_settled(event, grant, message.at),
        anew=event.type.value in _ANEW,
    )


def _digest(message: Message, console: str) -> Notice:
    """Returns what a crowd of messages says: each title in a line, and one link to the console."""
    notices = [notice_of(each, console) for each in (replace(message, crowd=()), *message.crowd)]
    return Notice(
        # Another crowd at another attempt is another mail.
        id=f"{notices[0].id}.{notices[-1].id}",
        event=notices[0].event,
        at=max(notice.at for notice in notices),
        title=f"{len(notices)} messages about access",
        facts=(),
        words="\n".join(notice.title for notice in notices),
        words_label="What happened",
        link=f"{console}/console/",
        about=message.id,
        urgency=Urgency.WARNING if any(notice.urgency is not Urgency.INFO for notice in notices) else Urgency.INFO,
        settled=all(notice.settled for notice in notices),
        anew=True,
    )


_URGENCY: Final = {
    "BREAK_GLASS_USED": Urgency.CRITICAL,
    "REVIEW_OVERDUE": Urgency.CRITICAL,
    "LOCK_CREATED": Urgency.WARNING,
    "GRANT_REVOKED": Urgency.WARNING,
    "GRANTS_REVOKED": Urgency.WARNING,
    "GRANT_EXPIRES_SOON": Urgency.WARNING,
    "STEP_ESCALATED": Urgency.WARNING,
    "STORE_RESTORED": Urgency.CRITICAL,
    "STORE_RESEALED": Urgency.WARNING,
}
_ANEW: Final = frozenset(
    {
        "EXTENSION_REQUESTED",
        "STEP_ESCALATED",
        "GRANT_COUNTERED",
        "GRANT_REVOKED",
        "REVIEW_OVERDUE",
        "GRANT_EXPIRES_SOON",
        "BREAK_GLASS_USED",
    }
)
# {by} did it, {who} has or would have the access, {what} it gives, {target} is what a lock or delegation is about.
_TITLES: Final = {
    "GRANT_REQUESTED": "{who} asks for {what}",
    "GRANT_APPROVED": "{by} approved: {who} gets {what}",
    "GRANT_DENIED": "{by} denied {who} {what}",
    "GRANT_WITHDRAWN": "{by} withdrew the request of {who} for {what}",
    "GRANT_REVOKED": "{by} revoked {what} of {who}",
    "GRANT_RELEASED": "{by} gave back {what} before its time",
    "GRANT_EXPIRED": "Ended: {who} had {what}",
    "GRANT_LAPSED": "Nobody decided in time: {who} had asked for {what}",
    "GRANT_EXPIRES_SOON": "Ends soon: {who} has {what}",
    "STEP_ESCALATED": "Escalated: {who} still waits for {what}",
    "GRANT_COUNTERED": "{by} offers {who} other terms: {what}",
    "COUNTER_OFFER_ACCEPTED": "{by} accepted the offer: {who} gets {what}",
    "COUNTER_OFFER_DECLINED": "{by} declined the offer: {what}",
    "EXTENSION_REQUESTED": "{by} asks for more time for {who}: {what}",
    "EXTENSION_APPROVED": "{by} approved more time for {who}: {what}",
    "EXTENSION_DENIED": "{by} denied more time for {who}: {what}",
    "EXTENSION_WITHDRAWN": "{by} withdrew the request for more time for {who}: {what}",
    "EXTENSION_LAPSED": "Nobody decided in time about more time for {who}: {what}",
    "BREAK_GLASS_USED": "Emergency: {who} took {what} without an approval",
    "REVIEW_OVERDUE": "Overdue: nobody has reviewed that {who} took {what} in an emergency",
    "REVIEW_COMPLETED": "{by} reviewed that {who} took {what} in an emergency",
    "GRANTS_REVOKED": "{by} revoked many grants",
    "DELEGATION_CREATED": "{by} lets {target} review in its place",
    "DELEGATION_DELETED": "{by} ended a delegation to {target}",
    "LOCK_CREATED": "{by} locked {target}",
    "LOCK_DELETED": "{by} unlocked {target}",
    "LOCK_EXPIRED": "The lock on {target} ended",
    "POLICIES_PROPOSED": "{by} proposes a change of policies",
    "POLICY_CREATED": "{by} made {policy}",
    "POLICY_UPDATED": "{by} changed {policy}",
    "POLICY_DELETED": "{by} deleted {policy}",
    "STORE_RESTORED": "The store was restored from a backup",
    "STORE_RESEALED": "The store was sealed with another key",
}
_UNDER_REVIEW: Final = {
    "GRANT_APPROVED": "{by} approved; more approvals are needed before {who} gets {what}",
    "EXTENSION_APPROVED": "{by} approved; more approvals are needed before {who} gets more time: {what}",
    "COUNTER_OFFER_ACCEPTED": "{by} accepted the offer; more approvals are needed before {who} gets {what}",
}
_NO_LONGER: Final = {
    "GRANT_REQUESTED": "{who} had asked for {what}; it is {state} by now",
    "STEP_ESCALATED": "{who} had waited for {what}; it is {state} by now",
    "EXTENSION_REQUESTED": "{by} had asked for more time for {who}; it is {state} by now: {what}",
}
"""What a message says that is late, so that nobody is asked for what was decided meanwhile."""
_AT_ONCE: Final = "{who} has {what}, by {policy}"


def _title(message: Message) -> str:
    event, kind, grant = message.recorded.event, message.recorded.event.type.value, message.grant
    state = grant.state(message.at).value if grant is not None else ""
    form = _TITLES.get(kind, f"{kind.replace('_', ' ').capitalize()} by {{by}}")
    if _asks(event) and _is_settled(event, grant, message.at):
        form = _NO_LONGER[kind]
        if kind == "EXTENSION_REQUESTED" and grant is not None:
            state = grant.extension_state(message.at) or ""
    elif event.decision == GrantState.PENDING:
        form = _UNDER_REVIEW.get(kind, form)
    elif kind == "GRANT_REQUESTED":
        form = _AT_ONCE
    elif kind == "EXTENSION_APPROVED" and _extension_waits(message.grant, message.at):
        form = _UNDER_REVIEW[kind]
    target = person(event.subject) or ", ".join(event.groups) or "a token"
    return form.format(
        by=person(event.principal),
        who=person(event.subject),
        what=_what(event),
        target=target,
        policy=event.policy,
        state=state,
    )


def _asks(event: Event) -> bool:
    """Returns whether the event wanted somebody to decide when it happened."""
    if event.type.value == "GRANT_REQUESTED":
        return event.decision == GrantState.PENDING
    return event.type.value in _NO_LONGER


def person(principal: str) -> str:
    """Returns the name of a principal: a person's without its type."""
    return principal.removeprefix("user:")


def _what(event: Event) -> str:
    return f"{_listed(event.actions)} on {_listed(event.resources)}" if event.resources else event.policy


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _facts(message: Message) -> Iterator[tuple[str, str]]:
    """Yields labels and values; empty ones are left out."""
    event, grant = message.recorded.event, message.grant
    if event.resources:
        yield "Who", person(event.subject)
        if grant is not None and grant.requester != grant.subject:
            yield "Asked by", person(grant.requester)
        yield "Opens", _listed(event.resources)
        yield "Actions", _listed(event.actions)
    if event.duration is not None:
        yield "For", shown_span(event.duration)
    yield "Policy", event.policy.removeprefix("policies/")
    if grant is not None:
        yield from _state(grant, message.at)
    yield "At", moment(event.at)


def _state(grant: Grant, now: datetime) -> Iterator[tuple[str, str]]:
    """Yields how the grant is now, since it may have been decided after the event."""
    state = grant.state(now)
    yield "Ticket", _unlinked(grant.justification.ticket)
    yield "Now", state.value
    if state is GrantState.PENDING:
        yield "Waits for", _waits_for(grant)
        yield "Lapses", moment(grant.request_expires_at)
    yield "Approved by", ", ".join(_approvers(grant.round_reviews))
    if grant.end is not None:
        yield "Ended by", person(grant.end.by)
    elif state is GrantState.SCHEDULED and grant.starts_at is not None:
        yield "Starts", moment(grant.starts_at)
    if grant.expires_at is not None and grant.end is None:
        yield "Until", moment(grant.expires_at)


def _waits_for(grant: Grant) -> str:
    if not grant.steps:
        return ""
    index = current_step(grant)
    if index >= len(grant.steps):
        return ""
    step = grant.steps[index]
    who = step.display_name or ", ".join((*step.approvers.groups, *map(person, step.approvers.principals)))
    return f"step {index + 1} of {len(grant.steps)}: {who}"


def _approvers(reviews: Iterable[Review]) -> list[str]:
    return [person(review.reviewer) for review in reviews if review.decision == "APPROVED"]


def _words(event: Event, grant: Grant | None) -> tuple[str, str]:
    """Returns somebody's own words, with who said them."""
    kind = event.type.value
    if kind in ("GRANT_REQUESTED", "BREAK_GLASS_USED"):
        return "Why", (grant.justification.text if grant is not None else "") or event.message
    if event.message:
        return "Note" if event.principal == SERVICE else f"{person(event.principal)} says", event.message
    return "", ""


def _is_settled(event: Event, grant: Grant | None, now: datetime) -> bool:
    if grant is None:
        return event.type.value in ("LOCK_DELETED", "LOCK_EXPIRED")
    if event.type.value == "GRANT_EXPIRES_SOON":
        return grant.state(now) is not GrantState.ACTIVE
    waits = grant.state(now) is GrantState.PENDING or _extension_waits(grant, now)
    return not waits and not grant.owes_review


def _extension_waits(grant: Grant | None, now: datetime) -> bool:
    return grant is not None and grant.extension_state(now) is ExtensionState.PENDING


def moment(at: datetime) -> str:
    """Returns an instant to the minute, in UTC."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _one_line(text: str) -> str:
    return safe(" ".join(text.split()))


def _unlinked(text: str) -> str:
    """Returns the text with the schemes of its links broken, so that nothing in it can be followed by a click."""
    return _LINK.sub(_broken, text)


def _broken(found: re.Match[str]) -> str:
    return found[0].replace(":", "[:]").replace(".", "[.]")


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - len(_CUT)].rstrip() + _CUT
