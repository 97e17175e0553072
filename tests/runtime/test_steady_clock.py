"""A clock that was set tells no time (I12, I13): nothing expires by it, and nothing lasts longer."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from jit_service.domain.errors import ClockStepped, Unavailable
from jit_service.runtime.service import Service, ServiceError, demand_clock, open_store, utc_now
from jit_service.runtime.steady_clock import MAX_STEP, SteadyClock
from jit_service.settings import Settings
from jit_service.storage import Store
from jit_service.storage.migrate import migrate
from tests.conftest import NOON, TICK, Clock
from tests.storage.people import add_policy

YEAR = timedelta(days=365)


class Host:
    """A host whose clock is set by hand; `elapsed` goes on by itself."""

    def __init__(self) -> None:
        self.now, self.elapsed = NOON, 1000.0
        self.clock = SteadyClock(lambda: self.now, lambda: self.elapsed)

    def passes(self, time: timedelta) -> None:
        self.now += time
        self.elapsed += time.total_seconds()


def test_the_time_that_passes_is_told() -> None:
    host = Host()

    host.passes(YEAR)

    assert host.clock() == NOON + YEAR


@pytest.mark.parametrize("step", [MAX_STEP, -MAX_STEP])
def test_a_step_of_a_minute_is_followed(step: timedelta) -> None:
    host = Host()

    host.now += step

    assert host.clock() == NOON + step


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (MAX_STEP + TICK, "set 0:01:00 ahead"),
        (-MAX_STEP - TICK, "set 0:01:00 back"),
        (YEAR, "set 365 days, 0:00:00 ahead"),
    ],
)
def test_after_a_longer_step_no_time_is_told_until_it_is_taken_back(step: timedelta, said: str) -> None:
    host = Host()
    host.now += step

    with pytest.raises(ClockStepped, match=said):
        host.clock()
    host.now -= step

    assert host.clock() == NOON


def test_a_store_whose_clock_was_set_reads_and_records_nothing(database_url: str) -> None:
    host = Host()
    store = Store(database_url, clock=host.clock)
    add_policy(store)
    before = store.head()
    host.now += YEAR

    for call in (store.head, lambda: add_policy(store, name="policies/other")):
        with pytest.raises(Unavailable):
            call()
    host.now -= YEAR

    assert store.head() == before
    store.close()


def test_a_start_a_year_after_the_newest_record_is_refused(tmp_path: Path) -> None:
    settings = Settings.load(data_dir=tmp_path)
    migrate(settings.store_url)
    a_year_ago = open_store(settings, clock=Clock(utc_now() - YEAR))
    add_policy(a_year_ago)
    a_year_ago.close()

    with pytest.raises(ServiceError, match=r"365 days ahead of the newest record.*JIT_LONGEST_IDLE=366d"):
        Service(settings)

    with_word = Settings.load(data_dir=tmp_path, longest_idle="366d")
    demand_clock(open_store(with_word), with_word.longest_idle)


def test_a_host_whose_clock_is_not_the_databases_does_not_start(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(postgresql_url, clock=utc_now)
    demand_clock(store, YEAR)
    for off, said in ((YEAR, "365 days, 0:00:0. ahead of"), (timedelta(minutes=-3), "0:0(2:59|3:00) behind")):
        monkeypatch.setattr("jit_service.runtime.service.utc_now", lambda off=off: utc_now() + off)

        with pytest.raises(ServiceError, match=f"this host's clock is {said} the database's"):
            demand_clock(store, YEAR)
