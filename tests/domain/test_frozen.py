"""Copies of frozen facts."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from functools import cached_property
from typing import Any

import pytest

import jit_service.domain
from jit_service.domain.frozen import replace
from jit_service.domain.grants.grant import Justification


def facts() -> list[type[Any]]:
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(jit_service.domain.__path__, f"{jit_service.domain.__name__}.")
    ]
    return [
        found
        for module in modules
        for found in vars(module).values()
        if isinstance(found, type) and dataclasses.is_dataclass(found) and found.__module__ == module.__name__
    ]


def test_a_copy_has_the_changes_and_the_rest() -> None:
    before = Justification(text="because", ticket="T-1")

    after = replace(before, text="so")

    assert after == dataclasses.replace(before, text="so") == Justification(text="so", ticket="T-1")
    assert before == Justification(text="because", ticket="T-1")


def test_what_is_not_a_field_cannot_be_changed() -> None:
    with pytest.raises(TypeError, match="Justification has no txt"):
        replace(Justification(), txt="so")  # type: ignore[call-arg]


@pytest.mark.parametrize("found", facts(), ids=lambda found: found.__name__)
def test_no_fact_needs_its_constructor_to_be_copied(found: type[Any]) -> None:
    assert not hasattr(found, "__post_init__")
    assert not any(isinstance(value, cached_property) for value in vars(found).values())
