"""The settings of what is kept, for how long, and where: a part of `Settings`."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from jit_service.configuration.forms import OptionalCommaList, Span

NO_CLAIMS: Final = "none"
_MAX_CLAIMS: Final = 100
# A name of a claim may be a URL (RFC 7519, 4.2).
_CLAIM: Final = re.compile(r"[^\s,()\"'`]{1,256}")


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
    grant_retention: Span | None = Field(
        default=None,
        ge=timedelta(days=2),
        le=timedelta(days=36500),
        description="How long grants and requests are kept after they were over, with their reviews and changes; by "
        "default for ever. Not those that owe a review. Not shorter than JIT_REPLAY_RETENTION.",
    )
    change_retention: Span | None = Field(
        default=None,
        ge=timedelta(days=2),
        le=timedelta(days=36500),
        description="How long changes of grants are kept, by which a watch resumes and questions about the past are "
        "answered; by default for ever. The last one of each grant is kept with it.",
    )
    notification_retention: Span = Field(
        default=timedelta(days=90),
        ge=timedelta(days=2),
        le=timedelta(days=3650),
        description="How long notifications are kept that were given up, and those of a receiver that is no longer in "
        "the settings, and what is remembered of messages that were sent.",
    )
    stored_claims: OptionalCommaList = Field(
        default=None,
        description="The claims of a requester's token that are stored with its request, and no others; by default "
        "those that the conditions of its policy read. A condition that reads another is refused.",
        json_schema_extra={"form": f"exact names of claims with commas between them, or `{NO_CLAIMS}`"},
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

    @property
    def claims_to_store(self) -> frozenset[str] | None:
        """The names of the claims that are stored with a request; None: those that conditions read."""
        return None if self.stored_claims is None else frozenset(self.stored_claims) - {NO_CLAIMS}

    @field_validator("stored_claims")
    @classmethod
    def _claims(cls, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if given is None:
            return None
        if NO_CLAIMS in given and len(given) > 1:
            raise ValueError(f"has `{NO_CLAIMS}` beside names of claims; give one or the other")
        if len(given) > _MAX_CLAIMS:
            raise ValueError(f"has {len(given)} names; at most {_MAX_CLAIMS} are allowed")
        for claim in given:
            if not _CLAIM.fullmatch(claim) or not claim.isprintable():
                allowed = "1 to 256 printable characters without spaces, commas, quotes and parentheses"
                raise ValueError(f"names the claim {claim[:80]!a}; a name is {allowed}")
            if claim.startswith("claims."):
                raise ValueError(f"names {claim[:80]!a}; give the name alone, as the token has it")
            if given.count(claim) > 1:
                raise ValueError(f"has {claim} twice")
        return given

    def keeping_faults(self) -> list[str]:
        """Returns what is wrong with these settings together, a line each that begins with the setting."""
        faults = []
        if self.grant_retention is not None and self.grant_retention < self.replay_retention:
            # A repeated request_id is answered with its grant.
            faults.append("JIT_GRANT_RETENTION: must not be shorter than JIT_REPLAY_RETENTION")
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
