"""The setting of how the service stops: a part of `Settings`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from pydantic_settings import BaseSettings

from jit_service.configuration.forms import Span


class DrainingSettings(BaseSettings):
    """How long the service says that it stops before it does."""

    drain_delay: Span = Field(
        default=timedelta(),
        ge=timedelta(),
        le=timedelta(minutes=10),
        description="How long the service goes on answering after TERM, while its health already says no, so that "
        "balancers send calls elsewhere. Behind one, longer than it takes to notice.",
    )
