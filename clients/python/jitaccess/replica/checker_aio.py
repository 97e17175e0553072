"""`jitaccess.replica.checker` for asyncio: fed by a task of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Self

import grpc
import grpc.aio

from jitaccess import _watch
from jitaccess._faults import from_call
from jitaccess.aio import AsyncJitClient, next_message
from jitaccess.contract.calls import access as calls
from jitaccess.contract.model import CheckItem
from jitaccess.errors import JitError, Unavailable
from jitaccess.replica.after_no import SECONDS
from jitaccess.replica.checker import (
    MAX_AGE,
    LocalDecision,
    LocalState,
    OnDecision,
    is_final,
    not_there,
    remote_decision,
)
from jitaccess.replica.decision import LocalReason
from jitaccess.replica.state import SILENCE, first_silence


class AsyncLocalChecker(LocalState):
    """Answers checks in this process: `LocalChecker` for one event loop, an asynchronous context manager.

    A loop that is blocked takes no updates; the state then grows stale, and answers no.
    """

    def __init__(
        self,
        client: AsyncJitClient,
        *,
        max_age: timedelta = MAX_AGE,
        ask_service: bool = True,
        ask_after_no: bool = False,
        on_decision: OnDecision | None = None,
    ) -> None:
        super().__init__(max_age=max_age, on_decision=on_decision, ask_after_no=ask_after_no)
        self._client = client
        self._ask_service = ask_service
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow(), name="jitaccess-replica")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the stream; from then on the state grows stale."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def wait_ready(self, timeout: float = 10.0) -> Self:
        """Returns once it has a state to answer by, as `LocalChecker.wait_ready` does."""
        return await self.wait_for(0, timeout)

    async def wait_for(self, revision: int, timeout: float = 10.0) -> Self:
        """Returns once its state is of the revision or a later one, as `LocalChecker.wait_for` does."""
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(lambda: self.reached(revision) or is_final(self.fault))
        except TimeoutError:
            pass
        if self.reached(revision):
            return self
        raise not_there(revision, timeout, self.fault)

    async def check(
        self,
        subject: str,
        action: str,
        resource: str,
        *,
        context: Mapping[str, object] | None = None,
        source_ip: str = "",
    ) -> LocalDecision:
        """Returns whether a grant lets the subject do the action on the resource, as `LocalChecker.check` does."""
        decision = self.judge(subject, action, resource)
        if decision.reason is LocalReason.NEEDS_CHECK and self._ask_service:
            asked = self._client.check(subject, action, resource, context=context, source_ip=source_ip)
            decision = remote_decision(await asked)
        elif self.after_no.is_worth(decision.reason):
            call = calls.check(subject, action, resource, context=context, source_ip=source_ip)
            with self.after_no.asking() as may_ask:
                if may_ask:
                    decision = remote_decision(await self._client.send(call, timeout=SECONDS))
        if self._on_decision is not None:
            return self.told(CheckItem(subject, action, resource, context=context, source_ip=source_ip), decision)
        return decision

    async def _follow(self) -> None:
        while True:
            try:
                fault: Exception | None = await self._read()
            except TimeoutError:
                fault = _watch.silent(SILENCE)
            except grpc.RpcError as error:
                fault = from_call(error, address=self._client.address)
            # As in LocalChecker: the token's source may raise anything.
            except Exception as error:
                fault = error
            if isinstance(fault, Unavailable):
                self._client.turn()
            if fault is not None:
                pause = self.pause_after(fault)
                await self._tell()
                await asyncio.sleep(pause)

    async def _tell(self) -> None:
        """Wakes the tasks that wait for a state or a fault."""
        async with self._changed:
            self._changed.notify_all()

    async def _read(self) -> JitError | None:
        call = self.open()
        stream, silence = self._client.open_stream(call), first_silence(call.request)
        try:
            while (told := await next_message(stream, silence=silence)) is not grpc.aio.EOF:
                silence = SILENCE
                if self.take(told):
                    await self._tell()
                    if self.measure_again():
                        return None
        finally:
            stream.cancel()
        return _watch.ended()
