"""Where the client finds its address and token: argument, then environment, then the context that is in use.

Environment: JIT_ADDRESS, JIT_TOKEN, JIT_TOKEN_FILE, JIT_TLS, JIT_CA_FILE, JIT_CERT_FILE, JIT_CERT_KEY_FILE; JIT_CONTEXT
names a context, JIT_CONFIG the configuration file (`jitaccess.contexts`). Both files are TOML with the keys `address`,
`tls`, `ca_file`, `cert_file` and `cert_key_file`, which go together, and for the token the first of `token_file`,
`token`, `token_command`, `workload`; a relative path in them is beside the configuration file. A context that
`jit login` wrote has `login`: its tokens are renewed before they end, and go to its own address only. A context that is
given as an argument comes before the environment.

Where nothing names a token, a job of GitHub Actions, GitLab or Kubernetes takes that of its platform
(`jitaccess.login.workload`). JIT_AUDIENCE or `audience` says for whom GitHub shall issue it; else the service is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jitaccess import contexts
from jitaccess.contexts import Context
from jitaccess.errors import JitError, Misconfigured, Unauthenticated
from jitaccess.login.choices import Workload
from jitaccess.naming.variables import Variable

TokenSource = Callable[[], str]

_TRUTHS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_HTTPS = "https://"


@dataclass(frozen=True, kw_only=True)
class Config:
    """How to reach the service, and as whom. `token` is called for every call, so a token refreshed on disk is used.

    `ca_file` has the authorities that may sign the service's certificate, None is those that everybody trusts.
    `client_certificate` is what this client proves itself by (mTLS); with one, `token` may be `no_token`.
    `token_from` says for people where the token comes from, `context` which context was looked at, empty for none.
    """

    address: str
    token: TokenSource
    tls: bool | None
    ca_file: Path | None = None
    client_certificate: ClientCertificate | None = None
    token_from: str = ""
    context: Context | None = None


class ClientCertificate(NamedTuple):
    """The files of a client's certificate chain and of its key, in PEM; one file may have both."""

    chain: Path
    key: Path


class _Reach(NamedTuple):
    """How to reach the service, as far as one place says."""

    address: str
    tls: bool | None
    ca_file: Path | None
    cert_file: Path | None
    cert_key_file: Path | None

    @property
    def client_certificate(self) -> ClientCertificate | None:
        if self.cert_file is None:
            return None
        return ClientCertificate(self.cert_file, self.cert_key_file or self.cert_file)


class _Token(NamedTuple):
    source: TokenSource
    told_by: str


def load(
    *,
    address: str | None,
    token: str | TokenSource | None,
    tls: bool | None = None,
    ca_file: str | Path | None = None,
    cert_file: str | Path | None = None,
    cert_key_file: str | Path | None = None,
    context: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Returns what arguments, environment and context say together.

    Raises Misconfigured without an address or with a broken file, Unauthenticated without a token; both say where
    they looked.
    """
    env = os.environ if environ is None else environ
    told = _Reach(address or "", tls, _path_of(ca_file or ""), _path_of(cert_file or ""), _path_of(cert_key_file or ""))
    found = _Token(_given_token(token), "the caller") if token is not None else None
    if context is None:
        told, found = _over(told, _reach_of_environment(env)), found or _token_of_environment(env)
    used = None if told.address and found and context is None else contexts.chosen(env, context)
    if used is not None and not told.address:
        told = _over(told, _reach_of(used))
    if context is not None:
        told = told if told.address else _over(told, _reach_of_environment(env))
    reach = told if told.address else _no_address(used)
    found = found or _token_of(used, reach, env) or (_token_of_environment(env) if context else None)
    found = found or _token_of_platform(used, reach, env) or _without_token(used, reach)
    return Config(
        address=reach.address,
        token=found.source,
        tls=reach.tls,
        ca_file=reach.ca_file,
        client_certificate=reach.client_certificate,
        token_from=found.told_by,
        context=used,
    )


def no_token() -> str:
    """Is the source of whoever has no token, since the client's certificate proves who it is."""
    return ""


def token_file(path: str | Path) -> TokenSource:
    """Returns a source that reads the token from the file at every call. It raises Unauthenticated if it cannot."""
    where = Path(path).expanduser()

    def read() -> str:
        try:
            return where.read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            # The text of a decoding error would hold a part of the file.
            fault = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
            raise Unauthenticated(f"the token file {where} cannot be read: {fault}", reason="TOKEN_MISSING") from None

    return read


def service_url(address: str, *, tls: bool | None) -> str:
    """Returns the URL of the service whose gRPC address is known: https, unless it is local and without TLS."""
    first = address.split(",", maxsplit=1)[0].strip().rstrip("/")
    if first.startswith(_HTTPS):
        return first
    local = first.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]")
    return f"{'http' if local and not tls else 'https'}://{first}"


def _over(one: _Reach, other: _Reach) -> _Reach:
    """Returns what the first place says, and for the rest the second."""
    # A certificate and its key are of one place.
    pair = one if one.cert_file is not None else other
    return _Reach(
        one.address or other.address,
        other.tls if one.tls is None else one.tls,
        one.ca_file or other.ca_file,
        pair.cert_file,
        one.cert_key_file or pair.cert_key_file,
    )


def _given_token(token: str | TokenSource) -> TokenSource:
    if isinstance(token, str):
        return lambda: token
    return token


def _reach_of_environment(env: Mapping[str, str]) -> _Reach:
    files = (_path_of(env.get(each, "")) for each in (Variable.CA_FILE, Variable.CERT_FILE, Variable.CERT_KEY_FILE))
    return _Reach(env.get(Variable.ADDRESS, ""), _truth_of_environment(env), *files)


def _reach_of(context: Context) -> _Reach:
    files = (context.path_at(each) for each in ("ca_file", "cert_file", "cert_key_file"))
    return _Reach(context.text("address"), context.truth("tls"), *files)


def _token_of_environment(env: Mapping[str, str]) -> _Token | None:
    if env.get(Variable.TOKEN):
        return _Token(_given_token(env[Variable.TOKEN]), Variable.TOKEN)
    if path := env.get(Variable.TOKEN_FILE):
        return _Token(token_file(path), f"{Variable.TOKEN_FILE}, {path}")
    return None


def _truth_of_environment(env: Mapping[str, str]) -> bool | None:
    text = env.get(Variable.TLS, "")
    if text and text.lower() not in _TRUTHS:
        raise Misconfigured(f"{Variable.TLS} is {text!r}, and must be true or false", reason="CONFIG_INVALID")
    return _TRUTHS.get(text.lower())


def _path_of(text: str | Path) -> Path | None:
    return Path(text).expanduser() if text else None


def _token_of(context: Context | None, reach: _Reach, env: Mapping[str, str]) -> _Token | None:
    if context is None:
        return None
    if (path := context.path_at("token_file")) is not None:
        return _Token(token_file(path), f"the file {path}, as {context.path} says")
    if text := context.text("token"):
        return _Token(lambda: text, f"{context.path}")
    if command := context.values.get("token_command"):
        from jitaccess.login import workload

        source = workload.command_source(
            command if isinstance(command, str | list) else "", directory=context.directory
        )
        return _Token(source, f"token_command in {context.path}")
    if platform := context.text("workload"):
        return _of_platform(Workload(platform), context, reach, env)
    if (keep := context.keep) is None:
        return None
    if _canonical(reach.address) != _canonical(context.text("address")):
        raise Unauthenticated(
            f"the context {context.name} is logged in to {context.text('address')}, and its token is for no other "
            f"service than that; for {reach.address} give a token, or another context",
            reason="TOKEN_MISSING",
        )
    from jitaccess.login.renewal import Renewed

    return _Token(Renewed(keep), f"the login of the context {context.name}, kept in {keep.shown()}")


def _token_of_platform(context: Context | None, reach: _Reach, env: Mapping[str, str]) -> _Token | None:
    from jitaccess.login import workload

    platform = workload.detect(env)
    return None if platform is None else _of_platform(platform, context, reach, env)


def _of_platform(platform: Workload, context: Context | None, reach: _Reach, env: Mapping[str, str]) -> _Token:
    from jitaccess.login import workload

    source = workload.source(platform, env, audience=partial(_audience, context, reach, env))
    return _Token(source, f"the platform of this job: {platform}")


def _audience(context: Context | None, reach: _Reach, env: Mapping[str, str]) -> str:
    """Returns for whom a platform shall issue a token."""
    said = env.get(Variable.AUDIENCE, "") or (context.text("audience") if context else "")
    if said:
        return said
    from jitaccess.login import resource

    url = (context.text("url") if context else "") or service_url(reach.address, tls=reach.tls)
    try:
        return resource.describe(url, ca_file=reach.ca_file).token_audience
    except JitError as fault:
        raise Misconfigured(
            f"for whom shall the platform issue the token? Set {Variable.AUDIENCE}; the service: {fault.message}",
            reason="AUDIENCE_MISSING",
        ) from fault


def _canonical(address: str) -> str:
    from jitaccess.login.resource import host_and_port

    return host_and_port(address.rstrip("/")) if address.startswith(_HTTPS) else address


def _no_address(context: Context | None) -> _Reach:
    where = context.shown() if context else "the configuration file"
    raise Misconfigured(
        f"no address: give one, or set JIT_ADDRESS to HOST:PORT, or `address` in {where}", reason="ADDRESS_MISSING"
    )


def _without_token(context: Context | None, reach: _Reach) -> _Token:
    if reach.client_certificate is not None:
        return _Token(no_token, f"nowhere: the certificate {reach.cert_file} says who calls")
    where = context.shown() if context else "the configuration file"
    raise Unauthenticated(
        f"no token: give one, or set JIT_TOKEN or JIT_TOKEN_FILE, or `token_file` in {where}, or log in, or give a "
        "client certificate",
        reason="TOKEN_MISSING",
    )
