"""`make rolling` in short: two hosts behind one Envoy are restarted in turn, and no call fails."""

from __future__ import annotations

from pathlib import Path

from tests.reliability.program import wait_until
from tests.reliability.rolling import Behind, Heard, callers

_CALLERS = 4


def test_a_rolling_restart_drops_no_call_and_a_watch_resumes_without_a_gap(tmp_path: Path, transport: str) -> None:
    place, heard = Behind(tmp_path, "", hosts=2, transport=transport), Heard()

    def more_calls() -> None:
        before = heard.count
        wait_until(lambda: heard.failures or heard.count >= before + 10 * _CALLERS, "more calls from everybody")

    try:
        place.start(health_interval="0.2s")

        with callers(place, heard, _CALLERS):
            codes = [place.restart(host, more_calls=more_calls) for host in place.hosts]
    finally:
        place.close()

    assert heard.failures == []
    assert heard.missed == set()
    assert heard.told_twice == 0
    assert codes == [0, 0]
