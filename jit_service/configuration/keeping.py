"""The settings of what is kept, for how long, and where: a part of `Settings`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from jit_service.configuration.forms import Span


class KeepingSettings(BaseSettings):
    """What is kept for how long, and what is archived."""

    audit_retention: Span | None = Field(
        default=None,
        gt=timedelta(),
        description="How long audit records are kept; by default for ever. Older ones are pruned behind a signed "
        "checkpoint, for which JIT_TOKEN_ISSUER must be set.",
    )
    audit_archive: Path | None = Field(
        default=None,
        description="A directory, one for all hosts, where audit records are archived before they are pruned. While it "
        "cannot be written, nothing is pruned.",
    )

    def keeping_faults(self) -> list[str]:
        """Returns what is wrong with these settings together, a line each that begins with the setting."""
        faults = []
        if self.audit_archive is not None and self.audit_retention is None:
            faults.append(
                "JIT_AUDIT_ARCHIVE: is where JIT_AUDIT_RETENTION archives what it prunes, and that is not set"
            )
        return faults
