"""The command that logs in to a service."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jitaccess.cli.command import command
from jitaccess.cli.session import Session
from jitaccess.errors import JitError, Misconfigured, Unauthenticated, Unavailable
from jitaccess.naming.variables import Variable

if TYPE_CHECKING:
    from pathlib import Path

    from jitaccess.cli.screen import Screen
    from jitaccess.contexts import Context
    from jitaccess.login.device_flow import Invitation
    from jitaccess.login.keeping import Keep, Login
    from jitaccess.login.resource import Resource


class Store(StrEnum):
    """Where new tokens go."""

    AUTO = "auto"
    KEYRING = "keyring"
    FILE = "file"


@dataclass(frozen=True, kw_only=True)
class Way:
    """How to prove who one is."""

    device: Annotated[
        bool,
        typer.Option("--device", help="Show a code to type on another device, for machines without a browser."),
    ] = False
    workload: Annotated[
        bool,
        typer.Option(
            "--workload",
            help="Use this job's own token: of GitHub Actions, GitLab or Kubernetes, of --token-file or "
            "--token-command. Nobody is asked.",
        ),
    ] = False
    token_command: Annotated[
        str | None,
        typer.Option(metavar="CMD", help="With --workload: the command that prints a token.", show_default=False),
    ] = None
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only print the address; open it in a browser of this machine.")
    ] = False
    port: Annotated[
        int,
        typer.Option(
            min=0,
            max=65535,
            metavar="PORT",
            help="The port of 127.0.0.1 to come back to, for a provider that knows one only [default: a free one].",
            show_default=False,
        ),
    ] = 0
    prompt: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="What the provider shall ask, such as login, consent or select_account.",
            show_default=False,
        ),
    ] = ""
    acr_values: Annotated[
        str,
        typer.Option(
            metavar="ACR", help="How strongly to log in, as a policy demands for approvals.", show_default=False
        ),
    ] = ""
    max_age: Annotated[
        int | None,
        typer.Option(min=0, metavar="SECONDS", help="How long ago to have logged in at most.", show_default=False),
    ] = None
    store: Annotated[
        Store, typer.Option(help="Where the tokens go: to the system's key ring where there is one, else to a file.")
    ] = Store.AUTO

    @property
    def asking(self) -> dict[str, str]:
        """What to ask of the provider beside the usual."""
        age = "" if self.max_age is None else str(self.max_age)
        asked = {"prompt": self.prompt, "acr_values": self.acr_values, "max_age": age}
        return {name: value for name, value in asked.items() if value}


def login(
    session: Session,
    way: Way,
    url: Annotated[
        str | None,
        typer.Argument(metavar="[URL]", help="The service, https://HOST [default: that of the context in use]."),
    ] = None,
) -> None:
    """Log in to a service, and use it from now on.

    The service says where to log in. The tokens are renewed before they end, and kept as `--store` says; `jit whoami`
    tells. The context is named after the host, or by --context NAME.
    """
    _demand_one_way(way, session)
    service, name = _service(session, url)
    _demand_free(name, service)
    if way.workload:
        _log_in_workload(session, service, name, way)
        return
    service.demand_login()
    login, values = _person(service, way), _reach(session, service)
    values["principal"] = _accepted(service, values, login)
    _show_login(session, values, login, _keep(name, values, login, way))
    _warn_of_variables(name)


def add_to(app: typer.Typer) -> None:
    """Adds the command to the app."""
    command(app)(login)


def _demand_one_way(way: Way, session: Session) -> None:
    if way.device and way.workload:
        raise typer.BadParameter("--device and --workload: give one of the two")
    if not way.workload and (way.token_command or session.token_file):
        raise typer.BadParameter("--token-command and --token-file are for --workload")


def _service(session: Session, url: str | None) -> tuple[Resource, str]:
    """Returns what the service says of itself, and the name of the context to write."""
    from jitaccess import contexts
    from jitaccess.config import service_url
    from jitaccess.login import resource

    name = session.context or os.environ.get(Variable.CONTEXT, "")
    if name:
        contexts.demand_name(name)
    used: Context | None = None
    if url is None:
        used = contexts.chosen(os.environ, session.context)
        address = session.address or used.text("address") or os.environ.get(Variable.ADDRESS, "")
        url = used.text("url") or (service_url(address, tls=used.truth("tls")) if address else "")
        name = name or used.name
    if not url:
        raise Misconfigured("give the service's URL: jit login https://HOST", reason="ADDRESS_MISSING")
    if "://" not in url:
        url = service_url(url, tls=None)
    own = used.path_at("ca_file") if used is not None else None
    service = resource.describe(url, ca_file=session.ca_file or own or _ca_of_environment())
    return service, name if name not in ("", contexts.DEFAULT) else _name_of(service.url)


def _demand_free(name: str, service: Resource) -> None:
    """Raises Misconfigured where the context is one of another service: it would be overwritten."""
    from jitaccess import contexts

    if not contexts.is_there(os.environ, name):
        return
    known = contexts.read(os.environ, name)
    if known.text("url") not in ("", service.url) or (not known.text("url") and known.text("address")):
        raise Misconfigured(
            f"there is a context {name} already, of {known.text('url') or known.text('address')}; give another name by "
            f"--context, or remove it first: jit context rm {name}",
            reason="CONTEXT_EXISTS",
        )


def _ca_of_environment() -> Path | None:
    from pathlib import Path

    return Path(text).expanduser() if (text := os.environ.get(Variable.CA_FILE)) else None


def _name_of(url: str) -> str:
    """Returns the name of a context for the service: its host, with the port where it has one."""
    from urllib.parse import urlsplit

    from jitaccess.contexts import demand_name

    parts = urlsplit(url)
    host = (parts.hostname or "").replace(":", "-").strip("-") or "service"
    return demand_name(f"{host}-{parts.port}"[:63] if parts.port else host[:63])


def _person(service: Resource, way: Way) -> Login:
    from jitaccess.login import code_flow, device_flow, provider
    from jitaccess.login.keeping import Login
    from jitaccess.login.provider import Registration

    registration = Registration(
        issuer=service.issuer, client_id=service.client_id, scopes=service.scopes, audience=service.audience
    )
    at = provider.discover(service.issuer)
    if way.device:
        tokens = device_flow.log_in(at, registration, show=_show_code)
    else:
        show = partial(_show_address, opens=not way.no_browser)
        tokens = code_flow.log_in(at, registration, show=show, port=way.port, asking=way.asking)
    return Login(registration=registration, tokens=tokens)


def _show_address(address: str, *, opens: bool) -> None:
    _say(f"Log in here: {address}")
    if opens and _has_browser():
        open_browser(address)


def open_browser(address: str) -> None:
    """Opens the address in the user's browser."""
    import webbrowser

    webbrowser.open(address)


def _has_browser() -> bool:
    """Returns whether there is a screen that a browser can be on: one within this terminal would be in the way."""
    if sys.platform != "linux":
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "WSL_DISTRO_NAME"))


def _show_code(invitation: Invitation) -> None:
    from datetime import timedelta

    from jitaccess.cli.text import span

    _say(f"On any device, go to {invitation.url} and enter the code {invitation.code}")
    if invitation.complete_url:
        _say(f"or go to {invitation.complete_url}, and see that it shows that code")
    _say(f"The code counts for {span(timedelta(seconds=invitation.seconds))}.")


def _accepted(service: Resource, values: Mapping[str, Any], login: Login) -> str:
    """Returns whom the service takes the login for. Has it revoked, and raises, where the service refuses its token."""
    from jitaccess.cli.logout import revoke

    try:
        return _asked_who(values, login.tokens.bearer)
    except JitError as refused:
        revoke(login)
        raise Unauthenticated(
            f"you are logged in at {service.issuer}, but the service at {service.url} does not accept the token, so it "
            f"was revoked: {refused.message}",
            reason=refused.reason,
            metadata=refused.metadata,
        ) from refused


def _keep(name: str, values: Mapping[str, Any], login: Login, way: Way) -> Keep:
    """Keeps the login as a context, and has it used. Returns where it is."""
    from jitaccess import contexts
    from jitaccess.login.choices import Place
    from jitaccess.login.keeping import Keep, usual_place

    directory = contexts.directory(os.environ)
    place = usual_place() if way.store is Store.AUTO else Place(way.store)
    keep = Keep(directory, name, place)
    with keep.alone():
        keep = _kept(keep, Keep(directory, name, Place.FILE), login, way)
        contexts.write(os.environ, name, {**values, "login": keep.place})
    contexts.use(os.environ, name)
    return keep


def _show_login(session: Session, values: Mapping[str, Any], login: Login, keep: Keep) -> None:
    tokens, name = login.tokens, keep.context
    ends = datetime.fromtimestamp(tokens.expires_at, UTC)
    data = {
        "context": name,
        "principal": values["principal"] or None,
        "url": values["url"],
        "address": values["address"],
        "issuer": login.registration.issuer,
        "expireTime": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "renewed": bool(tokens.refresh_token),
        "tokens": keep.place.value,
    }

    def show(screen: Screen) -> None:
        after = "; renewed before that" if tokens.refresh_token else "; then log in again"
        screen.fields(
            [
                ("principal", values["principal"]),
                ("service", values["url"]),
                ("provider", login.registration.issuer),
                ("context", f"{name}, in use from now on"),
                ("token until", screen.moment(ends) + after),
                ("kept in", keep.shown()),
            ]
        )

    session.answer_data(data, show)


def _kept(keep: Keep, file: Keep, login: Login, way: Way) -> Keep:
    """Keeps the login, in a file where the key ring was only tried and does not take it. Returns where it is."""
    from jitaccess.login.choices import Place

    try:
        keep.write(login)
    except Unavailable as fault:
        if way.store is not Store.AUTO or keep.place is Place.FILE:
            raise
        _say(f"warning: {fault.message}; they go to a file")
        file.write(login)
        return file
    if keep.place is Place.KEYRING:
        file.remove()
    return keep


def _reach(session: Session, service: Resource) -> dict[str, Any]:
    """Returns how to reach the service, as its context has it."""
    ca_file = session.ca_file or _ca_of_environment()
    secure = service.url.startswith("https://")
    return {
        "url": service.url,
        "address": session.address or service.address,
        "tls": session.tls if session.tls is not None else secure,
        "ca_file": str(ca_file.expanduser().absolute()) if ca_file and secure else None,
    }


def _asked_who(values: Mapping[str, Any], token: str) -> str:
    """Returns whom the service takes the token for; nothing, and a warning, where it does not answer."""
    from jitaccess.client import JitClient

    try:
        with JitClient(values["address"], token=token, tls=values["tls"], ca_file=values["ca_file"]) as client:
            return client.who_am_i().principal
    except Unavailable as away:
        _say(f"warning: whether the service accepts the token is not known: {away.message}")
        return ""


def _log_in_workload(session: Session, service: Resource, name: str, way: Way) -> None:
    from jitaccess import config, contexts

    values = _reach(session, service) | _job(session, service, way)
    written = contexts.write(os.environ, name, values)
    contexts.use(os.environ, name)
    settings = config.load(address=None, token=None, context=name)
    principal = _asked_who(values, settings.token())
    contexts.write(os.environ, name, {**written.values, "principal": principal})
    data = {"context": name, "principal": principal or None, "url": service.url, "address": values["address"]}
    fields = [
        ("principal", principal),
        ("service", service.url),
        ("context", f"{name}, in use from now on"),
        ("token from", settings.token_from),
    ]
    session.answer_data(data, lambda screen: screen.fields(fields))
    _warn_of_variables(name)


def _job(session: Session, service: Resource, way: Way) -> dict[str, Any]:
    """Returns where this job's token comes from, as a context has it."""
    from jitaccess.login import workload

    if way.token_command:
        return {"token_command": way.token_command}
    if session.token_file:
        return {"token_file": str(session.token_file.expanduser().absolute())}
    platform = workload.detect(os.environ)
    if platform is None:
        raise Unauthenticated(
            "this is no job with a token: there is neither ACTIONS_ID_TOKEN_REQUEST_URL (GitHub Actions, with "
            f"`permissions: {{id-token: write}}`), {Variable.ID_TOKEN} (GitLab), nor {workload.KUBERNETES_FILE} "
            "(Kubernetes); give --token-file or --token-command",
            reason="WORKLOAD_TOKEN_MISSING",
        )
    return {"workload": platform.value, "audience": service.token_audience}


def _warn_of_variables(name: str) -> None:
    before = [each for each in (Variable.ADDRESS, Variable.TOKEN, Variable.TOKEN_FILE) if os.environ.get(each)]
    if before:
        _say(f"warning: {', '.join(before)} of the environment comes first; unset it, or pass --context {name}")


def _say(line: str) -> None:
    from jitaccess.cli.screen import screen_on

    screen_on(sys.stderr).say(line)
