"""A pytest plugin for `make mutants`: the same examples in every run, and quick tests before those of properties."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings

# No shrinking: one example that fails is enough to kill a mutant.
settings.register_profile(
    "mutants",
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    settings.load_profile("mutants")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (getattr(getattr(item, "obj", None), "is_hypothesis_test", False), item.nodeid))
