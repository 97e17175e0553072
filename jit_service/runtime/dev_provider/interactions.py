"""What the provider's pages do: pick somebody, confirm it again, decide for a device, log out."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from jit_service.runtime.dev_provider import pages
from jit_service.runtime.dev_provider.authorization import AuthorizationRequest, ReturnedFault, Step
from jit_service.runtime.dev_provider.devices import Device, Devices
from jit_service.runtime.dev_provider.expiring import Expiring
from jit_service.runtime.dev_provider.granting import Granting
from jit_service.runtime.dev_provider.messages import OAuthFault, Request, Response, redirect
from jit_service.runtime.dev_provider.sessions import PICKABLE, Session

SESSION_LIFETIME: Final = timedelta(hours=12)
_INTERACTION_LIFETIME: Final = timedelta(minutes=10)


@dataclass(frozen=True)
class LogOut:
    """A log-out that its user has to confirm."""


_About = AuthorizationRequest | Device | LogOut


class Interactions:
    """The log-ins that are under way in browsers. `url` is the provider's, `base` its path."""

    def __init__(
        self, url: str, base: str, granting: Granting, devices: Devices, clock: Callable[[], datetime]
    ) -> None:
        self._url = url
        self._base = base
        # A browser sends a cookie to every port of a host, so each service has a cookie of its own.
        self._cookie_name = f"jit-dev-session-{urlsplit(url).port}"
        self._granting = granting
        self._devices = devices
        self._clock = clock
        self._sessions: Expiring[Session] = Expiring(SESSION_LIFETIME, clock)
        self._open: Expiring[_About] = Expiring(_INTERACTION_LIFETIME, clock)

    def session_of(self, request: Request) -> Session | None:
        """Returns the session of the browser, None where it has none."""
        return self._sessions.get(request.cookie(self._cookie_name))

    def begin(self, asked: AuthorizationRequest, session: Session | None) -> Response:
        """Answers a client's request: by a code if nothing is to be asked, else by a page. Raises ReturnedFault."""
        name = self._open.add(asked)
        if asked.is_silent and asked.step(session, interaction=name, now=self._clock().timestamp()) is not None:
            self._open.remove(name)
            fault = OAuthFault("login_required", "the user must be asked first")
            raise ReturnedFault(fault, redirect_uri=asked.redirect_uri, state=asked.state)
        return self._next(name, asked, session)

    def begin_device(self, user_code: str) -> Response:
        """Returns the page on which the device with this code is decided."""
        device = self._devices.waiting(user_code)
        if device is None:
            fault = "No device waits with this code. Look at the device: the code is over after 10 minutes."
            return pages.code_page(self._base, fault if user_code else "")
        return pages.device_page(self._base, self._open.add(device), device.user_code, client=device.client.name)

    def begin_logout(self) -> Response:
        """Returns the page that asks whether to log out."""
        return pages.logout_page(self._base, self._open.add(LogOut()))

    def show(self, name: str, session: Session | None) -> Response:
        """Returns the page of an authorization request that is under way. Raises OAuthFault."""
        about = self._open.get(name)
        if not isinstance(about, AuthorizationRequest):
            raise OAuthFault("invalid_request", "this log-in is over; begin it once more")
        return self._next(name, about, session)

    def act(self, form: Mapping[str, str], request: Request) -> Response:
        """Does what a page's button says. Raises OAuthFault, ReturnedFault."""
        name, answer = form.get("interaction", ""), form.get("answer", "")
        about = self._open.get(name)
        if about is None:
            raise OAuthFault("invalid_request", "this log-in is over; begin it once more")
        if isinstance(about, LogOut):
            self._open.remove(name)
            return self.log_out(request)
        if isinstance(about, Device):
            self._open.remove(name)
            return self._decide(about, answer)
        if answer == "cancel":
            self._open.remove(name)
            fault = OAuthFault("access_denied", "the log-in was cancelled")
            raise ReturnedFault(fault, redirect_uri=about.redirect_uri, state=about.state)
        if answer == "confirm":
            return self._confirmed(name, about, request)
        session = _picked(answer, self._clock(), within=name)
        return self._kept(name, about, session)

    def log_out(self, request: Request) -> Response:
        """Ends the browser's session, and says so."""
        self._sessions.remove(request.cookie(self._cookie_name))
        page = pages.message_page(self._base, "Logged out", "This browser is nobody any more.")
        return page.with_headers(self._cookie("", seconds=0))

    def _decide(self, device: Device, answer: str) -> Response:
        if answer == "cancel":
            self._devices.decide(device.user_code, None)
            return pages.message_page(self._base, "Refused", "The device gets nothing. You can close this page.")
        session = _picked(answer, self._clock(), within="")
        self._devices.decide(device.user_code, session)
        told = f"The device acts for {session.who} now. You can close this page."
        return pages.message_page(self._base, "Done", told)

    def _confirmed(self, name: str, about: AuthorizationRequest, request: Request) -> Response:
        session = self.session_of(request)
        if session is None or about.step(session, interaction=name, now=self._clock().timestamp()) is Step.PICK:
            return self._next(name, about, session)
        acr = about.acr_values[0] if about.acr_values else ""
        self._sessions.remove(request.cookie(self._cookie_name))
        return self._kept(name, about, session.confirmed(acr, now=self._clock(), within=name))

    def _kept(self, name: str, about: AuthorizationRequest, session: Session) -> Response:
        """Goes on with a session that was just proved, under a new cookie."""
        cookie = self._cookie(self._sessions.add(session), seconds=int(SESSION_LIFETIME.total_seconds()))
        if about.step(session, interaction=name, now=self._clock().timestamp()) is not None:
            return redirect(f"{self._base}/interaction", id=name).with_headers(cookie)
        return self._next(name, about, session).with_headers(cookie)

    def _next(self, name: str, about: AuthorizationRequest, session: Session | None) -> Response:
        step = about.step(session, interaction=name, now=self._clock().timestamp())
        client = about.client.name
        if session is None or step is Step.PICK:
            return pages.pick_page(self._base, name, client=client, redirect_uri=about.redirect_uri)
        if step is Step.CONFIRM:
            return pages.confirm_page(self._base, name, session, client=client, redirect_uri=about.redirect_uri)
        self._open.remove(name)
        code = self._granting.code_for(about, session)
        return redirect(about.redirect_uri, code=code, state=about.state, iss=self._url)

    def _cookie(self, value: str, *, seconds: int) -> tuple[str, str]:
        return (
            "set-cookie",
            f"{self._cookie_name}={value}; Path={self._base}; Max-Age={seconds}; HttpOnly; SameSite=Lax",
        )


def _picked(answer: str, now: datetime, *, within: str) -> Session:
    if answer not in PICKABLE:
        raise OAuthFault("invalid_request", f"answer must be one of {', '.join(PICKABLE)}")
    return Session(id=uuid.uuid4().hex, who=answer, auth_time=now, proved_in=within)
