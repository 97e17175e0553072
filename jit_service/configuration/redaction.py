"""Takes credentials out of text that nobody wrote for the log: a traceback, the words of a driver, an operator's typo.

It is the last defence. What the service itself says has no secrets; an error of a library may quote what it was given.
"""

from __future__ import annotations

import re
from typing import Final

_SHOWN: Final = "…"
_CREDENTIALS: Final = re.compile(
    r"""
      (?P<before>://[^\s:/@'"]*:) [^\s/'"]+ (?=@)                # the password in a URL
    | (?P<scheme>\b(?:bearer|basic)\s+) [A-Za-z0-9._~+/=-]{8,}   # an authorization header
    | (?P<name>\b(?:password|passwd|secret|token|api_?key)=) (?!-(?:\s|$)) [^\s&;,'"]+  # a parameter of a URL or a form
    | (?P<kind>\b(?:whsec_|xox[a-z]-)) [A-Za-z0-9+/=_-]{8,}      # Standard Webhooks, Slack
    | (?P<begin>-----BEGIN\ [A-Z ]*PRIVATE\ KEY-----) .*? (?=-----END|$)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_JWT: Final = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


def without_credentials(text: str) -> str:
    """Returns the text with … in the place of what has the form of a credential."""
    return _CREDENTIALS.sub(lambda found: f"{found[found.lastgroup or 0]}{_SHOWN}", text)


def without_tokens(text: str) -> str:
    """Returns the text without credentials, and without JWTs: one that is logged on purpose is a checkpoint."""
    return _JWT.sub(_SHOWN, without_credentials(text))
