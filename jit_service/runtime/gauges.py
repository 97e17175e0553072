"""What the parts of a running service say of themselves, as metrics."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from jit_service.background import BackgroundThread
from jit_service.check import GrantCache, Recorder
from jit_service.metrics import catalogue
from jit_service.metrics.families import Sample, Values, grouped
from jit_service.proxy.open_requests import OpenRequests
from jit_service.rpc.authentication import Authenticator
from jit_service.rpc.streams import Streams
from jit_service.storage import Store

_MEMORY: Final = Path("/proc/self/statm")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a service that have something to say."""

    store: Store
    grants: GrantCache
    recorder: Recorder
    streams: Streams
    open_requests: OpenRequests
    authenticator: Authenticator
    threads: Sequence[BackgroundThread]
    transport: str

    def values(self) -> Values:
        """Returns the gauges of this process."""
        return grouped([*self._samples(), *_process()])

    def _samples(self) -> Iterator[tuple[str, Sample]]:
        yield catalogue.WORKERS.sample(1)
        yield catalogue.BUILD.sample(1, version("jit-service"), self.transport, self.store.engine.dialect.name)
        yield catalogue.INDEX_GRANTS.sample(self.grants.size)
        yield catalogue.INDEX_AGE.sample(self.grants.age)
        yield catalogue.UNRECORDED.sample(self.recorder.waiting)
        yield catalogue.STREAMS.sample(self.streams.count)
        yield catalogue.PASSING.sample(self.open_requests.count)
        in_use, idle, most = self.store.connections()
        yield catalogue.CONNECTIONS.sample(in_use, "in_use")
        yield catalogue.CONNECTIONS.sample(idle, "idle")
        yield catalogue.CONNECTIONS_MOST.sample(most)
        for issuer, count, age in self.authenticator.keys_known():
            yield catalogue.ISSUER_KEYS.sample(count, issuer)
            if age is not None:
                yield catalogue.ISSUER_KEYS_AGE.sample(age, issuer)
        for thread in self.threads:
            if thread.succeeded_at is not None:
                yield catalogue.LAST_RUN.sample(thread.succeeded_at, thread.name)


def _process() -> Iterator[tuple[str, Sample]]:
    if _MEMORY.exists():
        # proc(5): the second number is what is resident, in pages.
        pages = int(_MEMORY.read_text().split()[1])
        yield catalogue.MEMORY.sample(pages * os.sysconf("SC_PAGE_SIZE"))
    yield catalogue.CPU.name, ((), (time.process_time(),))
