"""Serves the metrics to Prometheus, at an address of its own: no token is asked for, and no caller reaches it there.

The text formats are prometheus_client's; which one is sent, the scraper's Accept header says.
"""

from __future__ import annotations

import gzip
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from jit_service.metrics.catalogue import FAMILIES
from jit_service.metrics.families import Counter, Family, Histogram, Sample, Values
from jit_service.runtime.service import ServiceError
from jit_service.settings import Address

PATH: Final = "/metrics"
_AT_ONCE: Final = 4
"""How many scrapes are answered at once; a scraper that is turned away comes again."""
_IDLE_SECONDS: Final = 10
_log = logging.getLogger(__name__)


def exposition(values: Values, accept: str = "") -> tuple[bytes, str]:
    """Returns the values in the text format that the Accept header prefers, and its media type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Known(values))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class MetricsPort:
    """An HTTP server of one path. `collect` returns the values as they are now."""

    def __init__(self, address: Address, collect: Callable[[], Values]) -> None:
        """Binds the address; port 0 takes a free one. Raises ServiceError."""
        try:
            self._server = _server_of(address, collect)
        except OSError as fault:
            raise ServiceError(
                f"cannot listen on {address}: it is taken, or not an address of this machine ({fault.strerror})"
            ) from fault
        self.address = Address(address.host, self._server.server_address[1])

    @property
    def url(self) -> str:
        """Where the metrics are."""
        return f"http://{self.address}{PATH}"

    def start(self) -> None:
        """Begins to answer."""
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def stop(self) -> None:
        """Closes the port."""
        self._server.shutdown()
        self._server.server_close()


class _Known(Collector):
    """The values as the library wants them."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            if samples := self._values.get(family.name):
                yield _metric(family, samples)


def _metric(family: Family, samples: list[Sample] | Any) -> Metric:
    if isinstance(family, Histogram):
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, numbers in samples:
            buckets = [(_bound(bound), count) for bound, count in family.cumulative(numbers)]
            histogram.add_metric(labels, buckets=buckets, sum_value=numbers[-1])
        return histogram
    of = CounterMetricFamily if isinstance(family, Counter) else GaugeMetricFamily
    plain = of(family.name, family.help, labels=family.labels)
    for labels, (number,) in samples:
        plain.add_metric(labels, number)
    return plain


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else repr(float(bound))


def _server_of(address: Address, collect: Callable[[], Values]) -> ThreadingHTTPServer:
    places = threading.BoundedSemaphore(_AT_ONCE)

    class Scrape(_Handler):
        def values(self) -> Values | None:
            if not places.acquire(blocking=False):
                return None
            try:
                return collect()
            finally:
                places.release()

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET

        def handle_error(self, *_: Any) -> None:
            _log.debug("a scrape ended before its answer", exc_info=True)

    return Server((address.host, address.port), Scrape)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request, and closes its connection."""

    timeout = _IDLE_SECONDS
    server_version = "jit-service"
    sys_version = ""

    def values(self) -> Values | None:
        """Returns the values; None while as many scrapes as may are under way."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answers with the metrics."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answers with the headers of the metrics."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if urlsplit(self.path).path != PATH:
            self.send_error(HTTPStatus.NOT_FOUND, explain=f"metrics are at {PATH}")
            return
        if (values := self.values()) is None:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, explain="as many scrapes as may are under way")
            return
        body, media_type = exposition(values, self.headers.get("accept", ""))
        zipped = "gzip" in self.headers.get("accept-encoding", "")
        if zipped:
            body = gzip.compress(body, compresslevel=1)
        self.send_response(HTTPStatus.OK)
        self.send_header("content-type", media_type)
        if zipped:
            self.send_header("content-encoding", "gzip")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Leaves out a line for each scrape."""
