"""The resource and action that an HTTP request maps to, and how long it may last.

One path has one name: its segments, each decoded once; a slash at its end is ignored. What two servers could read
as two paths has none and is refused: dot segments, empty segments within, encoded slashes where the route does not keep
them, path parameters (`;`), what is encoded twice or is not UTF-8 in NFC. Where the route states its resource the path
names nothing, and only what could be the path of another route is refused. docs/paths.md has it as a table.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Final
from urllib.parse import unquote

from jit_service.domain.checks.decision import Question, decide
from jit_service.domain.checks.evidence import Candidate, Evidence
from jit_service.domain.errors import InvalidField, RouteMisconfigured
from jit_service.domain.language import name
from jitaccess.naming.duration import parse_span

DEFAULT_STREAM: Final = timedelta(seconds=60)
MIN_STREAM: Final = timedelta(seconds=1)
MAX_STREAM: Final = timedelta(hours=1)
_UNTIL_GRANT_ENDS: Final = "grant"
_KNOWN: Final = (
    "resource",
    "action",
    "audience",
    "max_stream",
    "forward_authorization",
    "encoded_slash",
    "ambiguous_path",
)
_VARIABLE: Final = re.compile(r"\{([^{}]*)\}")
_METHOD: Final = re.compile(r"[A-Z][A-Z-]{0,31}")
# A slash, or what some server takes for one; where the path ends for some.
_ANOTHER_PATH: Final = re.compile("[/\\\\;?\u2044\u2215\u2216\u29f8\u29f9]")
_ENCODED_SLASH: Final = re.compile("%2f", re.IGNORECASE)
_NOT_ENCODED: Final = re.compile("%(?![0-9A-Fa-f]{2})|[^!-~]|#")
_ENCODED: Final = re.compile("%(?:[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})")
# Some file systems leave format characters out of a name (HFS+ did: CVE-2014-9390), and a control character may end it.
_DROPPED: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")
_NEVER_SHOWN: Final = ("Co", "Cn")
_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9._-]{0,251}[a-z0-9_])?")


@dataclass(frozen=True, kw_only=True)
class Route:
    """What the proxy's configuration says of a route: templates over `{host}`, `{path}` and `{method}`.

    `audience` is what a grant's token must be for. A stream lasts `max_stream` at most, whoever watches it; None is
    until its grant ends, for routes whose streams are watched. Where it `keeps_encoded_slash`, `%2F` is data of a
    segment, and stands as `%2F` in the name: nothing else comes to be that. Where it `passes_ambiguous_path`, no path
    of it is judged (docs/adr/0040-one-name-per-path.md).
    """

    resource: str = "http/{host}{path}"
    action: str = "http.{method}"
    audience: str = "https://{host}"
    max_stream: timedelta | None = DEFAULT_STREAM
    forward_authorization: bool = False
    keeps_encoded_slash: bool = False
    passes_ambiguous_path: bool = False

    @property
    def is_named_by_path(self) -> bool:
        """Whether the path of a request is a part of what is asked about."""
        return any("{path}" in template for template in (self.resource, self.action, self.audience))


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """The head of a request, as the proxy normalised it; `path` may have a query, which names nothing."""

    method: str
    host: str
    path: str

    def resource(self, route: Route) -> str:
        """Returns the resource that it reaches. Raises InvalidField, RouteMisconfigured."""
        if not route.passes_ambiguous_path:
            # Also where the template has no {path}: the route was chosen by it.
            self._read_path(route)
        resource = self._filled(route.resource, route)
        try:
            return name.resource(resource, "path")
        except InvalidField as fault:
            if resource == route.resource:
                raise RouteMisconfigured(f"the route's resource {fault.fault}") from None
            remedy = "a route that states its own resource takes such a path"
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
                raise InvalidField("path", f"{where!a} has the segment {_shown(segment)!a}, {fault}{_way_out(route)}")
        return "".join(f"/{_decode(segment, route)}" for segment in segments)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A request that runs, as it passed: by which grant the question was answered, and when it ends at the latest.

    `ends_by` says what that end is. `revision` is that of the answer; who has seen less cannot judge it. `token_id` is
    the `jti` of the identity token that it passed with, if it was one.
    """

    asked: Question
    grant: str
    ends_at: datetime
    revision: int
    token_id: str = ""
    ends_by: str = "its time is over"


def parse_route(told: Mapping[str, str]) -> Route:
    """Returns the route that a proxy's configuration describes. Raises RouteMisconfigured."""
    for key in told:
        if key not in _KNOWN:
            raise RouteMisconfigured(f"the route has {name.harmless(key, 80)!a}; it can have {', '.join(_KNOWN)}")
    for key in ("resource", "action", "audience"):
        if key in told and not told[key]:
            raise RouteMisconfigured(f"the route's {key} is empty")
    usual = Route()
    route = Route(
        resource=told.get("resource", usual.resource),
        action=told.get("action", usual.action),
        audience=told.get("audience", usual.audience),
        max_stream=_span(told["max_stream"]) if "max_stream" in told else usual.max_stream,
        forward_authorization=_word(told, "forward_authorization", {"false": False, "true": True}),
        keeps_encoded_slash=_word(told, "encoded_slash", {"refuse": False, "keep": True}),
        passes_ambiguous_path=_word(told, "ambiguous_path", {"refuse": False, "pass": True}),
    )
    if route.passes_ambiguous_path and route.is_named_by_path:
        raise RouteMisconfigured(
            "the route's ambiguous_path is 'pass', and a template has {path}; a path that names something has one "
            "meaning, so state the resource without {path}"
        )
    return route


def stream_end(
    *, now: datetime, ends_at: datetime, proved_until: datetime | None, at_most: timedelta | None
) -> tuple[datetime, str]:
    """Returns when a stream that begins now ends at the latest, and what ends it then.

    That is the end of the grant (`ends_at`), of the token that proves the caller, or of the route's `at_most`.
    """
    ends = [(ends_at, "the grant has expired")]
    if proved_until is not None:
        ends.append((proved_until, "the token that it passed with has expired"))
    if at_most is not None:
        ends.append((now + at_most, f"it ran for {at_most.total_seconds():g} s, the route's max_stream"))
    return min(ends, key=itemgetter(0))


def why_over(stream: Stream, *, grants: Iterable[Candidate], evidence: Evidence[Candidate]) -> str:
    """Returns why the stream may not go on at the evidence's `now`; empty while it may.

    `grants` are the subject's, as for `decide`. Only the grant that the stream passed by counts, and no other one of
    the subject, since the upstream was told that one.
    """
    if evidence.now >= stream.ends_at:
        return f"what passed by {stream.grant} is over: {stream.ends_by}"
    if (lock := evidence.locks.on_token(stream.token_id)) is not None:
        return f"the token that passed by {stream.grant} is locked by {lock.name}"
    own = [grant for grant in grants if grant.name == stream.grant]
    decision = decide(stream.asked, grants=own, evidence=evidence)
    if decision.allowed:
        return ""
    return decision.message if own else f"{stream.grant} was ended before its time"


def _span(text: str) -> timedelta | None:
    if text == _UNTIL_GRANT_ENDS:
        return None
    with suppress(ValueError):
        if MIN_STREAM <= (span := parse_span(text)) <= MAX_STREAM:
            return span
    raise RouteMisconfigured(
        f"the route's max_stream is {name.harmless(text, 40)!a}; it can be 1s to 1h, such as 90s or 5m, or "
        f"{_UNTIL_GRANT_ENDS}"
    )


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
    judge = _fault_of_name if route.is_named_by_path else _fault_of_path
    return next(filter(None, map(judge, _parts(segment, route))), "")


def _way_out(route: Route) -> str:
    if route.is_named_by_path:
        return ""
    return "; if every path of its host is this one resource, the route can say ambiguous_path: pass"


def _fault_of_path(raw: str) -> str:
    """Returns why a server may read it as the path of another route."""
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
    if any(unicodedata.category(character) in _DROPPED for character in text) or text != text.strip():
        return "which has a control character, or white space at an end; send it without"
    return ""


def _fault_of_name(raw: str) -> str:
    """Returns why it may be read as another path, or has a second spelling."""
    if fault := _fault_of_path(raw):
        return fault
    text = unquote(raw)
    if any(unicodedata.category(character) in _NEVER_SHOWN for character in text):
        return "which has a character without a meaning in Unicode; send it without"
    if not unicodedata.is_normalized("NFC", text):
        return "which is not in the Unicode form NFC; send it so"
    return ""


def _shown(path: str) -> str:
    return name.harmless(path)
