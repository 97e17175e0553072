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

    replay_retention: Span = Field(
        default=timedelta(hours=24),
        ge=timedelta(minutes=10),
        le=timedelta(days=90),
        description="How long a repeated request_id gets the same answer.",
    )
    checkpoint_to: str = Field(
        default="",
        repr=False,
        description="Where signed checkpoints of the audit log go by themselves: a directory, an https URL, or `log`.",
        json_schema_extra={"form": "a directory's path, an https URL, or `log`"},
    )
    checkpoint_records: int | None = Field(
        default=None, ge=1, le=1_000_000_000, description="A checkpoint is made after so many new records."
    )
    checkpoint_interval: Span | None = Field(
        default=None,
        ge=timedelta(seconds=1),
        le=timedelta(days=365),
        description="A checkpoint is made at this interval, if there are new records.",
    )
    checkpoint_allow_private: bool = Field(
        default=False, description="Whether the URL of JIT_CHECKPOINT_TO may lead to a private address."
    )

    def keeping_faults(self) -> list[str]:
        """Returns what is wrong with these settings together, a line each that begins with the setting."""
        faults = []
        if self.audit_archive is not None and self.audit_retention is None:
            faults.append(
                "JIT_AUDIT_ARCHIVE: is where JIT_AUDIT_RETENTION archives what it prunes, and that is not set"
            )
        often = self.checkpoint_records is not None or self.checkpoint_interval is not None
        if self.checkpoint_to and not often:
            faults.append("JIT_CHECKPOINT_TO: needs JIT_CHECKPOINT_RECORDS or JIT_CHECKPOINT_INTERVAL, or both")
        if often and not self.checkpoint_to:
            name = "JIT_CHECKPOINT_RECORDS" if self.checkpoint_records is not None else "JIT_CHECKPOINT_INTERVAL"
            faults.append(
                f"{name}: says when checkpoints are made, and JIT_CHECKPOINT_TO, which says where, is not set"
            )
        return faults
