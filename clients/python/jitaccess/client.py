"""The client for ordinary code. `jitaccess.aio` has the same one for asyncio."""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc

from jitaccess import _transport, _watch, config
from jitaccess._faults import from_call
from jitaccess._transport import DEFAULT_TIMEOUT, Attempts, Channels, Retry
from jitaccess._watch import Resumption, TailResumption, WatchResumption
from jitaccess.config import TokenSource
from jitaccess.contract.calls import access, audit, delegations, grants, locks, policies, signals, tokens
from jitaccess.contract.calls.call import Call
from jitaccess.contract.model import AuditCheckpoint, AuditVerification, Grant, GrantEvent, Page, TailedEvent, View
from jitaccess.errors import Internal, JitError, Unavailable

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E")


def with_self(build: Callable[..., object]) -> inspect.Signature:
    """Returns the signature of a method that takes the builder's arguments, for help() and editors."""
    signature = inspect.signature(build)
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), *signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)


def _method(build: Callable[P, Call[T]]) -> Callable[Concatenate[JitClient, P], T]:
    """Returns the method that makes the built call."""

    @functools.wraps(build)
    def method(self: JitClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(build(*args, **kwargs))

    method.__signature__ = with_self(build)  # type: ignore[attr-defined]
    return method


def _listing(build: Callable[P, Call[Page[T]]]) -> Callable[Concatenate[JitClient, P], Iterator[T]]:
    """Returns the method that yields the items of every page; a page is fetched when it is reached."""

    @functools.wraps(build)
    def method(self: JitClient, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._items(build(*args, **kwargs))

    method.__signature__ = with_self(build)  # type: ignore[attr-defined]
    return method


def _following(build: Callable[P, Call[T]]) -> Callable[Concatenate[JitClient, P], Generator[T, None, None]]:
    """Returns the method that yields the messages of a stream that ends by itself."""

    @functools.wraps(build)
    def method(self: JitClient, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return self._parts(build(*args, **kwargs))

    method.__signature__ = with_self(build)  # type: ignore[attr-defined]
    return method


class JitClient:
    """Asks, decides and checks over gRPC. Thread-safe; a context manager.

    `address` is HOST:PORT, https://HOST or unix:PATH, or several of them with commas between: where one is unavailable,
    calls and streams go on with the next. `ca_file` has the authorities of the service's certificate, and means TLS.
    `cert_file` and `cert_key_file` are this client's own certificate chain and key, in PEM, where the service demands
    one; where it names the caller, no token is needed.
    `token` is a text, or a function that is called for every call. What is not given comes from the context that
    `context` names, else from the environment and then the context in use (`jitaccess.config`): after `jit login`, and
    in jobs of GitHub Actions, GitLab and Kubernetes, no token needs to be given. `timeout` is in seconds and holds for
    a whole call, retries included; for a list, for each page.
    Raises Misconfigured and Unauthenticated at once where address or token are missing; each call raises the
    exceptions of `jitaccess.errors`.
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
        self._channels = Channels(targets, _open)

    @property
    def address(self) -> str:
        """Where the service is; with several addresses, all of them."""
        return self._channels.address

    def turn(self) -> None:
        """Goes on with the next address, if there are several."""
        self._channels.turn()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls under way end with Unavailable."""
        for channel in self._channels.closing():
            channel.close()

    def send(self, call: Call[T], *, timeout: float | None = None) -> T:
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
                answer = rpc(call.request, timeout=attempts.remaining(), metadata=_transport.authorization(self._token))
            except grpc.RpcError as error:
                pause = attempts.pause_after(error)
                self._channels.leave(channel)
            else:
                return call.read_answer(answer)
            time.sleep(pause)

    def watch_grants(
        self,
        *,
        start_revision: int = 0,
        start_history: str = "",
        view: View | str = View.MINE,
        grant: Grant | str = "",
        heartbeats: bool = False,
    ) -> Generator[GrantEvent, None, None]:
        """Yields each change of grants after `start_revision`, in order and once, for ever.

        From 0 each live grant comes first, as CURRENT. With `grant` only this one's changes come, with `heartbeats`
        signs of life too. `start_history` is the `history` that came with the revision: the call is refused where the
        store has another one since. A stream that breaks is taken up where it was, after pauses as `retry` has them;
        only where several in a row tell nothing at all, Unavailable is raised, and any other error at once. Closing the
        iterator ends the call.
        """
        call = grants.watch_grants(start_revision=start_revision, start_history=start_history, view=view, grant=grant)
        return self._events(WatchResumption(call, heartbeats=heartbeats, new_attempts=self._attempts))

    def tail_audit_events(
        self, *, filter: str = "", start_seq: int = 0, heartbeats: bool = False
    ) -> Generator[TailedEvent, None, None]:
        """Yields each record of the audit log after `start_seq`, with 0 each that comes from now on, for ever.

        In order and once; with `heartbeats` signs of life come too. A stream that breaks is taken up where it was,
        as by `watch_grants`. Closing the iterator ends the call.
        """
        call = audit.tail_audit_events(filter=filter, start_seq=start_seq)
        return self._events(TailResumption(call, heartbeats=heartbeats, new_attempts=self._attempts))

    def export_audit_events(
        self, *, format: str = "jitaccess", filter: str = "", start_seq: int = 0, end_seq: int = 0
    ) -> Generator[bytes, None, None]:
        """Yields the records after `start_seq` up to `end_seq`, with 0 up to the last, in parts of whole lines of JSON.

        `format` is `jitaccess`, `cloudevents` or `ocsf`. They are complete only where the iterator ends by itself: one
        that breaks off raises, and can be gone on with after the last line's seq.
        """
        call = audit.export_audit_events(format=format, filter=filter, start_seq=start_seq, end_seq=end_seq)
        return self._parts(call)

    def stream_audit_verification(
        self, *, checkpoint: AuditCheckpoint | str = "", only_new: bool = False
    ) -> Generator[AuditVerification, None, None]:
        """Yields how far the verification of the audit log is, at least each second; the last one has the `result`.

        As `verify_audit_log`, and no timeout ends it. With `only_new`, which needs a checkpoint, only the records after
        the checkpoint are recomputed. An iterator that breaks off raises, and has not verified anything.
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

    def _events(self, resumption: Resumption[T, E]) -> Generator[E, None, None]:
        while True:
            call = resumption.call()
            try:
                stream = Stream(self.open_stream(call), silence=_watch.SILENCE)
            except Unavailable as away:
                # The provider, which may be back before the stream would be given up.
                time.sleep(self.pause_before_resuming(resumption, away))
                continue
            fault = _watch.ended()
            try:
                for message in stream:
                    yield from resumption.take(call.read_answer(message))
            except grpc.RpcError as error:
                fault = _watch.silent(_watch.SILENCE) if stream.was_silent else from_call(error, address=self.address)
                fault.__cause__ = error
            finally:
                stream.close()
            pause = self.pause_before_resuming(resumption, fault)
            self.turn()
            time.sleep(pause)

    def pause_before_resuming(self, resumption: Resumption[Any, Any], fault: JitError) -> float:
        """Returns the seconds to wait before a broken stream is taken up, or raises the fault where it shall not be."""
        return resumption.pause(fault)

    def _parts(self, call: Call[T]) -> Generator[T, None, None]:
        attempts, has_begun = self._attempts(), False
        while True:
            stream = Stream(self.open_stream(call), silence=_watch.SILENCE)
            try:
                for message in stream:
                    has_begun = True
                    if part := call.read_answer(message):
                        yield part
                return
            except grpc.RpcError as error:
                fault = _watch.silent(_watch.SILENCE) if stream.was_silent else from_call(error, address=self.address)
                fault.__cause__ = error
            finally:
                stream.close()
            # What was yielded is not yielded again.
            if has_begun:
                raise fault
            pause = attempts.pause(fault)
            self.turn()
            time.sleep(pause)

    def open_stream(self, call: Call[T]) -> Any:
        """Begins a streaming call that `jitaccess.contract.calls` built, and returns gRPC's own; `Stream` reads it."""
        rpc = self._channels.current().unary_stream(
            call.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.answer.FromString,
        )
        return rpc(call.request, metadata=_transport.authorization(self._token))

    def _items(self, call: Call[Page[T]]) -> Iterator[T]:
        token = ""
        while True:
            page = self.send(call)
            yield from page.items
            if not page.next_page_token:
                return
            token = next_token(page, after=token)
            call = call.at_page(token)


class Stream:
    """The answers of a streaming call, which is cancelled when the next one does not come within `silence` seconds.

    The first one may take `first` seconds, by default as long as any. gRPC's blocking iterator knows no timeout, hence
    a thread that looks after it.
    """

    def __init__(self, call: Any, *, silence: float, first: float | None = None) -> None:
        self._call = call
        self._after_first = silence
        self._silence = silence if first is None else first
        self._waiting_since: float | None = time.monotonic()
        self._closed = threading.Event()
        self.was_silent = False
        threading.Thread(target=self._look_after, name="jitaccess-watch", daemon=True).start()

    def __iter__(self) -> Iterator[Any]:
        while True:
            # A consumer that takes its time is not the service's silence.
            self._waiting_since = time.monotonic()
            try:
                message = next(self._call)
            except StopIteration:
                return
            finally:
                self._waiting_since = None
            self._silence = self._after_first
            yield message

    def close(self) -> None:
        """Cancels the call, if it goes on."""
        self._closed.set()
        self._call.cancel()

    def _look_after(self) -> None:
        while (left := self._left()) > 0:
            if self._closed.wait(left):
                return
        self.was_silent = True
        self._call.cancel()

    def _left(self) -> float:
        since = self._waiting_since
        return self._silence if since is None else since + self._silence - time.monotonic()


def next_token(page: Page[T], *, after: str) -> str:
    """Returns the token of the page that follows. Raises Internal for one that would repeat the page for ever."""
    if page.next_page_token == after:
        raise Internal("the service gave the same page token twice")
    return page.next_page_token


def _open(where: _transport.Target) -> grpc.Channel:
    if where.credentials is None:
        return grpc.insecure_channel(where.address, options=where.options)
    return grpc.secure_channel(where.address, where.credentials, options=where.options)
