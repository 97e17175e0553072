"""Waiting for a change of a grant: the service streams it, and stderr says what it waits for."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TypeVar

from jitaccess.cli import text
from jitaccess.client import JitClient
from jitaccess.contract.model import Grant, GrantState
from jitaccess.errors import JitError

T = TypeVar("T")

# Seconds. A wait that a signal precedes by a hair is not ended by it (CPython), so that no wait may be long.
LONGEST_WAIT = 0.5
SAID_AGAIN_AFTER = 60.0  # Seconds.


def is_decided(grant: Grant) -> bool:
    """Returns whether the grant can be used, or never will be."""
    return grant.state not in (GrantState.PENDING, GrantState.SCHEDULED)


def until(
    client: JitClient, grant: Grant, is_over: Callable[[Grant], bool], *, timeout: timedelta | None, progress: Progress
) -> Grant:
    """Returns the grant once `is_over` says so of it, or as it is when the time is up. Raises what watching raises."""
    if is_over(grant):
        return grant
    progress.tell(grant)
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
        if not is_over(grant):
            progress.tell(grant)
    return grant


def for_decision(
    client: JitClient, grant: Grant, is_over: Callable[[Grant], bool], *, timeout: timedelta | None, quiet: bool
) -> Grant:
    """Waits as `until` does, and says what is left where the time is up or somebody interrupts it."""
    progress = Progress(quiet=quiet)
    try:
        grant = until(client, grant, is_over, timeout=timeout, progress=progress)
    except KeyboardInterrupt:
        say(f"interrupted: {_left(progress.latest or grant)}")
        raise
    if timeout is not None and not is_over(grant):
        say(f"{waited(timeout)}: {_left(grant)}")
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
    """Says on stderr what a grant waits for: at once, again when that changes, and every minute. Quiet, it does not.

    `clock` counts seconds.
    """

    def __init__(self, *, quiet: bool, clock: Callable[[], float] | None = None) -> None:
        self._quiet = quiet
        self._clock = clock or monotonic
        self._began = self._said_at = self._clock()
        self._said = ""
        self.latest: Grant | None = None

    def tell(self, grant: Grant) -> None:
        """Says what the grant waits for, unless that was said within the minute."""
        self.latest = grant
        if self._quiet:
            return
        now = self._clock()
        facts = str((grant.state, grant.steps, grant.counter_offer, grant.extension))
        if facts != self._said:
            say(f"waiting for {_awaited(grant)}")
        elif now - self._said_at >= SAID_AGAIN_AFTER:
            say(f"waiting for {text.span(timedelta(seconds=now - self._began), units=2)} for {_awaited(grant)}")
        else:
            return
        self._said, self._said_at = facts, now


def say(line: str) -> None:
    """Writes a line to stderr."""
    from jitaccess.cli.screen import screen_on

    screen_on(sys.stderr).say(line)


def say_pending(grant: Grant) -> None:
    """Says who must decide on a request that is pending, where nothing waits for that."""
    if grant.state is GrantState.PENDING:
        say(f"pending: {_awaited(grant)}")


def waited(timeout: timedelta) -> str:
    """Returns for how long it was waited in vain."""
    seconds = timeout.total_seconds()
    return f"waited {text.span(timeout) if seconds >= 1 else f'{seconds:g} s'}"


def _awaited(grant: Grant) -> str:
    from jitaccess.cli import describe
    from jitaccess.cli.screen import screen_on

    return describe.awaited(grant, screen_on(sys.stderr))


def _left(grant: Grant) -> str:
    """Returns what is left of a request that nobody waits for any more, and how to end it."""
    from jitaccess.cli import describe

    if describe.awaited_extension(grant):
        return f"more time for {grant.name} is still pending; see it with: jit show {grant.id}"
    if grant.state is GrantState.PENDING:
        return f"{grant.name} is still pending; withdraw it with: jit withdraw {grant.id}"
    return f"{grant.name} is {grant.state}; give it back with: jit release {grant.id}"


def next_of(news: queue.SimpleQueue[T], seconds: float | None = None) -> T | None:
    """Returns what comes next, or None where nothing came for LONGEST_WAIT or the seconds, if they are fewer."""
    try:
        return news.get(timeout=LONGEST_WAIT if seconds is None else max(0.0, min(seconds, LONGEST_WAIT)))
    except queue.Empty:
        return None


def has_come(at: datetime | None) -> bool:
    """Returns whether the instant has come, by this machine's clock."""
    return at is not None and datetime.now(UTC) >= at
