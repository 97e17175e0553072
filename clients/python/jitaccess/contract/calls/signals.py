"""Calls of SignalService."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf import json_format
from google.protobuf.message import Message

from jitaccess._error import invalid_field
from jitaccess.contract.calls.call import Call, listing, one
from jitaccess.contract.calls.fields import fill, full_name, instant_message, new_request_id, until
from jitaccess.contract.model import Page, Signal
from jitaccess.v1 import signal_pb2


def set_signal(
    name: str,
    value: object,
    *,
    expire_time: datetime | None = None,
    ttl: timedelta | None = None,
    etag: str = "",
    request_id: str | None = None,
) -> Call[Signal]:
    """Sets a signal to what JSON can hold, until `expire_time`, or for `ttl` by this machine's clock."""
    if (expire_time is None) == (ttl is None):
        raise invalid_field("expire_time", "give either expire_time or ttl")
    over_at = instant_message(until(expire_time, ttl), "expire_time")
    signal = fill(signal_pb2.Signal, name=full_name("signals", name), expire_time=over_at, etag=etag)
    try:
        json_format.ParseDict(value, signal.value)  # type: ignore[arg-type]  # Any JSON will do for a Value.
    except (ValueError, TypeError, json_format.ParseError) as error:
        raise invalid_field("value", str(error)) from error
    return _signal_call("SetSignal", signal_pb2.SetSignalRequest(signal=signal, request_id=new_request_id(request_id)))


def get_signal(name: str) -> Call[Signal]:
    """Returns a signal."""
    return _signal_call("GetSignal", fill(signal_pb2.GetSignalRequest, name=full_name("signals", name)))


def list_signals(*, page_size: int = 0) -> Call[Page[Signal]]:
    """Lists the signals by name, expired ones too."""
    message = fill(signal_pb2.ListSignalsRequest, page_size=page_size)
    return listing("SignalService/ListSignals", message, signal_pb2.ListSignalsResponse, Signal, "signals")


def delete_signal(name: str, *, etag: str = "", request_id: str | None = None) -> Call[Signal]:
    """Deletes a signal; conditions then miss it."""
    message = fill(
        signal_pb2.DeleteSignalRequest,
        name=full_name("signals", name),
        etag=etag,
        request_id=new_request_id(request_id),
    )
    return _signal_call("DeleteSignal", message)


def _signal_call(rpc: str, message: Message) -> Call[Signal]:
    return one(f"SignalService/{rpc}", message, signal_pb2.Signal, Signal)
