"""How the log is written: lines for people, or one JSON object a line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from jit_service.configuration.redaction import without_credentials, without_tokens


class LogFormat(StrEnum):
    """The form of a line of the log."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def set_up(form: LogFormat = LogFormat.TEXT, level: LogLevel = LogLevel.INFO, *, who: str = "") -> None:
    """Sets how this process logs to stderr; `who` names it among several. A later call replaces an earlier one."""
    logging.basicConfig()
    root = logging.getLogger()
    root.setLevel(level.upper())
    for handler in root.handlers:
        handler.setFormatter(_Json(who) if form is LogFormat.JSON else _Text(who))
    logging.getLogger("alembic").setLevel(logging.WARNING)


class _Formatter(logging.Formatter):
    def __init__(self, who: str) -> None:
        super().__init__()
        self._who = who

    def message_of(self, record: logging.LogRecord) -> str:
        """Returns the message, and keeps it in the record as every formatter does, for other handlers."""
        record.message = without_credentials(record.getMessage())
        return record.message

    def formatException(self, ei: Any) -> str:
        return without_tokens(super().formatException(ei))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        del datefmt
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class _Text(_Formatter):
    """Time with zone, level, process, logger and message in a line, then the call's fields; a traceback follows."""

    def format(self, record: logging.LogRecord) -> str:
        who = f"{self._who}: " if self._who else ""
        call = "".join(f" {name}={value}" for name, value in getattr(record, "call", {}).items())
        line = f"{self.formatTime(record)} {record.levelname} {who}{record.name}: {self.message_of(record)}{call}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(_Formatter):
    """One object a line: time, level, logger and message; process, traceback and the fields of a call if any."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.message_of(record),
        }
        if self._who:
            told["process"] = self._who
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told | getattr(record, "call", {}), ensure_ascii=False)
