"""A connection to PostgreSQL on which no answer is waited for without end. Importing it takes psycopg's 60 ms."""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen

_INTERVAL_SECONDS = 0.1
RV = TypeVar("RV")


class NoAnswer(psycopg.OperationalError):
    """The server did not answer in time; nobody knows what it did."""


class BoundedConnection(psycopg.Connection[Any]):
    """Gives up a server that leaves a statement, or the end of a transaction, unanswered for `answer_seconds`.

    The server's own timeouts do not help while it hangs, nor while nothing comes through the network: TCP only
    notices that a peer is gone if its host is. `is_pooled` says that a pooler stands between, and gives each
    transaction a session of its own choice, which the statement `limits` bounds.
    """

    answer_seconds: float | None = 5
    is_pooled = False
    limits = ""

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> BoundedConnection:
        """As psycopg's. Raises OperationalError, too, where the process has no file descriptor left to wait with."""
        try:
            return super().connect(conninfo, **options)
        except OSError as fault:
            # psycopg waits for a new connection by a selector, which is a file of its own, and passes its fault on.
            raise psycopg.OperationalError(f"this process cannot connect: {fault.strerror}") from fault

    def wait(self, gen: PQGen[RV], interval: float = _INTERVAL_SECONDS, timeout: float | None = None) -> RV:
        """As psycopg's, with `answer_seconds` for a timeout.

        Raises NoAnswer, or OperationalError where what came answers another statement; the connection is closed.
        """
        try:
            return super().wait(gen, interval, self.answer_seconds if timeout is None else timeout)
        except errors._WaitTimeout:
            # Closed and not cancelled: a cancelled wait for a synchronous standby would be answered as a commit.
            self.pgconn.finish()
            raise NoAnswer(f"PostgreSQL has not answered for {self.answer_seconds:g} s") from None
        except psycopg.InternalError as fault:
            # With an SQLSTATE the server says it. Without one it is the driver, which got more answers than it asked
            # for, as when a pooler tells of a lost server; what comes next would be taken for another's answer.
            if fault.sqlstate is not None:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(f"PostgreSQL's answers came out of step: {fault}") from fault
