"""The guard itself decides who calls and whether they may, for every framework.

Only a `Passage` lets through, and only one place makes it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from jitaccess.contract.model import CheckReason
from jitaccess.errors import JitError, Misconfigured, Unauthenticated, Unavailable
from jitaccess.guards.address import TrustedProxies
from jitaccess.guards.incoming import FixedSubject, Incoming, Subject, bearer_token
from jitaccess.guards.need import Need, Template
from jitaccess.guards.refusal import no, refusal_of, unsure
from jitaccess.replica.decision import LocalReason

if TYPE_CHECKING:
    from jitaccess.jose.keys import KeySource
    from jitaccess.jose.tokens import LiveGrants

DEFAULT_TIMEOUT = 10.0


@dataclass(frozen=True, kw_only=True)
class Passage:
    """Who was let through to do what, by which grant, and until when."""

    subject: str
    action: str
    resource: str
    grant: str
    expire_time: datetime | None


class Asks(Protocol):
    """Whoever answers checks: JitClient, LocalChecker, their asynchronous twins, or `jitaccess.testing`'s client."""

    def check(self, subject: str, action: str, resource: str, /, *, source_ip: str) -> Any:
        """Returns a decision, or something to await for it. `source_ip` is where the subject is, empty: not known."""


class Judge(Protocol):
    """One way to know whether a call may pass. Both methods raise for a no."""

    def judge(self, incoming: Incoming, need: Need) -> Passage:
        """Returns the passage of the call."""

    async def judge_async(self, incoming: Incoming, need: Need) -> Passage:
        """Returns the passage of the call."""


class Guard:
    """Lets a call through, or raises PermissionDenied, Unauthenticated, Unavailable, or Internal where misconfigured.

    `timeout`, in seconds, holds where the guard is asked on an event loop; elsewhere that of the client does.
    """

    def __init__(self, judge: Judge, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._judge = judge
        self._timeout = timeout

    @classmethod
    def by_check(
        cls,
        asks: Asks,
        *,
        subject: Subject,
        trusted_proxies: Iterable[str] = (),
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Guard:
        """A guard that asks for each call: a client, over the network, or a LocalChecker, in this process.

        Conditions see the caller's address as the framework knows it. Where the call comes from one of the
        `trusted_proxies`, networks of proxies alone, it is the right-most in X-Forwarded-For that is none of theirs.
        """
        return cls(_ByCheck(asks, subject, TrustedProxies(trusted_proxies)), timeout=timeout)

    @classmethod
    def by_token(
        cls,
        keys: str | Mapping[str, object] | KeySource,
        *,
        issuer: str,
        audience: str,
        checker: LiveGrants | None = None,
        token: Callable[[Incoming], str] = bearer_token,
        clock: Callable[[], datetime] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Guard:
        """A guard that takes the grant's token which the call brings (`verify_token`, extra `tokens`).

        With a `checker`, such as a LocalChecker, a token is over when its grant is.
        """
        judge = _ByToken(keys, issuer=issuer, audience=audience, checker=checker, token=token, clock=clock)
        return cls(judge, timeout=timeout)

    def admit(self, incoming: Incoming, template: Template, values: Mapping[str, object]) -> Passage:
        """Returns the passage of a call that may go on."""
        try:
            need = template.need(values)
            return _of(need, self._judge.judge(incoming, need))
        except Exception as error:
            raise refusal_of(error) from error

    async def admit_async(self, incoming: Incoming, template: Template, values: Mapping[str, object]) -> Passage:
        """Returns the passage of a call that may go on, within the timeout."""
        try:
            async with asyncio.timeout(self._timeout):
                need = template.need(values)
                return _of(need, await self._judge.judge_async(incoming, need))
        except Exception as error:
            raise refusal_of(error) from error


class _ByCheck:
    def __init__(self, asks: Asks, subject: Subject, proxies: TrustedProxies) -> None:
        self._asks = asks
        self._subject = subject
        self._proxies = proxies

    def judge(self, incoming: Incoming, need: Need) -> Passage:
        with _named(self._subject):
            subject = _known(_at_once(self._subject(incoming)))
        try:
            decision = _at_once(
                self._asks.check(subject, need.action, need.resource, source_ip=self._source_ip(incoming))
            )
        except JitError as error:
            raise unsure(error) from error
        return _passage(decision, subject, need)

    async def judge_async(self, incoming: Incoming, need: Need) -> Passage:
        with _named(self._subject):
            subject = _known(await _soon(self._subject, incoming))
        try:
            decision = await _soon(
                self._asks.check, subject, need.action, need.resource, source_ip=self._source_ip(incoming)
            )
        except JitError as error:
            raise unsure(error) from error
        return _passage(decision, subject, need)

    def _source_ip(self, incoming: Incoming) -> str:
        """Returns where the subject is, which is not where a call comes from that this program answers as itself."""
        return "" if isinstance(self._subject, FixedSubject) else self._proxies.source_ip(incoming)


class _ByToken:
    def __init__(
        self,
        keys: str | Mapping[str, object] | KeySource,
        *,
        issuer: str,
        audience: str,
        checker: LiveGrants | None,
        token: Callable[[Incoming], str],
        clock: Callable[[], datetime] | None,
    ) -> None:
        from jitaccess.jose.tokens import source_of

        self._keys = source_of(keys)
        self._issuer = issuer
        self._audience = audience
        self._checker = checker
        self._token = token
        self._clock = clock

    def judge(self, incoming: Incoming, need: Need) -> Passage:
        from jitaccess.jose.tokens import verify_token

        token = self._token(incoming)
        if not isinstance(token, str) or not token:
            raise Unauthenticated("there is no token", reason="TOKEN_MISSING")
        held = verify_token(
            token,
            self._keys,
            issuer=self._issuer,
            audience=self._audience,
            action=need.action,
            resource=need.resource,
            checker=self._checker,
            clock=self._clock,
        )
        return Passage(
            subject=held.subject,
            action=need.action,
            resource=need.resource,
            grant=held.grant,
            expire_time=held.expire_time,
        )

    async def judge_async(self, incoming: Incoming, need: Need) -> Passage:
        # The keys may have to be fetched.
        return await asyncio.to_thread(self.judge, incoming, need)


def _passage(decision: Any, subject: str, need: Need) -> Passage:
    """Returns the passage of a decision that is a yes in full. A partial yes, or no decision at all, gives none."""
    reason = decision.reason
    if decision.allowed is True and reason == CheckReason.ALLOWED and getattr(decision, "error", None) is None:
        return Passage(
            subject=subject,
            action=need.action,
            resource=need.resource,
            grant=decision.grant,
            expire_time=decision.expire_time,
        )
    if decision.allowed is not False or reason in (*LocalReason, CheckReason.UNKNOWN, CheckReason.ALLOWED):
        raise Unavailable(f"the check gave no answer to rely on: {reason}", reason=str(reason))
    asked = getattr(decision, "remote", None) or decision
    requestable = getattr(asked, "requestable_policies", ())
    raise no(
        decision.message,
        reason=str(reason),
        need=need,
        subject=subject,
        grant=decision.grant,
        requestable=requestable,
    )


def _of(need: Need, passage: Passage) -> Passage:
    """Returns the passage, where it is one for this need."""
    if not isinstance(passage, Passage) or (passage.action, passage.resource) != need:
        raise Misconfigured("the guard's judge gave no passage", reason="GUARD_FAULT")
    return passage


@contextmanager
def _named(function: Callable[..., Any]) -> Iterator[None]:
    """Names the program's own function in what is logged of its bug; what it raises on purpose goes through."""
    try:
        yield
    except (JitError, OSError):
        raise
    except Exception as fault:
        name = getattr(function, "__qualname__", type(function).__qualname__)
        where = f"{getattr(function, '__module__', '')}.{name}"
        raise Misconfigured(
            f"the guard's subject function {where} raised {type(fault).__name__}: {fault}", reason="SUBJECT_FAULT"
        ) from fault


def _known(subject: object) -> str:
    if not isinstance(subject, str) or not subject:
        raise Unauthenticated("the caller has no identity", reason="IDENTITY_MISSING")
    return subject


def _at_once(answer: Any) -> Any:
    """Returns an answer that is there. Raises Misconfigured for one that had to be awaited: it says nothing yet."""
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise Misconfigured("an asynchronous client cannot answer here; give JitClient or LocalChecker")
    return answer


async def _soon(function: Callable[..., Any], *args: object, **named: object) -> Any:
    """Returns the answer of a function of either kind; one that may block runs in a thread."""
    if inspect.iscoroutinefunction(function):
        return await function(*args, **named)
    answer: Awaitable[Any] | Any = await asyncio.to_thread(function, *args, **named)
    return await answer if inspect.isawaitable(answer) else answer
