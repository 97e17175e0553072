"""Refuses variables of the environment that nothing reads: a misspelt setting would be silently without effect."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from jit_service.configuration.faults import meant
from jitaccess.naming.variables import Variable

PREFIX = "JIT_"


def demand_known(variables: Iterable[str], settings: Collection[str]) -> None:
    """Raises ValueError for variables `JIT_…`, in any letter case, that are neither settings nor the client's."""
    known = {PREFIX + name.upper() for name in settings} | set(Variable)
    unknown = sorted(name for name in variables if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        told = "; ".join(f"{name} is no setting{meant(name.upper(), known)}" for name in unknown)
        raise ValueError(f"{told} (`jit-service settings` lists them all)")
