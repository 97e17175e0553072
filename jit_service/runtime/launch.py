"""Starts a service by its settings, in this process or in workers, with its metrics at their own address."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from jit_service.configuration.exposure import exposed, tighten
from jit_service.fault_log import FaultLog
from jit_service.metrics.catalogue import FAMILIES, counted
from jit_service.metrics.families import Values, added
from jit_service.runtime.envoy import share
from jit_service.runtime.figures import StoreFigures
from jit_service.runtime.measuring import Keeper, of_process
from jit_service.runtime.metrics_port import MetricsPort
from jit_service.runtime.process import set_up_process
from jit_service.runtime.service import Service, ServiceError, open_store
from jit_service.runtime.workers import Workers
from jit_service.settings import Address, Settings
from jit_service.storage import Store
from jit_service.storage.inspection import promise_fault_of, sqlite_file

_log = logging.getLogger("jit_service")


class Started(NamedTuple):
    """A service that answers calls: its address, the URL of its metrics, and what to call.

    `tend` is called several times a second, and `drain` once before it is stopped: from then on its health says no.
    """

    grpc: Address
    metrics: str | None
    tend: Callable[[], None]
    drain: Callable[[], None]


def started(settings: Settings, stack: ExitStack, sockets: Sequence[Path] = (), *, examples: bool = False) -> Started:
    """Starts the service, which the stack ends. Raises ServiceError, StoreUnavailable, SettingsError, ExtraMissing."""
    set_up_process()
    if not settings.issuers:
        raise ServiceError("no issuer is configured, so nobody could call: set JIT_ISSUERS_FILE, or use up --dev")
    database = sqlite_file(settings.store_url)
    for message in (*tighten(database), *exposed(settings.data_dir, database)):
        _log.warning("%s", message)
    if database is None and (fault := promise_fault_of(settings.store_url)):
        _log.warning("%s", fault)
    _log.info("jit-service %s starts: %s", version("jit-service"), settings.effective())
    start = _in_workers if settings.workers > 1 else _in_this_process
    return start(settings, stack, sockets, examples=examples)


def _in_this_process(settings: Settings, stack: ExitStack, sockets: Sequence[Path], *, examples: bool) -> Started:
    service = Service(settings)
    stack.callback(service.stop)
    metrics = _serve_metrics(settings, stack, service.store, lambda: of_process(service.gauges.values))
    _apply_policies(service, settings, examples=examples)
    address = service.listen(settings.grpc)
    for path in sockets:
        service.listen_unix(path)
    if settings.passing is not None:
        service.listen_passing(settings.passing)
    service.start()
    return Started(address, metrics, lambda: None, service.drain)


def _in_workers(settings: Settings, stack: ExitStack, sockets: Sequence[Path], *, examples: bool) -> Started:
    workers = Workers(settings, sockets)
    stack.callback(workers.stop)
    # Apply the policies once, not in each worker, by a service that never listens.
    with ExitStack() as once:
        service = Service(settings)
        once.callback(service.stop)
        _apply_policies(service, settings, examples=examples)
    metrics = None
    if settings.metrics is not None:
        store = open_store(settings)
        stack.callback(store.close)
        values = workers.together.values
        metrics = _serve_metrics(settings, stack, store, lambda: added(FAMILIES, [counted(), values()]))
        keeper = Keeper(workers.together)
        stack.callback(keeper.stop)
        keeper.start()
    workers.start()
    return Started(workers.address, metrics, workers.tend, workers.drain)


def _serve_metrics(settings: Settings, stack: ExitStack, store: Store, values: Callable[[], Values]) -> str | None:
    """Serves the values with the figures of the store. Returns the URL; None where the settings ask for no metrics."""
    if settings.metrics is None:
        return None
    figures = StoreFigures(store, FaultLog(_log, "the figures of the store are not read"))
    port = MetricsPort(settings.metrics, lambda: added(FAMILIES, [values(), figures.values()]))
    stack.callback(figures.stop)
    figures.start()
    stack.callback(port.stop)
    port.start()
    return port.url


def _apply_policies(service: Service, settings: Settings, *, examples: bool) -> None:
    if settings.policies is not None:
        service.apply_policies(settings.policies)
    elif examples:
        service.apply_policies(share("examples") / "policies.yaml", only_if_empty=True)
