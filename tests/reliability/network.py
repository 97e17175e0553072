"""Hosts: a network namespace each, on one bridge; where namespaces cannot be made, an address of the loopback each."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_BRIDGE = "jit0"
_NETWORK = "10.77.0"
_LOOPBACK = "127.77.0"
OUTSIDE = 1
"""The number of the host that the clients and Envoy are on."""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@dataclass(frozen=True)
class Host:
    """One host. `enter` is what stands before a command that runs on it."""

    name: str
    address: str
    enter: tuple[str, ...] = ()
    _link: str = ""

    @contextmanager
    def cut_off_from(self, *others: Host) -> Iterator[None]:
        """Loses all that this host sends to the others, silently, so that nothing is answered in either direction."""
        for other in others:
            # An address of the link layer that nobody has.
            self._run(
                "ip",
                "neigh",
                "replace",
                other.address,
                "lladdr",
                "02:00:00:00:00:ff",
                "dev",
                "eth0",
                "nud",
                "permanent",
            )
        try:
            yield
        finally:
            for other in others:
                self._run("ip", "neigh", "del", other.address, "dev", "eth0")

    @contextmanager
    def slowed(self, rate: str) -> Iterator[None]:
        """Lets so much through to this host and no more."""
        subprocess.run(
            ["tc", "qdisc", "add", "dev", self._link, "root", "tbf", "rate", rate, "burst", "4kb", "latency", "5s"],
            check=True,
        )
        try:
            yield
        finally:
            subprocess.run(["tc", "qdisc", "del", "dev", self._link, "root"], check=True)

    def _run(self, *command: str) -> None:
        subprocess.run([*self.enter, *command], check=True, capture_output=True)


@dataclass
class Network:
    """The hosts of a run. `is_real`: each has a network of its own, which can be cut."""

    is_real: bool
    _holders: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.is_real:
            _ip("link", "add", _BRIDGE, "type", "bridge")
            _ip("addr", "add", f"{self.address(OUTSIDE)}/24", "dev", _BRIDGE)
            _ip("link", "set", _BRIDGE, "up")

    def address(self, number: int) -> str:
        return f"{_NETWORK if self.is_real else _LOOPBACK}.{number}"

    def host(self, name: str, number: int) -> Host:
        """Returns a new host."""
        if not self.is_real:
            return Host(name, self.address(number))
        # A process holds the namespace; others enter it.
        holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE)
        self._holders.append(holder)
        assert holder.stdout is not None
        holder.stdout.readline()
        enter, link = ("nsenter", "--target", str(holder.pid), "--net"), f"jit{number}"
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        _ip("link", "set", link, "master", _BRIDGE, "up")
        made = Host(name, self.address(number), enter, link)
        for command in (
            ("ip", "link", "set", "lo", "up"),
            ("ip", "addr", "add", f"{made.address}/24", "dev", "eth0"),
            ("ip", "link", "set", "eth0", "up"),
        ):
            subprocess.run([*enter, *command], check=True, capture_output=True)
        return made

    def close(self) -> None:
        """Ends the namespaces."""
        for holder in self._holders:
            holder.kill()
            holder.wait()
