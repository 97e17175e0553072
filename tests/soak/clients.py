"""Ways to call: the Python client straight to each process, and the same client as REST through Envoy."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from http import HTTPStatus
from random import Random
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict, ParseDict
from google.rpc.status_pb2 import Status

from jitaccess import JitClient, JitError, ResourceExhausted, Retry, Unavailable
from jitaccess._faults import from_status
from jitaccess.contract.calls.call import Call
from tests.soak.place import REST, Place
from tests.soak.told import Told
from tests.world import Person, rest_call

T = TypeVar("T")
TIMEOUT = 5.0
_ONCE = Retry(attempts=1)
_PAUSE_SECONDS = 0.1
_GIVE_UP_SECONDS = 60.0


class RestClient(JitClient):
    """The same calls over REST, each as its google.api.http says, wherever Envoy is at the moment."""

    def __init__(self, site: Place, token: str, *, timeout: float = TIMEOUT) -> None:
        super().__init__(site.address_of(site.ways[0]), token=token, timeout=timeout, retry=_ONCE, insecure=True)
        self._site = site
        self._seconds = timeout
        self._bearer = token

    def send(self, call: Call[T], *, timeout: float | None = None) -> T:  # noqa: ARG002 (REST has one for all)
        """Makes the call over REST. Raises what JitClient does."""
        verb, path, content = rest_call(call.path, MessageToDict(call.request))
        status, text = self._answer(verb, path, content)
        try:
            told = json.loads(text)
        except ValueError:
            raise JitError(f"HTTP {status} is no JSON: {text[:200]!r}", code="UNKNOWN") from None
        if status != HTTPStatus.OK:
            raise from_status(ParseDict(told, Status()))
        return call.read_answer(ParseDict(told, call.answer()))

    def _answer(self, verb: str, path: str, content: str | None) -> tuple[int, bytes]:
        where = self._site.http
        connection = http.client.HTTPConnection(where.host, where.port, timeout=self._seconds)
        headers = {"authorization": f"Bearer {self._bearer}", "content-type": "application/json"}
        try:
            connection.request(verb, path, body=content, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as fault:
            raise Unavailable(f"no answer from {where}: {fault}") from fault
        finally:
            connection.close()


class Clients:
    """One thread's clients: a person's client for each way, opened when first needed."""

    def __init__(self, site: Place, told: Told, random: Random) -> None:
        self.site = site
        self.told = told
        self.random = random
        self._open: dict[tuple[str, str], JitClient] = {}
        self._stack = ExitStack()

    def close(self) -> None:
        self._stack.close()

    def of(self, person: Person, way: str) -> JitClient:
        """Returns the person's client for a way."""
        key = (person.principal, way)
        if key not in self._open:
            self._open[key] = self._stack.enter_context(open_client(self.site, self.site.token(person), way))
        return self._open[key]

    def any_of(self, person: Person) -> JitClient:
        """Returns the person's client for any way."""
        return self.of(person, self.random.choice(self.site.ways))

    def until_known(self, person: Person, kind: str, do: Callable[[JitClient], T]) -> T:
        """Makes a write, again and by any way while its outcome is unknown: it has one request_id, so it happens once.

        Raises what the service refuses, or Unavailable where it had no answer for too long.
        """
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        while True:
            client = self.any_of(person)
            try:
                return self.told.call(kind, lambda client=client: do(client))  # type: ignore[misc]
            except (Unavailable, ResourceExhausted):
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_SECONDS)


def open_client(site: Place, token: str, way: str, *, timeout: float = TIMEOUT) -> JitClient:
    """Returns a client that tries once, so that what it was told is what the service said."""
    if way == REST:
        return RestClient(site, token, timeout=timeout)
    return JitClient(site.address_of(way), token=token, timeout=timeout, retry=_ONCE, insecure=True)


def answers(
    site: Place, person: Person, way: str, ask: Callable[[JitClient], Any], *, timeout: float = TIMEOUT
) -> bool:
    """Says whether a client that connects anew has an answer."""
    with suppress(JitError), open_client(site, site.token(person), way, timeout=timeout) as client:
        ask(client)
        return True
    return False
