"""The endpoints of the provider: which path does what, and what is refused before anything is looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import jwt

from jit_service.issuers import DEVELOPMENT_PATH, Issuer
from jit_service.runtime.dev_issuer import AUDIENCE, DevIssuer
from jit_service.runtime.dev_provider import authorization, pages
from jit_service.runtime.dev_provider.authorization import ReturnedFault, read_request
from jit_service.runtime.dev_provider.clients import CLI, CONSOLE, Clients
from jit_service.runtime.dev_provider.devices import INTERVAL, LIFETIME, Devices
from jit_service.runtime.dev_provider.granting import DEVICE_CODE, Granting
from jit_service.runtime.dev_provider.interactions import Interactions
from jit_service.runtime.dev_provider.messages import (
    OAuthFault,
    Request,
    Response,
    fault_response,
    json_response,
    redirect,
)
from jit_service.runtime.dev_provider.sessions import CONFIRMED, PICKED
from jit_service.settings import Address

BASE: Final = DEVELOPMENT_PATH
_PAGES: Final = ("/authorize", "/interaction", "/device", "/logout", "/style.css")
"""The paths for people; programs are answered in JSON."""


class NotLoopback(ValueError):
    """The provider would be reached from other machines, where anyone could be anybody."""


class Provider:
    """The provider behind the edge at `http`, which must be loopback. Raises NotLoopback. Thread-safe."""

    def __init__(self, issuer: DevIssuer, http: Address, clock: Callable[[], datetime]) -> None:
        if not http.is_loopback:
            raise NotLoopback(f"the development provider is for loopback only, not for {http}")
        self.url = f"http://{http}{BASE}"
        self._issuer = issuer
        self._clients = Clients(http)
        self._devices = Devices(clock)
        self._granting = Granting(issuer, self.url, self._clients, self._devices, clock)
        self._interactions = Interactions(self.url, BASE, self._granting, self._devices, clock)
        self._lock = threading.Lock()
        self._routes: dict[tuple[str, str], Callable[[Request], Response]] = {
            ("GET", "/.well-known/openid-configuration"): lambda _: json_response(self.metadata()),
            ("GET", "/jwks"): lambda _: json_response(issuer.key_set()),
            ("GET", "/authorize"): self._authorize,
            ("POST", "/authorize"): self._authorize,
            ("GET", "/interaction"): self._show,
            ("POST", "/interaction"): self._act,
            ("GET", "/device"): lambda request: self._interactions.begin_device(
                request.parameters.get("user_code", "")
            ),
            ("POST", "/device_authorization"): self._authorize_device,
            ("POST", "/token"): lambda request: json_response(self._granting.answer(request.parameters)),
            ("POST", "/revoke"): self._revoke,
            ("GET", "/logout"): self._log_out,
            ("POST", "/logout"): self._log_out,
            ("GET", "/style.css"): lambda _: pages.style(),
        }

    def issuer(self) -> Issuer:
        """Returns the settings by which the service accepts these tokens, and says where to log in."""
        return self._issuer.issuer().model_copy(
            update={
                "issuer": self.url,
                # An ID token proves no caller.
                "token_types": ("at+jwt",),
                "cli_client_id": CLI,
                "console_client_id": CONSOLE,
                "login_scopes": authorization.SCOPES,
                "login_audience": AUDIENCE,
            }
        )

    def metadata(self) -> dict[str, Any]:
        """Returns the discovery document (OpenID Connect Discovery 1.0, RFC 8414, RFC 8628, RFC 9207)."""
        endpoints = {
            "authorization_endpoint": "/authorize",
            "token_endpoint": "/token",
            "jwks_uri": "/jwks",
            "device_authorization_endpoint": "/device_authorization",
            "revocation_endpoint": "/revoke",
            "end_session_endpoint": "/logout",
        }
        return {
            "issuer": self.url,
            **{name: self.url + path for name, path in endpoints.items()},
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token", DEVICE_CODE],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "revocation_endpoint_auth_methods_supported": ["none"],
            "scopes_supported": list(authorization.SCOPES),
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "acr_values_supported": [PICKED, CONFIRMED],
            "claims_supported": ["iss", "aud", "sub", "exp", "iat", "auth_time", "acr", "amr", "nonce", "name", "sid"],
            "prompt_values_supported": list(authorization.PROMPTS),
            "authorization_response_iss_parameter_supported": True,
            "request_parameter_supported": False,
            "request_uri_parameter_supported": False,
        }

    def answer(self, request: Request) -> Response:
        """Returns the answer to a request below BASE."""
        path = request.path.removeprefix(BASE)
        try:
            self._demand_own_host(request)
            if request.method == "OPTIONS":
                return self._shared(request, Response(status=204))
            handle = self._routes.get((request.method, path))
            if handle is None:
                raise OAuthFault("invalid_request", "there is no such method and path", status=404)
            self._demand_own_origin(request, path)
            with self._lock:
                response = handle(request)
        except ReturnedFault as fault:
            told = {"error": fault.code, "error_description": fault.description}
            response = redirect(fault.redirect_uri, **told, state=fault.state, iss=self.url)
        except OAuthFault as fault:
            response = self._told(fault, path)
        return self._shared(request, response)

    def _authorize(self, request: Request) -> Response:
        asked = read_request(request.parameters, self._clients)
        session = self._interactions.session_of(request)
        if (hint := request.parameters.get("id_token_hint")) and session is not None:
            # Somebody else is here than the client means (OpenID Connect Core 1.0, section 3.1.2.2).
            session = session if self._hinted(hint).get("sub") == session.principal else None
        return self._interactions.begin(asked, session)

    def _show(self, request: Request) -> Response:
        return self._interactions.show(request.parameters.get("id", ""), self._interactions.session_of(request))

    def _act(self, request: Request) -> Response:
        return self._interactions.act(request.parameters, request)

    def _authorize_device(self, request: Request) -> Response:
        client = self._clients.named(request.parameters.get("client_id", ""))
        if client.id != CLI:
            raise OAuthFault("unauthorized_client", f"only {CLI} logs in by another device")
        code, device = self._devices.add(client, authorization.known_scopes(request.parameters))
        return json_response(
            {
                "device_code": code,
                "user_code": device.user_code,
                "verification_uri": f"{self.url}/device",
                "verification_uri_complete": f"{self.url}/device?user_code={device.user_code}",
                "expires_in": int(LIFETIME.total_seconds()),
                "interval": int(INTERVAL.total_seconds()),
            }
        )

    def _revoke(self, request: Request) -> Response:
        client = self._clients.named(request.parameters.get("client_id", ""))
        if not (token := request.parameters.get("token")):
            raise OAuthFault("invalid_request", "token is missing")
        self._granting.revoke(client, token)
        return json_response({})

    def _log_out(self, request: Request) -> Response:
        """Logs out at a client's word (OpenID Connect RP-Initiated Logout 1.0), which its ID token proves."""
        hint = request.parameters.get("id_token_hint", "")
        session = self._interactions.session_of(request)
        hinted = self._hinted(hint) if hint else {}
        if not hinted or (session is not None and hinted.get("sid") != session.id):
            return self._interactions.begin_logout()
        client = self._clients.named(hinted["aud"])
        back = request.parameters.get("post_logout_redirect_uri", "")
        if back and not client.may_return_to(back):
            raise OAuthFault("invalid_request", f"post_logout_redirect_uri is none of the client {client.id}")
        if session is not None:
            self._granting.end(client, session)
        logged_out = self._interactions.log_out(request)
        if not back:
            return logged_out
        cookie = [header for header in logged_out.headers if header[0] == "set-cookie"]
        return redirect(back, state=request.parameters.get("state", "")).with_headers(*cookie)

    def _hinted(self, token: str) -> dict[str, Any]:
        """Returns the claims of an ID token of this provider, which may be over. Raises OAuthFault."""
        try:
            return self._issuer.read(token, issuer=self.url, audiences=(CLI, CONSOLE))
        except jwt.InvalidTokenError:
            raise OAuthFault("invalid_request", "id_token_hint is no ID token of this provider") from None

    def _demand_own_host(self, request: Request) -> None:
        """A name of somebody else's that leads to loopback would make their page this provider's (DNS rebinding)."""
        if request.headers.get("host", "") not in self._clients.authorities:
            raise OAuthFault("invalid_request", "the host is not the edge's address on this machine", status=421)

    def _demand_own_origin(self, request: Request, path: str) -> None:
        origin = request.headers.get("origin")
        if request.method == "GET" or origin is None:
            return
        # Pages are for forms of their own; a log-in may be begun from anywhere.
        allowed = {f"http://{request.headers['host']}"} if path in _PAGES else self._clients.origins
        if origin not in allowed and path != "/authorize":
            raise OAuthFault("invalid_request", "a page of another origin may not do this", status=403)

    def _shared(self, request: Request, response: Response) -> Response:
        """Lets the console's pages read what programs are answered (CORS), and nobody else's."""
        origin = request.headers.get("origin", "")
        path = request.path.removeprefix(BASE)
        if origin not in self._clients.origins or path in _PAGES:
            return response
        return response.with_headers(
            ("access-control-allow-origin", origin),
            ("access-control-allow-methods", "GET, POST"),
            ("access-control-allow-headers", "content-type"),
            ("access-control-max-age", "600"),
            ("vary", "origin"),
        )

    def _told(self, fault: OAuthFault, path: str) -> Response:
        if path in _PAGES:
            return pages.message_page(BASE, "This log-in cannot go on", f"{fault.description}.", status=fault.status)
        return fault_response(fault)
