"""The arguments of the in-memory service: it takes the names that the service does, as far as they are ASCII."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address

from jitaccess._error import invalid_field, named
from jitaccess.errors import Misconfigured
from jitaccess.naming import names
from jitaccess.v1 import access_pb2


def principal_name(text: str, field: str = "subject") -> str:
    return ascii_name(names.principal, text, field)


def group_names(groups: Iterable[str]) -> frozenset[str]:
    """Returns the groups. Raises InvalidArgument for one that is none."""
    if isinstance(groups, str):
        raise invalid_field("groups", "must be a list of names, not one text")
    return frozenset(ascii_name(names.group, one, f"groups[{index}]") for index, one in enumerate(groups))


def deciders(principals: Iterable[str], groups: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Returns whom a policy names. Raises InvalidArgument for what is no name, or where it names nobody."""
    if isinstance(principals, str):
        raise invalid_field("principals", "must be a list of names, not one text")
    people = frozenset(principal_name(one, f"principals[{index}]") for index, one in enumerate(principals))
    teams = group_names(groups)
    if not people and not teams:
        raise invalid_field("principals", "names nobody; give principals or groups")
    return people, teams


def demand_address(request: access_pb2.CheckAccessRequest) -> None:
    """Refuses what the service would as the subject's address; there are no conditions here to read it."""
    if "source_ip" not in request.context.fields:
        return
    text = request.context.fields["source_ip"].string_value
    try:
        if "%" in text:
            raise ValueError
        ip_address(text)
    except ValueError:
        raise invalid_field("context.source_ip", "must be an IP address, such as 192.0.2.7") from None


def demand_now(request: access_pb2.CheckAccessRequest) -> None:
    """Refuses a question about the past: there is no record here."""
    if request.HasField("read_time"):
        raise Misconfigured("read_time: the in-memory service keeps no record of the past", reason="NOT_OFFERED")


def resource_patterns(given: str | Iterable[str]) -> tuple[str, ...]:
    return _patterns(given, names.resource_pattern, "resources")


def action_patterns(given: str | Iterable[str]) -> tuple[str, ...]:
    return _patterns(given, names.action_pattern, "actions")


def _patterns(given: str | Iterable[str], check: Callable[[str], str], field: str) -> tuple[str, ...]:
    patterns = (given,) if isinstance(given, str) else tuple(given)
    if not patterns:
        raise invalid_field(field, "must not be empty")
    return tuple(ascii_name(check, one, field) for one in patterns)


def ascii_name(check: Callable[[str], str], text: str, field: str) -> str:
    """Returns the name. Raises InvalidArgument for none, Misconfigured for one that is not ASCII."""
    if not text.isascii():
        raise Misconfigured(f"{field}: the in-memory service takes ASCII names only", reason="NOT_OFFERED")
    return named(check, text, field)


def policy_name(text: str) -> str:
    return named(names.policy, text, "policy")
