"""Where a guard's caller is: what the framework knows, and behind trusted proxies what those say."""

from __future__ import annotations

from typing import Any

import pytest

from jitaccess import Misconfigured
from jitaccess.guards import Guard, Incoming, fixed_subject
from jitaccess.guards.address import TrustedProxies, peer_of_context, peer_of_scope
from jitaccess.testing import MemoryService
from tests.guards.doors import DOORS, Call
from tests.guards.test_doors import ALICE, granted

NETWORKS = ["10.0.0.0/8", "2001:db8:1::/48"]


class Noting:
    """Answers as the kit does, and notes where it was told that the subject is."""

    def __init__(self, jit: MemoryService) -> None:
        self._jit = jit
        self.told: list[str] = []

    def check(self, subject: str, action: str, resource: str, *, source_ip: str) -> Any:
        self.told.append(source_ip)
        return self._jit.client.check(subject, action, resource, source_ip=source_ip)


@pytest.fixture
def noting() -> Noting:
    jit = MemoryService()
    granted(jit)
    return Noting(jit)


def address(peer: str, *forwarded: str, trusted: list[str] | None = None, header: str = "x-forwarded-for") -> str:
    incoming = Incoming(tuple((header, value) for value in forwarded), peer=peer)
    return TrustedProxies(NETWORKS if trusted is None else trusted).source_ip(incoming)


@pytest.mark.parametrize("door", ["fastapi", "asgi", "grpc", "grpc.aio"])
def test_a_guard_tells_where_the_framework_saw_the_caller(door: str, noting: Noting) -> None:
    with DOORS[door](Guard.by_check(noting, subject=lambda _: ALICE)) as call:
        knock: Call = call
        assert knock("eu").through

    assert noting.told == ["127.0.0.1"]


def test_a_program_that_acts_as_itself_is_not_where_its_caller_is(noting: Noting) -> None:
    with DOORS["asgi"](Guard.by_check(noting, subject=fixed_subject(ALICE))) as call:
        assert call("eu").through

    assert noting.told == [""]


def test_a_job_is_called_from_nowhere(noting: Noting) -> None:
    with DOORS["job"](Guard.by_check(noting, subject=lambda _: ALICE)) as call:
        assert call("eu").through

    assert noting.told == [""]


def test_nothing_counts_by_a_bare_header() -> None:
    assert address("192.0.2.7", "198.51.100.1") == "192.0.2.7"
    assert address("192.0.2.7", "198.51.100.1", trusted=[]) == "192.0.2.7"
    assert address("10.0.0.1", "198.51.100.1", trusted=[]) == "10.0.0.1"
    assert address("", "198.51.100.1") == ""
    assert address("10.0.0.1", "198.51.100.1", header="x-real-ip") == ""
    assert address("10.0.0.1", "for=198.51.100.1", header="forwarded") == ""


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (["198.51.100.1"], "198.51.100.1"),
        # Whoever calls writes what it likes; each proxy adds at the right.
        (["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        (["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
        (["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        (["203.0.113.9, 198.51.100.1, 10.0.0.2,10.0.0.3"], "198.51.100.1"),
        (["2001:db8:2::7, 2001:db8:1::1"], "2001:db8:2::7"),
        (["::ffff:198.51.100.1"], "198.51.100.1"),
        (["198.51.100.1:443"], "198.51.100.1"),
        (["[2001:db8:2::7]:443"], "2001:db8:2::7"),
        # What is no address hides whoever is behind it.
        (["198.51.100.1, unknown"], ""),
        (["198.51.100.1, "], ""),
        (["198.51.100.1, fe80::1%eth0"], ""),
        (["10.0.0.2"], ""),
        ([""], ""),
        ([], ""),
    ],
)
def test_of_what_a_trusted_proxy_says_the_right_most_stranger_counts(forwarded: list[str], expected: str) -> None:
    assert address("10.0.0.1", *forwarded) == expected
    assert address("::ffff:10.0.0.1", *forwarded) == expected


def test_an_address_has_one_spelling() -> None:
    assert address("::ffff:192.0.2.7") == "192.0.2.7"
    assert address("2001:DB8:2:0::7") == "2001:db8:2::7"
    assert address("fe80::1%eth0") == "fe80::1"
    assert address("testclient") == ""


@pytest.mark.parametrize("networks", [["10.0.0.1/8"], ["proxy.example.com"], [None], "10.0.0.0/8"])
def test_a_network_that_is_none_is_refused_at_the_start(networks: Any) -> None:
    with pytest.raises(Misconfigured, match="trusted_proxies"):
        Guard.by_check(MemoryService().client, subject=fixed_subject(ALICE), trusted_proxies=networks)


def test_what_frameworks_know_is_read_as_they_write_it() -> None:
    class Context:
        def __init__(self, peer: str) -> None:
            self._peer = peer

        def peer(self) -> str:
            return self._peer

    assert peer_of_scope({"client": ("192.0.2.7", 4711)}) == "192.0.2.7"
    assert peer_of_scope({"client": None}) == peer_of_scope({}) == ""
    assert peer_of_context(Context("ipv4:192.0.2.7:4711")) == "192.0.2.7"
    assert peer_of_context(Context("ipv6:%5B2001:db8::7%5D:4711")) == "2001:db8::7"
    assert peer_of_context(Context("unix:/run/orders.sock")) == ""
