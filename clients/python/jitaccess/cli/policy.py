"""The commands on policies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from jitaccess.cli.command import command
from jitaccess.cli.session import Session
from jitaccess.cli.text import listed

if TYPE_CHECKING:
    from jitaccess import (
        AppliedPolicies,
        BreakGlassRule,
        CommentRule,
        ExtensionRule,
        JitClient,
        JustificationRule,
        Policy,
        PolicyChange,
        ReviewAssurance,
    )
    from jitaccess.cli.screen import Screen
    from jitaccess.v1 import policy_pb2

_LS_COLUMNS = ("NAME", "APPROVAL", "WHO", "ACTIONS", "RESOURCES", "AT MOST")
_MARKS = {"CREATED": "+", "UPDATED": "~", "DELETED": "-"}

PolicyId = Annotated[str, typer.Argument(metavar="ID", help="The policy's id, with or without policies/.")]


Files = Annotated[
    list[str],
    typer.Argument(metavar="FILE", help="YAML: `policies:` and a list; a directory is all of its files, - is stdin."),
]
Prune = Annotated[bool, typer.Option("--prune", help="Delete the policies that the files do not have.")]


def ls(session: Session) -> None:
    """List the policies that you may ask or review under."""
    from jitaccess.cli.grants import PAGE_LIMIT
    from jitaccess.cli.paging import take
    from jitaccess.contract.calls import policies

    with session.client() as client:
        page = take(client, policies.list_policies(page_size=PAGE_LIMIT), all_pages=True)

    def show(screen: Screen) -> None:
        rows = [_row(policy, screen) for policy in page.items]
        screen.listing(_LS_COLUMNS, rows, none="no policies that you may see", more=False)

    session.answer(page.raw, show)


def show(session: Session, policy: PolicyId) -> None:
    """Show all of one policy."""
    with session.client() as client:
        found = client.get_policy(policy)
    session.answer(_raw(found), lambda screen: screen.fields(_fields(found, screen)))


def apply(
    session: Session,
    files: Files,
    prune: Prune = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before pruning in a terminal.")] = False,
    comment: Annotated[
        str, typer.Option(metavar="TEXT", help="Why; the approver of a proposal reads it.", show_default=False)
    ] = "",
    end_misfits: Annotated[
        bool, typer.Option("--end-misfits", help="End live grants that would not be given any more, at most 1,000.")
    ] = False,
) -> None:
    """Make the policies of the service equal to those of the files, all or nothing.

    What is scheduled and would not be given any more ends; what is live is shown, or ended with
    --end-misfits. Under dual control it makes a proposal, which waits for another admin.
    """
    from jitaccess.cli import policyfile
    from jitaccess.errors import InvalidArgument

    loaded = policyfile.read(files).demand_sound()
    policies: Sequence[policy_pb2.Policy] = loaded.policies
    try:
        with session.client() as client:
            if prune and not dry_run and not yes and _is_dialogue():
                policies = _confirmed(client, policies)
            applied = client.apply_policies(
                policies, prune=prune, validate_only=dry_run, end_misfits=end_misfits, comment=comment
            )
    except InvalidArgument as fault:
        raise (loaded.place(fault) if fault.field_violations else fault) from None
    session.answer(applied.raw, lambda screen: show_changes(screen, applied, would=dry_run))


def rm(session: Session, policy: PolicyId) -> None:
    """Delete a policy. No new request is decided by it; live grants go on, and scheduled ones end."""
    with session.client() as client:
        deleted = client.delete_policy(policy)
    session.answer(_raw(deleted), lambda screen: screen.say(f"{deleted.name} is deleted"))


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    for function in (ls, show, apply, rm):
        command(app)(function)


def _is_dialogue() -> bool:
    import sys

    return sys.stdin.isatty() and sys.stderr.isatty()


def _confirmed(client: JitClient, policies: Sequence[policy_pb2.Policy]) -> list[policy_pb2.Policy]:
    """Asks before anything is deleted, and returns the policies bound to what was shown by their etags."""
    import sys

    from jitaccess.cli.screen import screen_on

    preview = client.apply_policies(policies, prune=True, validate_only=True)
    doomed = [change.policy for change in preview.changes if change.change_type == "DELETED"]
    if not doomed:
        return list(policies)
    # On stderr, so that standard output holds the answer alone.
    show_changes(screen_on(sys.stderr), preview, would=True)
    # Not with abort=True: Typer would print its word and end with 1, our "no".
    if not typer.confirm(f"Delete {len(doomed)} of them?", err=True):
        raise KeyboardInterrupt
    etags = {change.policy: change.before.etag for change in preview.changes if change.before}
    return [_bound(policy, etags) for policy in policies]


def _bound(policy: policy_pb2.Policy, etags: dict[str, str]) -> policy_pb2.Policy:
    from jitaccess.v1 import policy_pb2

    bound = policy_pb2.Policy()
    bound.CopyFrom(policy)
    if not bound.etag:
        bound.etag = etags.get(f"policies/{policy.name.removeprefix('policies/')}", "")
    return bound


def show_changes(screen: Screen, applied: AppliedPolicies, *, would: bool) -> None:
    """Shows the difference, that it `would` be made or that it was, and the proposal that waits to make it."""
    waits = bool(applied.proposal)
    show_differences(screen, applied.changes, would=would or waits)
    counts = [f"{_count(applied, kind)} {kind.lower()}" for kind in (*_MARKS, "UNCHANGED")]
    screen.say(", ".join(counts) + ("; nothing was written" if would or waits else ""))
    show_misfits(screen, applied, would=would or waits)
    if waits:
        name = applied.proposal.removeprefix("policyProposals/")
        screen.say(f"{applied.proposal} waits for another admin: `jit policy approve {name}`")


def show_misfits(screen: Screen, applied: AppliedPolicies, *, would: bool) -> None:
    """Shows the grants that would not be given any more, with why, and what becomes of them."""
    if not applied.misfit_count:
        return
    screen.say(f"{applied.misfit_count} scheduled or live would not be given any more:")
    for misfit in applied.misfits:
        kind = "scheduled" if misfit.scheduled else "live"
        becomes = ("would end" if would else "ended") if misfit.ended else "goes on"
        screen.say(f"  {misfit.grant} of {misfit.subject}, {kind}, {becomes}: {misfit.why}")
    if applied.misfit_count > len(applied.misfits):
        screen.say(f"  ... and {applied.misfit_count - len(applied.misfits)} more")
    if any(not misfit.ended for misfit in applied.misfits):
        screen.say("`jit policy apply --end-misfits` ends those that go on")


def show_differences(screen: Screen, changes: Iterable[PolicyChange], *, would: bool) -> None:
    """Shows each policy that changes, with the fields that do."""
    for change in changes:
        if mark := _MARKS.get(change.change_type):
            screen.say(f"{mark} {change.policy} {'would be ' if would else ''}{change.change_type.lower()}")
            for line in _differences(change):
                screen.say(f"    {line}")


def _count(applied: AppliedPolicies, kind: str) -> int:
    return sum(change.change_type == kind for change in applied.changes)


def _differences(change: PolicyChange) -> Iterable[str]:
    if change.before is None or change.after is None:
        return []
    before, after = _plain(change.before), _plain(change.after)
    return [f"{name}: {_value(before, name)} -> {_value(after, name)}" for name in change.changed_fields]


def _plain(policy: Policy) -> dict[str, object]:
    from google.protobuf import json_format

    return json_format.MessageToDict(_raw(policy), preserving_proto_field_name=True)


def _value(fields: dict[str, object], name: str) -> str:
    return json.dumps(fields[name], ensure_ascii=False) if name in fields else "(unset)"


def _raw(policy: Policy) -> policy_pb2.Policy:
    from jitaccess.contract.convert import encode_policy

    return policy.raw if policy.raw is not None else encode_policy(policy)


def _row(policy: Policy, screen: Screen) -> tuple[str, ...]:
    from jitaccess.cli.describe import principals

    return (
        policy.name.removeprefix("policies/"),
        _approval(policy),
        principals(policy.eligible),
        listed(policy.actions),
        listed(policy.resources),
        screen.span(policy.max_duration),
    )


def _approval(policy: Policy) -> str:
    if policy.disabled:
        return "disabled"
    if policy.deny:
        return "denies"
    count = len(policy.steps)
    return f"{count} step{'' if count == 1 else 's'}" if count else "automatic"


def _fields(policy: Policy, screen: Screen) -> list[tuple[str, str]]:
    from jitaccess.cli.describe import principals

    return [
        ("policy", policy.name),
        ("title", policy.display_name),
        ("approval", _approval(policy)),
        ("who", principals(policy.eligible)),
        ("actions", "\n".join(policy.actions)),
        ("resources", "\n".join(policy.resources)),
        ("at least", screen.span(policy.min_duration)),
        ("at most", screen.span(policy.max_duration)),
        ("by default", screen.span(policy.default_duration)),
        ("requests lapse after", screen.span(policy.request_ttl)),
        ("must say", "\n".join(_demands(policy.justification))),
        ("asked only while", policy.request_condition),
        ("used only while", policy.check_condition),
        ("at once", str(policy.max_active_per_subject) if policy.max_active_per_subject else ""),
        ("uses", f"at most {policy.max_uses} a grant" if policy.max_uses else ""),
        ("ends unless used", _unless_used(policy, screen)),
        ("more time", _extension(policy.extension, screen)),
        ("break-glass", _break_glass(policy.break_glass, screen)),
        ("warns of its end", f"{warned} before" if (warned := screen.span(policy.warn_before)) else ""),
        ("passed on", f"{policy.max_child_depth} deep" if policy.max_child_depth else ""),
        ("delegation", "forbidden" if policy.forbid_delegation else ""),
        ("steps", "\n".join(_steps(policy, screen))),
        ("reviewers must say", _comments(policy.review_comment)),
        ("reviewers log in", _assurance(policy.review_assurance, screen)),
        ("self-approval", "allowed" if policy.allow_self_approval else ""),
        ("priority", str(policy.priority) if policy.priority else ""),
        ("labels", "\n".join(f"{key}={value}" for key, value in sorted(policy.labels.items()))),
        ("revision", str(policy.revision)),
        ("created", screen.clock(policy.create_time)),
        ("changed", screen.clock(policy.update_time)),
        ("deleted", screen.clock(policy.delete_time)),
        ("etag", policy.etag),
    ]


def _demands(rule: JustificationRule) -> Iterable[str]:
    if rule.required or rule.pattern:
        yield f"why, matching {rule.pattern}" if rule.pattern else "why"
    if rule.ticket_required or rule.ticket_pattern:
        yield f"a ticket, matching {rule.ticket_pattern}" if rule.ticket_pattern else "a ticket"


def _unless_used(policy: Policy, screen: Screen) -> str:
    bounds = [
        f"within {screen.span(policy.activation_window)} of its start" if policy.activation_window else "",
        f"again within {screen.span(policy.idle_timeout)}" if policy.idle_timeout else "",
    ]
    return ", ".join(bound for bound in bounds if bound)


def _extension(rule: ExtensionRule | None, screen: Screen) -> str:
    if rule is None:
        return ""
    return f"at most {rule.max_extensions} times, to {screen.span(rule.max_total_duration)} in all"


def _break_glass(rule: BreakGlassRule | None, screen: Screen) -> str:
    from jitaccess.cli.describe import principals

    if rule is None:
        return ""
    bound, review = screen.span(rule.max_duration), screen.span(rule.review_within)
    unreviewed = f", with at most {rule.max_unreviewed} unreviewed" if rule.max_unreviewed else ""
    return f"{principals(rule.eligible)}, for at most {bound}; reviewed within {review}{unreviewed}"


def _comments(rule: CommentRule) -> str:
    demands = [("to approve", rule.required_to_approve), ("to deny", rule.required_to_deny)]
    when = " and ".join(words for words, needed in demands if needed)
    pattern = f"what matches {rule.pattern}" if rule.pattern else ""
    return "; ".join(words for words in (when and f"why, {when}", pattern) if words)


def _assurance(rule: ReviewAssurance | None, screen: Screen) -> str:
    if rule is None:
        return ""
    demands = [
        f"with acr {' or '.join(rule.acr)}" if rule.acr else "",
        f"with amr {', '.join(rule.amr)}" if rule.amr else "",
        f"less than {screen.span(rule.max_age)} before they approve" if rule.max_age else "",
    ]
    return ", ".join(demand for demand in demands if demand)


def _steps(policy: Policy, screen: Screen) -> Iterable[str]:
    from jitaccess.cli.describe import principals

    for number, step in enumerate(policy.steps, 1):
        name = f" ({step.display_name})" if step.display_name else ""
        where = f", only where {step.condition}" if step.condition else ""
        where += f", ended by {step.denials_needed} denials" if step.denials_needed > 1 else ""
        if step.timeout:
            becomes = f"goes to {principals(step.escalate_to)} too" if step.escalate_to else "lapses"
            where += f"; {becomes} after {screen.span(step.timeout)}"
        yield f"step {number}{name}: {max(1, step.approvals_needed)} of {principals(step.approvers)}{where}"
