"""The client for asyncio: `jitaccess.client`, awaited."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc
import grpc.aio

from jitaccess import _transport, _watch, config
from jitaccess._faults import from_call
from jitaccess._transport import DEFAULT_TIMEOUT, Attempts, Channels, Retry
from jitaccess._watch import Resumption, TailResumption, WatchResumption
from jitaccess.client import next_token, with_self
from jitaccess.config import TokenSource
from jitaccess.contract.calls import access, audit, delegations, grants, locks, policies, signals, tokens
from jitaccess.contract.calls.call import Call
from jitaccess.contract.model import AuditCheckpoint, AuditVerification, Grant, GrantEvent, Page, TailedEvent, View
from jitaccess.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E")


def _method(build: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncJitClient, P], Awaitable[T]]:
    """Returns the coroutine method that makes the built call."""

    @functools.wraps(build)
    async def method(self: AsyncJitClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(build(*args, **kwargs))

    method.__signature__ = with_self(build)  # type: ignore[attr-defined]
    return method


def _listing(build: Callable[P, Call[Page[T]]]) -> Callable[Concatenate[AsyncJitClient, P], AsyncIterator[T]]:
    """Returns the method that yields the items of every page; a page is fetched when it is reached."""

    @functools.wraps(build)
    def method(self: AsyncJitClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return self._items(build(*args, **kwargs))

    method.__signature__ = with_self(build)  # type: ignore[attr-defined]
    return method


def _following(build: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncJitClient, P], AsyncGenerator[T, None]]:
    """Returns the method that yields the messages of a stream that ends by itself."""

    @functools.wraps(build)
    def method(self: AsyncJitClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return self._parts(build(*args, **kwargs))

    method.__signature__ = with_self(build)  # type: ignore[attr-defined]
    return method


class AsyncJitClient:
    """Asks, decides and checks over gRPC from one event loop; an asynchronous context manager.

    Arguments, defaults and exceptions are those of `JitClient`. The connection belongs to the loop of the first call.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | TokenSource | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        tls: bool | grpc.ChannelCredentials | None = None,
        insecure: bool = False,
        retry: Retry | None = None,
        ca_file: str | Path | None = None,
        cert_file: str | Path | None = None,
        cert_key_file: str | Path | None = None,
        context: str | None = None,
    ) -> None:
        settings = config.load(
            address=address,
            token=token,
            tls=tls if isinstance(tls, bool) else None,
            ca_file=ca_file,
            cert_file=cert_file,
            cert_key_file=cert_key_file,
            context=context,
        )
        self._token = settings.token
        self._timeout = timeout
        self._retry = retry or Retry()
        targets = _transport.targets(
            settings.address,
            tls=settings.tls if tls is None else tls,
            insecure=insecure,
            ca_file=settings.ca_file,
            client_certificate=settings.client_certificate,
        )
        # A channel is made by the first call to its address: grpc.aio binds it to the loop that is running then.
        self._channels = Channels(targets, _open)

    @property
    def address(self) -> str:
        """Where the service is; with several addresses, all of them."""
        return self._channels.address

    def turn(self) -> None:
        """Goes on with the next address, if there are several."""
        self._channels.turn()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls under way are cancelled."""
        for channel in self._channels.closing():
            await channel.close()

    async def send(self, call: Call[T], *, timeout: float | None = None) -> T:
        """Makes a call that `jitaccess.contract.calls` built, and returns its answer.

        `timeout` is in seconds, retries included; the client's own if it is not given.
        """
        attempts = self._attempts(timeout)
        while True:
            channel = self._channels.current()
            rpc = channel.unary_unary(
                call.path,
                request_serializer=type(call.request).SerializeToString,
                response_deserializer=call.answer.FromString,
            )
            try:
                await _transport.make_ready(self._token)
                answer = await rpc(
                    call.request, timeout=attempts.remaining(), metadata=_transport.authorization(self._token)
                )
            except grpc.RpcError as error:
                pause = attempts.pause_after(error)
                self._channels.leave(channel)
            else:
                return call.read_answer(answer)
            await asyncio.sleep(pause)

    def watch_grants(
        self,
        *,
        start_revision: int = 0,
        start_history: str = "",
        view: View | str = View.MINE,
        grant: Grant | str = "",
        heartbeats: bool = False,
    ) -> AsyncGenerator[GrantEvent, None]:
        """Yields each change of grants after `start_revision`, as `JitClient.watch_grants` does.

        `aclose` on the iterator ends the call.
        """
        call = grants.watch_grants(start_revision=start_revision, start_history=start_history, view=view, grant=grant)
        return self._events(WatchResumption(call, heartbeats=heartbeats, new_attempts=self._attempts))

    def tail_audit_events(
        self, *, filter: str = "", start_seq: int = 0, heartbeats: bool = False
    ) -> AsyncGenerator[TailedEvent, None]:
        """Yields each record of the audit log after `start_seq`, as `JitClient.tail_audit_events` does.

        `aclose` on the iterator ends the call.
        """
        call = audit.tail_audit_events(filter=filter, start_seq=start_seq)
        return self._events(TailResumption(call, heartbeats=heartbeats, new_attempts=self._attempts))

    def export_audit_events(
        self, *, format: str = "jitaccess", filter: str = "", start_seq: int = 0, end_seq: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """Yields records in parts of whole lines of JSON, as `JitClient.export_audit_events` does.

        `aclose` on the iterator ends the call.
        """
        call = audit.export_audit_events(format=format, filter=filter, start_seq=start_seq, end_seq=end_seq)
        return self._parts(call)

    def stream_audit_verification(
        self, *, checkpoint: AuditCheckpoint | str = "", only_new: bool = False
    ) -> AsyncGenerator[AuditVerification, None]:
        """Yields how far the verification of the audit log is, as `JitClient.stream_audit_verification` does.

        `aclose` on the iterator ends the call.
        """
        return self._parts(audit.stream_audit_verification(checkpoint=checkpoint, only_new=only_new))

    request = _method(grants.request)
    ensure = _method(grants.ensure)
    get_grant = _method(grants.get_grant)
    list_grants = _listing(grants.list_grants)
    approve = _method(grants.approve)
    deny = _method(grants.deny)
    withdraw = _method(grants.withdraw)
    revoke = _method(grants.revoke)
    release = _method(grants.release)
    counter = _method(grants.counter)
    accept_counter_offer = _method(grants.accept_counter_offer)
    decline_counter_offer = _method(grants.decline_counter_offer)
    extend = _method(grants.extend)
    complete_review = _method(grants.complete_review)
    plan_revocation = _method(grants.plan_revocation)
    revoke_grants = _method(grants.revoke_grants)
    check = _method(access.check)
    check_many = _method(access.check_many)
    search = _listing(access.search)
    who_am_i = _method(access.who_am_i)
    create_policy = _method(policies.create_policy)
    get_policy = _method(policies.get_policy)
    list_policies = _listing(policies.list_policies)
    update_policy = _method(policies.update_policy)
    delete_policy = _method(policies.delete_policy)
    apply_policies = _method(policies.apply_policies)
    test_policy = _method(policies.test_policy)
    simulate_policies = _method(policies.simulate_policies)
    stream_policy_simulation = _following(policies.stream_policy_simulation)
    get_policy_proposal = _method(policies.get_policy_proposal)
    list_policy_proposals = _listing(policies.list_policy_proposals)
    approve_policy_proposal = _method(policies.approve_policy_proposal)
    reject_policy_proposal = _method(policies.reject_policy_proposal)
    create_delegation = _method(delegations.create_delegation)
    get_delegation = _method(delegations.get_delegation)
    list_delegations = _listing(delegations.list_delegations)
    delete_delegation = _method(delegations.delete_delegation)
    create_lock = _method(locks.create_lock)
    get_lock = _method(locks.get_lock)
    list_locks = _listing(locks.list_locks)
    delete_lock = _method(locks.delete_lock)
    set_signal = _method(signals.set_signal)
    get_signal = _method(signals.get_signal)
    list_signals = _listing(signals.list_signals)
    delete_signal = _method(signals.delete_signal)
    issue_token = _method(tokens.issue_token)
    get_key_set = _method(tokens.get_key_set)
    get_authorization_server_metadata = _method(tokens.get_authorization_server_metadata)
    get_protected_resource_metadata = _method(tokens.get_protected_resource_metadata)
    introspect_token = _method(tokens.introspect_token)
    revoke_token = _method(tokens.revoke_token)
    list_audit_events = _listing(audit.list_audit_events)
    verify_audit_log = _method(audit.verify_audit_log)
    get_audit_checkpoint = _method(audit.get_audit_checkpoint)

    def _attempts(self, timeout: float | None = None) -> Attempts:
        seconds = self._timeout if timeout is None else timeout
        channels = self._channels
        return Attempts(retry=self._retry, timeout=seconds, address=channels.address, others=channels.others)

    async def _events(self, resumption: Resumption[T, E]) -> AsyncGenerator[E, None]:
        while True:
            call = resumption.call()
            try:
                await _transport.make_ready(self._token)
            except Unavailable as away:
                # The provider, which may be back before the stream would be given up.
                await asyncio.sleep(resumption.pause(away))
                continue
            stream = self.open_stream(call)
            fault = _watch.ended()
            try:
                while (message := await next_message(stream, silence=_watch.SILENCE)) is not grpc.aio.EOF:
                    for event in resumption.take(call.read_answer(message)):
                        yield event
            except TimeoutError:
                fault = _watch.silent(_watch.SILENCE)
            except grpc.RpcError as error:
                fault = from_call(error, address=self.address)
                fault.__cause__ = error
            finally:
                stream.cancel()
            pause = resumption.pause(fault)
            self.turn()
            await asyncio.sleep(pause)

    async def _parts(self, call: Call[T]) -> AsyncGenerator[T, None]:
        attempts, has_begun = self._attempts(), False
        while True:
            await _transport.make_ready(self._token)
            stream = self.open_stream(call)
            try:
                while (message := await next_message(stream, silence=_watch.SILENCE)) is not grpc.aio.EOF:
                    has_begun = True
                    if part := call.read_answer(message):
                        yield part
                return
            except TimeoutError:
                fault = _watch.silent(_watch.SILENCE)
            except grpc.RpcError as error:
                fault = from_call(error, address=self.address)
                fault.__cause__ = error
            finally:
                stream.cancel()
            # What was yielded is not yielded again.
            if has_begun:
                raise fault
            pause = attempts.pause(fault)
            self.turn()
            await asyncio.sleep(pause)

    def open_stream(self, call: Call[T]) -> Any:
        """Begins a streaming call of `jitaccess.contract.calls`, and returns gRPC's own; `next_message` reads it."""
        rpc = self._channels.current().unary_stream(
            call.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.answer.FromString,
        )
        return rpc(call.request, metadata=_transport.authorization(self._token))

    async def _items(self, call: Call[Page[T]]) -> AsyncIterator[T]:
        token = ""
        while True:
            page = await self.send(call)
            for item in page.items:
                yield item
            if not page.next_page_token:
                return
            token = next_token(page, after=token)
            call = call.at_page(token)


def _open(where: _transport.Target) -> grpc.aio.Channel:
    if where.credentials is None:
        return grpc.aio.insecure_channel(where.address, options=where.options)
    return grpc.aio.secure_channel(where.address, where.credentials, options=where.options)


async def next_message(stream: Any, *, silence: float) -> Any:
    """Returns the next message or grpc.aio.EOF. Raises TimeoutError where none comes within `silence` seconds."""
    async with asyncio.timeout(silence):
        return await stream.read()
