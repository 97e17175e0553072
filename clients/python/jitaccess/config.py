"""Where the client finds its address and token: argument, then environment, then file.

Environment: JIT_ADDRESS, JIT_TOKEN, JIT_TOKEN_FILE, JIT_TLS, JIT_CA_FILE, and JIT_CONFIG for the file's path. The file
is TOML, by default `$XDG_CONFIG_HOME/jit/config.toml` (`~/.config/jit/config.toml`), with the keys `address`,
`token_file`, `token`, `tls` and `ca_file`. A relative `token_file` or `ca_file` in it is beside the file; its `tls` and
`ca_file` go with its `address` only.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jitaccess.errors import Misconfigured, Unauthenticated
from jitaccess.naming.variables import Variable

TokenSource = Callable[[], str]

_KEYS: dict[str, type] = {"address": str, "token_file": str, "token": str, "tls": bool, "ca_file": str}
_TRUTHS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


@dataclass(frozen=True, kw_only=True)
class Config:
    """How to reach the service, and as whom. `token` is called for every call, so a token refreshed on disk is used.

    `ca_file` has the authorities that may sign the service's certificate, None is those that everybody trusts.
    """

    address: str
    token: TokenSource
    tls: bool | None
    ca_file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class _File:
    path: Path
    found: bool
    values: Mapping[str, str | bool]

    def text(self, key: str) -> str:
        return str(self.values.get(key, ""))

    def shown(self) -> str:
        return str(self.path) if self.found else f"{self.path} (not there)"


def load(
    *,
    address: str | None,
    token: str | TokenSource | None,
    tls: bool | None = None,
    ca_file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Returns what arguments, environment and file say together.

    Raises Misconfigured without an address or with a broken file, Unauthenticated without a token; both say where
    they looked.
    """
    env = os.environ if environ is None else environ
    told = address or env.get(Variable.ADDRESS, "")
    source = _given_token(token) or _token_of_environment(env)
    tls = _truth_of_environment(env) if tls is None else tls
    authorities = _path_of(ca_file or env.get(Variable.CA_FILE, ""))
    if told and source:
        return Config(address=told, token=source, tls=tls, ca_file=authorities)
    file = _read_file(env)
    if not told:
        tls = bool(file.values["tls"]) if tls is None and "tls" in file.values else tls
        authorities = authorities or _beside(file, file.text("ca_file"))
    return Config(
        address=told or _address_of_file(file),
        token=source or _token_of_file(file),
        tls=tls,
        ca_file=authorities,
    )


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


def _given_token(token: str | TokenSource | None) -> TokenSource | None:
    if isinstance(token, str):
        return lambda: token
    return token


def _token_of_environment(env: Mapping[str, str]) -> TokenSource | None:
    if env.get(Variable.TOKEN):
        return _given_token(env[Variable.TOKEN])
    return token_file(env[Variable.TOKEN_FILE]) if env.get(Variable.TOKEN_FILE) else None


def _truth_of_environment(env: Mapping[str, str]) -> bool | None:
    text = env.get(Variable.TLS, "")
    if text and text.lower() not in _TRUTHS:
        raise Misconfigured(f"{Variable.TLS} is {text!r}, and must be true or false", reason="CONFIG_INVALID")
    return _TRUTHS.get(text.lower())


def _path_of(text: str | Path) -> Path | None:
    return Path(text).expanduser() if text else None


def _beside(file: _File, text: str) -> Path | None:
    return file.path.parent / Path(text).expanduser() if text else None


def _address_of_file(file: _File) -> str:
    if address := file.text("address"):
        return address
    raise Misconfigured(
        f"no address: give one, or set JIT_ADDRESS to HOST:PORT, or `address` in {file.shown()}",
        reason="ADDRESS_MISSING",
    )


def _token_of_file(file: _File) -> TokenSource:
    if path := file.text("token_file"):
        return token_file(file.path.parent / Path(path).expanduser())
    if token := file.text("token"):
        return lambda: token
    raise Unauthenticated(
        f"no token: give one, or set JIT_TOKEN or JIT_TOKEN_FILE, or `token_file` in {file.shown()}",
        reason="TOKEN_MISSING",
    )


def _path(env: Mapping[str, str]) -> Path:
    if env.get(Variable.CONFIG):
        return Path(env[Variable.CONFIG]).expanduser()
    base = Path(env.get("XDG_CONFIG_HOME", ""))
    # The XDG base directory specification: a path that is not absolute is to be ignored.
    return (base if base.is_absolute() else Path("~/.config").expanduser()) / "jit" / "config.toml"


def _read_file(env: Mapping[str, str]) -> _File:
    path = _path(env)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if env.get(Variable.CONFIG):
            raise _broken(path, "JIT_CONFIG names it, and it is not there") from None
        return _File(path=path, found=False, values={})
    except OSError as error:
        raise _broken(path, error.strerror or "it cannot be read") from None
    except UnicodeDecodeError:
        raise _broken(path, "it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise _broken(path, str(error)) from None
    for key, value in values.items():
        _check_key(path, key, value)
    return _File(path=path, found=True, values=values)


def _check_key(path: Path, key: str, value: object) -> None:
    if key not in _KEYS:
        raise _broken(path, f"{key!r} is none of {', '.join(_KEYS)}")
    if not isinstance(value, _KEYS[key]):
        raise _broken(path, f"{key!r} must be {'true or false' if _KEYS[key] is bool else 'a text'}")


def _broken(path: Path, fault: str) -> Misconfigured:
    return Misconfigured(f"the configuration file {path}: {fault}", reason="CONFIG_INVALID")
