"""The servicer of SignalService: decode, call, encode."""

from __future__ import annotations

from datetime import datetime

import grpc

from jit_service.domain.conditions.signal import Signal, normalize_name
from jit_service.domain.errors import InvalidField
from jit_service.rpc.interceptor import current_caller
from jit_service.rpc.mapping import Encoder
from jit_service.rpc.message_size import within_bytes
from jit_service.rpc.well_known_types import instant_of, json_value_of
from jit_service.storage import Store
from jit_service.use_cases import signals
from jitaccess.v1 import signal_pb2
from jitaccess.v1.signal_pb2_grpc import SignalServiceServicer

_ENCODE = Encoder(signal_pb2.Signal, Signal, derived=("stale",))


class SignalServicer(SignalServiceServicer):
    """Signals: named pieces of system state."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def SetSignal(self, request: signal_pb2.SetSignalRequest, context: grpc.ServicerContext) -> signal_pb2.Signal:
        wanted = _wanted(request.signal)
        return signal_message(*signals.put(self._store, current_caller(), wanted, etag=request.signal.etag))

    def GetSignal(self, request: signal_pb2.GetSignalRequest, context: grpc.ServicerContext) -> signal_pb2.Signal:
        return signal_message(*signals.get(self._store, normalize_name(request.name, "name")))

    @within_bytes
    def ListSignals(
        self, request: signal_pb2.ListSignalsRequest, context: grpc.ServicerContext
    ) -> signal_pb2.ListSignalsResponse:
        page = signals.list_page(
            self._store, current_caller(), page_size=request.page_size, page_token=request.page_token
        )
        return signal_pb2.ListSignalsResponse(
            signals=[signal_message(signal, page.at) for signal in page.signals],
            next_page_token=page.next_page_token,
        )

    def DeleteSignal(self, request: signal_pb2.DeleteSignalRequest, context: grpc.ServicerContext) -> signal_pb2.Signal:
        name = normalize_name(request.name, "name")
        return signal_message(*signals.delete(self._store, current_caller(), name, etag=request.etag))


def signal_message(signal: Signal, at: datetime) -> signal_pb2.Signal:
    """Returns the signal, stale or not at `at`."""
    return _ENCODE(signal, stale=signal.is_stale(at))


def _wanted(message: signal_pb2.Signal) -> Signal:
    if not message.HasField("expire_time"):
        raise InvalidField("signal.expire_time", "is required: from then on the signal counts as missing")
    value = json_value_of(message.value, "signal.value")
    name = normalize_name(message.name, "signal.name")
    return Signal(name=name, value=value, expires_at=instant_of(message.expire_time, "signal.expire_time"))
