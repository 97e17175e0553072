"""Waiting for a change of a grant: the service streams it, and a terminal shows it."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TypeVar

from jitaccess.client import JitClient
from jitaccess.contract.model import Grant, GrantState
from jitaccess.errors import JitError

T = TypeVar("T")

# Seconds. A wait that a signal precedes by a hair is not ended by it (CPython), so that no wait may be long.
LONGEST_WAIT = 0.5


def is_decided(grant: Grant) -> bool:
    """Returns whether the grant can be used, or never will be."""
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
        item = next_of(news, left)
        if isinstance(item, JitError):
            raise item
        if item is not None and item.revision >= grant.revision:
            grant = item
        elif item is None and grant.state is GrantState.SCHEDULED and has_come(grant.start_time):
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
        """Shows what the grant waits for, unless that is shown already."""
        from jitaccess.cli import describe

        if not sys.stderr.isatty():
            return
        facts = (grant.state, grant.steps, grant.counter_offer, grant.extension)
        if str(facts) == self._told:
            return
        self._told = str(facts)
        from jitaccess.cli.screen import screen_on

        screen = screen_on(sys.stderr)
        screen.say(f"{grant.name} is {grant.state}: {describe.standing(grant, screen)}")
        if grant.state is GrantState.PENDING and (awaited := describe.what_next(grant, screen)):
            screen.say(f"next: {awaited}")


def next_of(news: queue.SimpleQueue[T], seconds: float | None = None) -> T | None:
    """Returns what comes next, or None where nothing came for LONGEST_WAIT or the seconds, if they are fewer."""
    try:
        return news.get(timeout=LONGEST_WAIT if seconds is None else max(0.0, min(seconds, LONGEST_WAIT)))
    except queue.Empty:
        return None


def has_come(at: datetime | None) -> bool:
    """Returns whether the instant has come, by this machine's clock."""
    return at is not None and datetime.now(UTC) >= at
