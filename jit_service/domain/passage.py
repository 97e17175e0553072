"""What a request that waits at a proxy is in names: which resource, which action, and how long it may last.

One path has one name. What two servers could read as two paths has none and is refused: dot segments, empty segments,
encoded slashes, path parameters (`;`), what is encoded twice or is not UTF-8 in NFC.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import unquote_to_bytes

from jit_service.domain import name
from jit_service.domain.decision import Candidate, Question, decide
from jit_service.domain.errors import InvalidField, RouteMisconfigured
from jit_service.domain.lock import NO_LOCKS, Locks
from jit_service.domain.policy import Policy
from jit_service.domain.signal import Signals

DEFAULT_STREAM: Final = timedelta(seconds=60)
MAX_STREAM: Final = timedelta(hours=1)
_KNOWN: Final = ("resource", "action", "audience", "max_stream", "forward_authorization")
_VARIABLE: Final = re.compile(r"\{([^{}]*)\}")
# A name may hold more of ASCII than a path that has one reading at every server.
_OF_PATH: Final = re.compile(r"[A-Za-z0-9._~@:+=,$!&'();/-]*")
_SECONDS: Final = re.compile(r"[1-9][0-9]{0,3}s")
_METHOD: Final = re.compile(r"[A-Z][A-Z-]{0,31}")
_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9._-]{0,251}[a-z0-9_])?")


@dataclass(frozen=True, kw_only=True)
class Route:
    """What the proxy's configuration says of a route: templates over `{host}`, `{path}` and `{method}`.

    `audience` is what a grant's token must be for. A stream lasts `max_stream` at most, whoever watches it.
    """

    resource: str = "http/{host}{path}"
    action: str = "http.{method}"
    audience: str = "https://{host}"
    max_stream: timedelta = DEFAULT_STREAM
    forward_authorization: bool = False


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """The head of a request, as the proxy normalised it; `path` may have a query, which names nothing."""

    method: str
    host: str
    path: str

    def resource(self, route: Route) -> str:
        """Returns the resource that it reaches. Raises InvalidField, RouteMisconfigured."""
        # Checked even where the template has no {path}: the route was chosen by it.
        self._checked_path()
        return name.resource(self._filled(route.resource), "resource")

    def action(self, route: Route) -> str:
        """Returns the action that it is. Raises InvalidField, RouteMisconfigured."""
        self._checked_method()
        return name.action(self._filled(route.action), "action")

    def audience(self, route: Route) -> str:
        """Returns the audience that a grant's token must name. Raises InvalidField, RouteMisconfigured."""
        return self._filled(route.audience)

    def endpoint(self) -> dict[str, str]:
        """Returns what the record says of it; a query can hold secrets and is left out."""
        path = self.path.partition("?")[0]
        return {"method": name.harmless(self.method, 32), "host": name.harmless(self.host, 256), "path": _shown(path)}

    def _filled(self, template: str) -> str:
        values = {"host": self._checked_host, "path": self._checked_path, "method": self._checked_method}

        def value(found: re.Match[str]) -> str:
            if found[1] not in values:
                raise RouteMisconfigured(
                    f"the route's template has {found[0]!a}; it can have {{host}}, {{path}}, {{method}}"
                )
            return values[found[1]]()

        return _VARIABLE.sub(value, template)

    def _checked_method(self) -> str:
        if not _METHOD.fullmatch(self.method):
            raise InvalidField("method", f"{name.harmless(self.method, 40)!a} is not a method: A-Z and -")
        return self.method.lower()

    def _checked_host(self) -> str:
        host, colon, port = self.host.lower().rpartition(":")
        bare = host if colon and port.isascii() and port.isdigit() else self.host.lower()
        if not _HOST.fullmatch(bare):
            fault = f"{name.harmless(self.host, 80)!a} is not a host's name: a-z, 0-9, and - _ . within"
            raise InvalidField("host", fault)
        return bare

    def _checked_path(self) -> str:
        """Returns the path, decoded, as it stands in a resource: empty for `/`."""
        path = self.path.partition("?")[0]
        if not path.startswith("/"):
            raise InvalidField("path", f"{name.harmless(path, 80)!a} must begin with /")
        if path == "/":
            return ""
        decoded = "".join(f"/{_segment(segment)}" for segment in path[1:].split("/"))
        name.resource(f"http{decoded}", "path")
        return decoded


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A request that runs, as it passed: by which grant the question was answered, and when it ends at the latest.

    `revision` is that of the answer; who has seen less cannot judge it. `token_id` is the `jti` of the identity token
    that it passed with, if it was one.
    """

    asked: Question
    grant: str
    ends_at: datetime
    revision: int
    token_id: str = ""


def route(told: Mapping[str, str]) -> Route:
    """Returns the route that a proxy's configuration describes. Raises RouteMisconfigured."""
    for key in told:
        if key not in _KNOWN:
            raise RouteMisconfigured(f"the route has {name.harmless(key, 80)!a}; it can have {', '.join(_KNOWN)}")
    for key in ("resource", "action", "audience"):
        if key in told and not told[key]:
            raise RouteMisconfigured(f"the route's {key} is empty")
    usual = Route()
    return Route(
        resource=told.get("resource", usual.resource),
        action=told.get("action", usual.action),
        audience=told.get("audience", usual.audience),
        max_stream=_span(told["max_stream"]) if "max_stream" in told else usual.max_stream,
        forward_authorization=_truth(told.get("forward_authorization", "false")),
    )


def lasting(*, now: datetime, ends_at: datetime, proved_until: datetime | None, at_most: timedelta) -> timedelta:
    """Returns how long a stream that begins now may last: until access or proof of identity is over, and `at_most`."""
    ends = min(ends_at, now + at_most, *((proved_until,) if proved_until is not None else ()))
    return ends - now


def over(
    stream: Stream,
    *,
    grants: Iterable[Candidate],
    policies: Sequence[Policy],
    now: datetime,
    signals: Signals,
    above: Mapping[str, Candidate],
    locks: Locks = NO_LOCKS,
) -> str:
    """Returns why the stream may not go on at `now`; empty while it may. What it is given is as for `decide`.

    It may as long as the grant that it passed by would let it pass: no other, since the upstream was told that one.
    """
    if now >= stream.ends_at:
        return f"what passed by {stream.grant} was to end by now"
    if (lock := locks.on_token(stream.token_id)) is not None:
        return f"the token that passed by {stream.grant} is locked by {lock.name}"
    own = [grant for grant in grants if grant.name == stream.grant]
    decision = decide(stream.asked, grants=own, policies=policies, now=now, signals=signals, above=above, locks=locks)
    if decision.allowed:
        return ""
    return decision.message if own else f"{stream.grant} is over"


def _span(text: str) -> timedelta:
    span = timedelta(seconds=int(text[:-1])) if _SECONDS.fullmatch(text) else None
    if span is None or span > MAX_STREAM:
        raise RouteMisconfigured(f"the route's max_stream is {name.harmless(text, 40)!a}; it can be 1s to 3600s")
    return span


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        fault = f"the route's forward_authorization is {name.harmless(text, 40)!a}; it can be true or false"
        raise RouteMisconfigured(fault)
    return text == "true"


def _segment(raw: str) -> str:
    try:
        decoded = unquote_to_bytes(raw).decode() if raw.isascii() else ""
    except UnicodeDecodeError:
        decoded = ""
    if not decoded:
        raise InvalidField("path", f"has the segment {_shown(raw)!a}, which is empty or not UTF-8, percent-encoded")
    if "/" in decoded or ";" in decoded:
        raise InvalidField("path", f"has the segment {_shown(raw)!a}; / and ; in it could mean another path")
    ascii_only = "".join(filter(str.isascii, decoded))
    if not _OF_PATH.fullmatch(ascii_only):
        raise InvalidField("path", f"has the segment {_shown(raw)!a}; of ASCII it may hold A-Z a-z 0-9 ._~@:+=,$!&'()-")
    if unicodedata.normalize("NFC", decoded) != decoded:
        raise InvalidField("path", f"has the segment {_shown(raw)!a}, which is not in the Unicode form NFC")
    return decoded


def _shown(path: str) -> str:
    return name.harmless(path, 1024)
