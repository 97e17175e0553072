"""What of the settings the environment gives, and variables that nothing reads, which are refused.

A misspelt setting would be silently without effect.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from enum import StrEnum

from jit_service.configuration.faults import SettingsError, meant
from jitaccess.naming.variables import Variable

PREFIX = "JIT_"
CONFIG = "JIT_SERVICE_CONFIG"
"""Names the settings file; JIT_CONFIG is the client's."""


class Source(StrEnum):
    """Where a setting comes from, what comes first first."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


def sources_of(
    names: Iterable[str], flags: Container[str], environment: Mapping[str, str], file: Container[str]
) -> dict[str, Source]:
    """Returns where each setting comes from. An empty variable is not set, and its letter case does not count."""
    variables = {name.upper() for name, value in environment.items() if value}

    def source(name: str) -> Source:
        if name in flags:
            return Source.FLAG
        if f"{PREFIX}{name.upper()}" in variables:
            return Source.ENVIRONMENT
        return Source.FILE if name in file else Source.DEFAULT

    return {name: source(name) for name in names}


def demand_known(variables: Iterable[str], settings: Collection[str]) -> None:
    """Raises SettingsError for variables `JIT_…`, in any letter case, that are neither settings nor the client's."""
    known = {PREFIX + name.upper() for name in settings} | set(Variable) | {CONFIG}
    unknown = sorted(name for name in variables if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        told = "; ".join(f"{name} is no setting{meant(name.upper(), known)}" for name in unknown)
        raise SettingsError(f"{told} (`jit-service settings` lists them all)")
