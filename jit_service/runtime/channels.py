"""How the receivers of the settings are reached: each receiver with the wire of its kind."""

from __future__ import annotations

from functools import partial

from jit_service.notifications.delivery import Channel
from jit_service.notifications.receivers import Receiver
from jit_service.notifications.webhook import Webhook
from jit_service.rpc.audit_formats.cloudevents import cloud_event
from jit_service.settings import Settings, SettingsError


def channels_of(settings: Settings) -> list[Channel]:
    """Returns how the receivers of the settings are reached. Raises SettingsError."""
    return [_channel(receiver, settings) for receiver in settings.notifications]


def wire_to(receiver: Receiver, settings: Settings) -> Webhook:
    """Returns the wire to the receiver. Raises SettingsError if its ca_file is of no use."""
    try:
        return Webhook(receiver, partial(cloud_event, source=settings.notifications_source))
    except OSError as fault:
        raise SettingsError(f"receiver {receiver.name}: ca_file {receiver.ca_file} is of no use: {fault}") from fault


def _channel(receiver: Receiver, settings: Settings) -> Channel:
    return Channel(
        receiver=receiver.name,
        wire=wire_to(receiver, settings),
        timeout=receiver.timeout,
        retries=receiver.retries,
    )
