"""Waiting for what becomes of a grant: told by the service as it happens, and shown to whoever looks on."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic

from jitaccess.client import JitClient
from jitaccess.errors import JitError
from jitaccess.model import Grant, GrantState

_LOOK_AGAIN = 0.5  # Seconds between two looks at a grant whose start has come by this machine's clock only.


def is_decided(grant: Grant) -> bool:
    """Says whether the grant can be used, or never will be."""
    return grant.state not in (GrantState.PENDING, GrantState.SCHEDULED)


def until(
    client: JitClient, grant: Grant, is_over: Callable[[Grant], bool], *, timeout: timedelta | None = None
) -> Grant:
    """Returns the grant once `is_over` says so of it, or as it is when the time is up. Raises what watching raises."""
    progress = Progress()
    progress.tell(grant)
    if is_over(grant):
        return grant
    news: queue.SimpleQueue[Grant | JitError] = queue.SimpleQueue()
    follow(client, grant, news.put)
    deadline = None if timeout is None else monotonic() + timeout.total_seconds()
    while not is_over(grant):
        left = None if deadline is None else deadline - monotonic()
        if left is not None and left <= 0:
            return grant
        item = _next(news, _soonest(left, _until_start(grant)))
        if isinstance(item, JitError):
            raise item
        if item is not None and item.revision >= grant.revision:
            grant = item
        elif item is None and grant.state is GrantState.SCHEDULED:
            # A start is no change of the grant, so nobody tells it.
            grant = client.get_grant(grant.name)
        progress.tell(grant)
    return grant


def follow(client: JitClient, grant: Grant, put: Callable[[Grant | JitError], None]) -> None:
    """Puts the grant after each change from now on, and the fault that ends it, from a thread of its own."""

    def read() -> None:
        try:
            for event in client.watch_grants(start_revision=grant.revision, grant=grant):
                if event.grant is not None:
                    put(event.grant)
        except JitError as fault:
            put(fault)
        except ValueError:
            return  # So gRPC answers a client that was closed meanwhile.

    threading.Thread(target=read, name="jit-follow", daemon=True).start()


class Progress:
    """Tells on stderr what a grant has become and what it waits for, each once, where somebody looks on."""

    def __init__(self) -> None:
        self._told = ""

    def tell(self, grant: Grant) -> None:
        """Shows what the grant waits for, unless that is what was shown last."""
        from jitaccess.cli import describe

        if not sys.stderr.isatty():
            return
        facts = (grant.state, describe.what_next(grant), grant.counter_offer, grant.extension)
        if str(facts) == self._told:
            return
        self._told = str(facts)
        from jitaccess.cli.screen import screen_on

        screen = screen_on(sys.stderr)
        screen.say(f"{grant.name} is {grant.state}: {describe.standing(grant, screen)}")
        if grant.state is GrantState.PENDING and (awaited := describe.what_next(grant)):
            screen.say(f"next: {awaited}")


def _until_start(grant: Grant) -> float | None:
    """Returns the seconds until a scheduled grant should be looked at; None for any other."""
    if grant.state is not GrantState.SCHEDULED or grant.start_time is None:
        return None
    return max(_LOOK_AGAIN, (grant.start_time - datetime.now(UTC)).total_seconds())


def _soonest(*several: float | None) -> float | None:
    return min((seconds for seconds in several if seconds is not None), default=None)


def _next(news: queue.SimpleQueue[Grant | JitError], seconds: float | None) -> Grant | JitError | None:
    try:
        return news.get(timeout=None if seconds is None else min(seconds, threading.TIMEOUT_MAX))
    except queue.Empty:
        return None
