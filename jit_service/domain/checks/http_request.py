"""The resource and action that an HTTP request maps to, and how long it may last.

One path has one name: its segments, each decoded once; a slash at its end is ignored. What two servers could read
as two paths has none and is refused: dot segments, empty segments within, encoded slashes where the route does not keep
them, path parameters (`;`), what is encoded twice or is not UTF-8 in NFC. docs/paths.md has it as a table.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import unquote

from jit_service.domain.checks.decision import Question, decide
from jit_service.domain.checks.evidence import Candidate, Evidence
from jit_service.domain.errors import InvalidField, RouteMisconfigured
from jit_service.domain.language import name

DEFAULT_STREAM: Final = timedelta(seconds=60)
MAX_STREAM: Final = timedelta(hours=1)
_KNOWN: Final = ("resource", "action", "audience", "max_stream", "forward_authorization", "encoded_slash")
_VARIABLE: Final = re.compile(r"\{([^{}]*)\}")
_SECONDS: Final = re.compile(r"[1-9][0-9]{0,3}s")
_METHOD: Final = re.compile(r"[A-Z][A-Z-]{0,31}")
# A slash, or what some server takes for one; where the path ends for some.
_ANOTHER_PATH: Final = re.compile("[/\\\\;?\u2044\u2215\u2216\u29f8\u29f9]")
_ENCODED_SLASH: Final = re.compile("%2f", re.IGNORECASE)
_NOT_ENCODED: Final = re.compile("%(?![0-9A-Fa-f]{2})|[^!-~]|#")
_ENCODED: Final = re.compile("%(?:[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})")
_UNSEEN: Final = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9._-]{0,251}[a-z0-9_])?")


@dataclass(frozen=True, kw_only=True)
class Route:
    """What the proxy's configuration says of a route: templates over `{host}`, `{path}` and `{method}`.

    `audience` is what a grant's token must be for. A stream lasts `max_stream` at most, whoever watches it. Where it
    `keeps_encoded_slash`, `%2F` is data of a segment, and stands as `%2F` in the name: nothing else comes to be that.
    """

    resource: str = "http/{host}{path}"
    action: str = "http.{method}"
    audience: str = "https://{host}"
    max_stream: timedelta = DEFAULT_STREAM
    forward_authorization: bool = False
    keeps_encoded_slash: bool = False


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """The head of a request, as the proxy normalised it; `path` may have a query, which names nothing."""

    method: str
    host: str
    path: str

    def resource(self, route: Route) -> str:
        """Returns the resource that it reaches. Raises InvalidField, RouteMisconfigured."""
        # Read also where the template has no {path}: the route was chosen by it.
        self._read_path(route)
        resource = self._filled(route.resource, route)
        try:
            return name.resource(resource, "path")
        except InvalidField as fault:
            if resource == route.resource:
                raise RouteMisconfigured(f"the route's resource {fault.fault}") from None
            remedy = "a route that says its resource itself takes any such path"
            raise InvalidField("path", f"{fault.fault}; {remedy}") from None

    def action(self, route: Route) -> str:
        """Returns the action that it is. Raises InvalidField, RouteMisconfigured."""
        self._checked_method()
        return name.action(self._filled(route.action, route), "action")

    def audience(self, route: Route) -> str:
        """Returns the audience that a grant's token must name. Raises InvalidField, RouteMisconfigured."""
        return self._filled(route.audience, route)

    def endpoint(self) -> dict[str, str]:
        """Returns what the record says of it; a query can hold secrets and is left out."""
        path = self.path.partition("?")[0]
        return {"method": name.harmless(self.method, 32), "host": name.harmless(self.host, 256), "path": _shown(path)}

    def _filled(self, template: str, route: Route) -> str:
        values = {
            "host": self._checked_host,
            "path": lambda: self._read_path(route),
            "method": self._checked_method,
        }

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

    def _read_path(self, route: Route) -> str:
        """Returns the path, decoded, as it stands in a resource: empty for `/`, and without a slash at its end."""
        path = self.path.partition("?")[0]
        if not path.startswith("/"):
            raise InvalidField("path", f"{_shown(path)!a} must begin with /")
        segments = path[1:].split("/")
        if not segments[-1]:
            segments.pop()
        for segment in segments:
            if fault := _fault(segment, route):
                where = f"http/{name.harmless(self.host, 256)}{_shown(path)}"
                raise InvalidField("path", f"{where!a} has the segment {_shown(segment)!a}, {fault}")
        return "".join(f"/{_decode(segment, route)}" for segment in segments)


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


def parse_route(told: Mapping[str, str]) -> Route:
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
        forward_authorization=_word(told, "forward_authorization", {"false": False, "true": True}),
        keeps_encoded_slash=_word(told, "encoded_slash", {"refuse": False, "keep": True}),
    )


def stream_lifetime(
    *, now: datetime, ends_at: datetime, proved_until: datetime | None, at_most: timedelta
) -> timedelta:
    """Returns how long a stream that begins now may last: until access or proof of identity is over, and `at_most`."""
    ends = min(ends_at, now + at_most, *((proved_until,) if proved_until is not None else ()))
    return ends - now


def why_over(stream: Stream, *, grants: Iterable[Candidate], evidence: Evidence[Candidate]) -> str:
    """Returns why the stream may not go on at the evidence's `now`; empty while it may.

    `grants` are the subject's, as for `decide`. Only the grant that the stream passed by counts, and no other one of
    the subject, since the upstream was told that one.
    """
    if evidence.now >= stream.ends_at:
        return f"what passed by {stream.grant} was to end by now"
    if (lock := evidence.locks.on_token(stream.token_id)) is not None:
        return f"the token that passed by {stream.grant} is locked by {lock.name}"
    own = [grant for grant in grants if grant.name == stream.grant]
    decision = decide(stream.asked, grants=own, evidence=evidence)
    if decision.allowed:
        return ""
    return decision.message if own else f"{stream.grant} is over"


def _span(text: str) -> timedelta:
    span = timedelta(seconds=int(text[:-1])) if _SECONDS.fullmatch(text) else None
    if span is None or span > MAX_STREAM:
        raise RouteMisconfigured(f"the route's max_stream is {name.harmless(text, 40)!a}; it can be 1s to 3600s")
    return span


def _word(told: Mapping[str, str], key: str, meanings: Mapping[str, bool]) -> bool:
    """Returns what the route's word for the key means, the first one where it has none."""
    usual, *_ = meanings
    word = told.get(key, usual)
    if word not in meanings:
        fault = f"the route's {key} is {name.harmless(word, 40)!a}; it can be {' or '.join(meanings)}"
        raise RouteMisconfigured(fault)
    return meanings[word]


def _parts(segment: str, route: Route) -> list[str]:
    """Returns what the segment has between the slashes that it may have encoded."""
    return _ENCODED_SLASH.split(segment) if route.keeps_encoded_slash else [segment]


def _decode(segment: str, route: Route) -> str:
    return "%2F".join(unquote(part) for part in _parts(segment, route))


def _fault(segment: str, route: Route) -> str:
    """Returns why the segment may be read as another one, or as several, and what to do; empty where it cannot."""
    return next(filter(None, map(_fault_of_part, _parts(segment, route))), "")


def _fault_of_part(raw: str) -> str:
    if _ENCODED_SLASH.search(raw):
        return "which has an encoded slash; a route can take it as data: encoded_slash: keep"
    if _NOT_ENCODED.search(raw):
        return "which is not percent-encoded; of other signs than ASCII's encode their UTF-8"
    try:
        text = unquote(raw, errors="strict")
    except UnicodeDecodeError:
        return "which is not UTF-8; encode it so"
    # What a lenient server makes of look-alikes, as of the fullwidth ／.
    read = unicodedata.normalize("NFKC", text)
    if read.strip() in ("", ".", ".."):
        return "which is empty or dots; send the path that is meant"
    if _ANOTHER_PATH.search(text) or _ANOTHER_PATH.search(read):
        return "which could mean another path: it has / \\ ; or ? in it; send it without"
    if _ENCODED.search(text) or _ENCODED.search(read):
        return "which is encoded twice; encode it once"
    if any(unicodedata.category(character) in _UNSEEN for character in text) or text != text.strip():
        return "which has a control character, or white space at an end; send it without"
    if not unicodedata.is_normalized("NFC", text):
        return "which is not in the Unicode form NFC; send it so"
    return ""


def _shown(path: str) -> str:
    return name.harmless(path, 1024)
