"""The database's URL: which there are, and how one is shown without its secrets."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator

DATABASE_FORM: Final = "sqlite:///FILE or postgresql://USER@HOST/DB"
_PLAIN: Final = re.compile(
    r"(?P<scheme>[a-z0-9+]+://)(?:(?P<user>[^:@/?#]*)(?::[^:@/?#]*)?(?=@))?(?P<rest>@?[^:@?#]*(?::[0-9]+[^:@?#]*)*)"
    r"(?:\?[^@]*)?"
)


def _demand_known(url: str) -> str:
    """Returns the URL. Raises ValueError, without the URL, which may hold a password."""
    if url and url.partition("://")[0] not in ("sqlite", "postgresql", "postgres", "postgresql+psycopg"):
        raise ValueError(f"must be {DATABASE_FORM}")
    return url


DatabaseUrl = Annotated[str, AfterValidator(_demand_known)]


def without_secrets(url: str) -> str:
    """Returns the URL without its password and its parameters, or only its scheme if it is of no plain form."""
    found = _PLAIN.fullmatch(url)
    return f"{found['scheme']}{found['user'] or ''}{found['rest']}" if found else url.partition("://")[0]
