"""How the receivers of the settings are reached: each receiver with the wire of its kind."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from jit_service.notifications.delivery import Channel, Wire
from jit_service.notifications.mail import Mail
from jit_service.notifications.receivers import (
    AnyReceiver,
    EmailReceiver,
    Format,
    SlackReceiver,
    TeamsReceiver,
    WebhookReceiver,
)
from jit_service.notifications.slack import Slack
from jit_service.notifications.teams import Teams
from jit_service.notifications.webhook import Webhook
from jit_service.rpc.audit_formats.cloudevents import cloud_event
from jit_service.settings import Settings, SettingsError


class CheckedWire(Wire, Protocol):
    """A wire that can tell whether it leads anywhere."""

    def look_up(self) -> str:
        """Returns what is wrong with where the receiver's name leads now, or nothing. It sends nothing."""


def channels_of(settings: Settings) -> list[Channel]:
    """Returns how the receivers of the settings are reached. Raises SettingsError."""
    return [_channel(receiver, settings) for receiver in settings.notifications]


def wire_to(receiver: AnyReceiver, settings: Settings) -> CheckedWire:
    """Returns the wire to the receiver. Raises SettingsError if its ca_file is of no use."""
    try:
        return _wire(receiver, settings)
    except OSError as fault:
        raise SettingsError(f"receiver {receiver.name}: ca_file {receiver.ca_file} is of no use: {fault}") from fault


def _wire(receiver: AnyReceiver, settings: Settings) -> CheckedWire:
    console = settings.console
    match receiver:
        case WebhookReceiver():
            return Webhook(receiver, partial(cloud_event, source=settings.notifications_source), console=console)
        case EmailReceiver():
            return Mail(receiver, console=console)
        case SlackReceiver():
            return Slack(receiver, console=console)
        case TeamsReceiver():
            return Teams(receiver, console=console)


def _channel(receiver: AnyReceiver, settings: Settings) -> Channel:
    return Channel(
        receiver=receiver.name,
        wire=wire_to(receiver, settings),
        timeout=receiver.timeout,
        retries=receiver.retries,
        for_people=_is_for_people(receiver),
        digests=isinstance(receiver, EmailReceiver | TeamsReceiver),
    )


def _is_for_people(receiver: AnyReceiver) -> bool:
    """Returns whether the messages say how the grant is now: all but CloudEvents, which are of the record alone."""
    if isinstance(receiver, WebhookReceiver):
        return receiver.template is not None or receiver.format is not Format.CLOUDEVENTS
    return True
