"""Etags (AIP-154): exactly what was read, or nothing at all."""

from __future__ import annotations

import re

import pytest

from jit_service.domain.errors import StaleEtag
from jit_service.domain.language.etag import demand, etag


def test_an_etag_is_of_one_name_at_one_revision() -> None:
    etags = {etag(name, revision) for name in ("grants/a", "grants/b", "grants/a1") for revision in (0, 1, 2, 11)}

    assert len(etags) == 12
    assert etag("grants/a", 1) == etag("grants/a", 1)


def test_an_etag_is_short_and_plain() -> None:
    assert re.fullmatch("[0-9a-f]{16}", etag("grants/a", 1))


def test_a_name_and_a_revision_do_not_run_together() -> None:
    assert etag("grants/a", 11) != etag("grants/a1", 1)


def test_the_current_etag_passes() -> None:
    demand(etag("grants/a", 7), "grants/a", 7)


def test_no_etag_passes() -> None:
    demand("", "grants/a", 7)


@pytest.mark.parametrize("given", [etag("grants/a", 6), etag("grants/b", 7), "x", " ", etag("grants/a", 7).upper()])
def test_any_other_etag_is_stale(given: str) -> None:
    with pytest.raises(StaleEtag) as raised:
        demand(given, "grants/a", 7)

    assert raised.value.metadata == {"etag": etag("grants/a", 7)}


def test_an_etag_of_another_revision_is_stale() -> None:
    with pytest.raises(StaleEtag):
        demand(etag("grants/a", 6), "grants/a", 7)


def test_a_stale_etag_is_shown_bounded_and_harmless() -> None:
    with pytest.raises(StaleEtag) as raised:
        demand("\x1b" + "é" * 1000, "grants/a", 7)

    shown = "\\x1b" + "\\xe9" * 63
    assert raised.value.message == f"grants/a has changed since etag '{shown}'; it is now {etag('grants/a', 7)}"
