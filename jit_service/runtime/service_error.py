"""Why a service, or a command that works on its store, cannot begin."""

from __future__ import annotations


class ServiceError(Exception):
    """The service cannot start; the message is one line."""
