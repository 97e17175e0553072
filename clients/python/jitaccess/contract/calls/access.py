"""Calls of AccessService: checks and searches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial

from jitaccess.contract.calls.call import Call, listing, one
from jitaccess.contract.calls.fields import fill, instant_message, struct_message
from jitaccess.contract.convert import decode
from jitaccess.contract.model import CheckItem, Consistency, Decision, FoundAccess, Page, Recognised
from jitaccess.errors import Internal
from jitaccess.v1 import access_pb2


def check(
    subject: str,
    action: str,
    resource: str,
    *,
    explain: bool = False,
    min_revision: int = 0,
    context: Mapping[str, object] | None = None,
    consistency: Consistency | str = Consistency.STRONG,
    source_ip: str = "",
    read_time: datetime | None = None,
) -> Call[Decision]:
    """Returns whether a live grant lets the subject do the action on the resource now; true where it does.

    Conditions may read `context`, and `source_ip` as `context.source_ip`: where another subject is; without it such a
    condition is an error. Where the caller itself is, the service sees, and it cannot be said. A BOUNDED answer may
    miss the latest commits and says how old its view may be. A no is an answer. Whatever keeps the answer
    from being had raises, and so never allows.

    With `read_time` the answer is about that past instant, from the record; about others it needs the role `auditor` or
    `admin`. It is never true, since it lets nobody do anything now: a yes has the reason WAS_ALLOWED. `not_on_record`
    says what nobody can know of then.
    """
    message = _check_request(
        CheckItem(subject, action, resource, explain, min_revision, context, consistency, source_ip)
    )
    if (instant := instant_message(read_time, "read_time")) is not None:
        message.read_time.CopyFrom(instant)
    return one("AccessService/CheckAccess", message, access_pb2.CheckAccessResponse, Decision)


def check_many(items: Iterable[CheckItem]) -> Call[list[Decision]]:
    """Answers up to 1,000 questions at one revision, in their order. An item that is wrong is a no with an `error`."""
    questions = [_check_request(CheckItem(*item)) for item in items]
    return Call(
        rpc="AccessService/BatchCheckAccess",
        request=access_pb2.BatchCheckAccessRequest(items=questions),
        answer=access_pb2.BatchCheckAccessResponse,
        read=partial(_decisions, len(questions)),
    )


def search(
    *,
    subject: str = "",
    action: str = "",
    resource: str = "",
    context: Mapping[str, object] | None = None,
    page_size: int = 0,
    source_ip: str = "",
    read_time: datetime | None = None,
) -> Call[Page[FoundAccess]]:
    """Lists by name what a check would allow now on the one side that is left out: who, what, or on what.

    Without the role `checker`, `subject` must be the caller. `source_ip` is as for `check`. A pattern may be found too,
    with its exceptions. With `read_time` it lists what was allowed at that past instant, as for `check`; the page's
    `raw.not_on_record` says what nobody can know of then.
    """
    message = fill(
        access_pb2.SearchAccessRequest,
        subject=subject,
        action=action,
        resource=resource,
        context=struct_message(_with_address(context, source_ip)),
        page_size=page_size,
        read_time=instant_message(read_time, "read_time"),
    )
    return listing("AccessService/SearchAccess", message, access_pb2.SearchAccessResponse, FoundAccess, "found")


def who_am_i() -> Call[Recognised]:
    """Answers whom the service takes the caller for, by its token: the principal, its roles and groups, until when."""
    return one("AccessService/WhoAmI", access_pb2.WhoAmIRequest(), access_pb2.WhoAmIResponse, Recognised)


def _check_request(item: CheckItem) -> access_pb2.CheckAccessRequest:
    return fill(
        access_pb2.CheckAccessRequest,
        subject=item.subject,
        action=item.action,
        resource=item.resource,
        explain=item.explain,
        min_revision=item.min_revision,
        context=struct_message(_with_address(item.context, item.source_ip)),
        consistency=_consistency(item.consistency),
    )


def _consistency(given: Consistency | str) -> int | None:
    """STRONG is what the service does unasked."""
    if given == Consistency.STRONG:
        return None
    return access_pb2.CheckAccessRequest.Consistency.Value(Consistency(given))


def _decisions(asked: int, answer: access_pb2.BatchCheckAccessResponse) -> list[Decision]:
    # Answers are told apart by their place only: with one missing, a yes could be taken for another question's.
    if len(answer.results) != asked:
        raise Internal(f"{asked} questions had {len(answer.results)} answers")
    return [decode(Decision, result) for result in answer.results]


def _with_address(context: Mapping[str, object] | None, source_ip: str) -> Mapping[str, object] | None:
    return {**(context or {}), "source_ip": source_ip} if source_ip else context
