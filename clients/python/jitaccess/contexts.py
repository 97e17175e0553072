"""The files that say how to reach which service, and as whom: the configuration file, and one for each context.

The configuration file is TOML, by default `$XDG_CONFIG_HOME/jit/config.toml` (`~/.config/jit/config.toml`); JIT_CONFIG
names another one. Beside it, `contexts/NAME.toml` is the context NAME with the same keys, and `current-context` has the
name of the one in use. Without one in use it is the configuration file, which is the context `default`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitaccess.errors import Misconfigured
from jitaccess.login.choices import Place, Workload
from jitaccess.naming.variables import Variable

if TYPE_CHECKING:
    from jitaccess.login.keeping import Keep

DEFAULT: Final = "default"
"""The name of the configuration file itself among the contexts."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_Value = str | bool | list[str]
_KEYS: Final[Mapping[str, tuple[type, ...]]] = {
    "address": (str,),
    "token_file": (str,),
    "token": (str,),
    "token_command": (str, list),
    "workload": (str,),
    "audience": (str,),
    "tls": (bool,),
    "ca_file": (str,),
    "cert_file": (str,),
    "cert_key_file": (str,),
    "url": (str,),
}
# What `jit login` writes, into a context of its own.
_LOGIN_KEYS: Final[Mapping[str, tuple[type, ...]]] = {"login": (str,), "principal": (str,)}
_FORMS: Final = {(str,): "a text", (bool,): "true or false", (str, list): "a text or a list of texts"}
_CHOICES: Final = {"workload": Workload, "login": Place}


@dataclass(frozen=True, kw_only=True)
class Context:
    """One of the files. `values` are empty where it is not there, which only the configuration file may be."""

    name: str
    path: Path
    found: bool
    values: Mapping[str, _Value]

    def text(self, key: str) -> str:
        """Returns the value of a key that is a text, empty where there is none."""
        value = self.values.get(key, "")
        return value if isinstance(value, str) else ""

    def truth(self, key: str) -> bool | None:
        """Returns the value of a key that is true or false, None where there is none."""
        value = self.values.get(key)
        return value if isinstance(value, bool) else None

    def path_at(self, key: str) -> Path | None:
        """Returns the path of a key; a relative one is beside the configuration file."""
        return self.directory / Path(self.text(key)).expanduser() if self.text(key) else None

    @property
    def directory(self) -> Path:
        """The directory of the configuration file."""
        return self.path.parent if self.name == DEFAULT else self.path.parent.parent

    @property
    def keep(self) -> Keep | None:
        """Where the tokens of its login are; None where it has no login."""
        if not self.text("login"):
            return None
        from jitaccess.login.keeping import Keep

        return Keep(self.directory, self.name, Place(self.text("login")))

    def shown(self) -> str:
        """Returns what it is, for people."""
        return str(self.path) if self.found else f"{self.path} (not there)"


def chosen(env: Mapping[str, str], name: str | None = None) -> Context:
    """Returns the context of that name, else the one that JIT_CONTEXT names, else the one in use.

    Raises Misconfigured where it is not there or broken.
    """
    wanted = name or env.get(Variable.CONTEXT, "")
    return read(env, wanted) if wanted else read(env, in_use(env), how="the file current-context names it")


def read(env: Mapping[str, str], name: str, *, how: str = "") -> Context:
    """Returns the context of that name. Raises Misconfigured where it is not there or broken."""
    import tomllib

    path = _path_of(env, demand_name(name))
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _absent(env, name, path, how)
    except OSError as error:
        raise _broken(path, error.strerror or "it cannot be read") from None
    except UnicodeDecodeError:
        raise _broken(path, "it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise _broken(path, str(error)) from None
    known = _KEYS if name == DEFAULT else {**_KEYS, **_LOGIN_KEYS}
    for key, value in values.items():
        _check_key(path, key, value, known)
    return Context(name=name, path=path, found=True, values=values)


def names(env: Mapping[str, str]) -> list[str]:
    """Returns the names of all contexts, `default` first where the configuration file is there."""
    folder = _path_of(env, DEFAULT).parent / "contexts"
    found = sorted(path.stem for path in folder.glob("*.toml") if _NAME.fullmatch(path.stem) and path.stem != DEFAULT)
    return ([DEFAULT] if _path_of(env, DEFAULT).is_file() else []) + found


def in_use(env: Mapping[str, str]) -> str:
    """Returns the name of the context in use."""
    try:
        return _current_path(env).read_text(encoding="utf-8").strip() or DEFAULT
    except FileNotFoundError:
        return DEFAULT
    except (OSError, ValueError):
        raise _broken(_current_path(env), "it cannot be read") from None


def use(env: Mapping[str, str], name: str) -> None:
    """Makes it the context in use. Raises Misconfigured where it is not there or broken."""
    read(env, name)
    if name == DEFAULT:
        _current_path(env).unlink(missing_ok=True)
    else:
        _write(_current_path(env), name + "\n")


def write(env: Mapping[str, str], name: str, values: Mapping[str, _Value | None]) -> Context:
    """Writes the context, in place of one of that name; a value that is None or empty is left out.

    Raises Misconfigured for the name `default`, which is the configuration file, and where it cannot be written.
    """
    if demand_name(name) == DEFAULT:
        raise _bad_name(name, "that is the configuration file itself; choose another one")
    path = _path_of(env, name)
    kept = {key: value for key, value in values.items() if value is not None and value != ""}
    for key, value in kept.items():
        _check_key(path, key, value, {**_KEYS, **_LOGIN_KEYS})
    _write(path, "".join(f"{key} = {_toml(value)}\n" for key, value in kept.items()))
    return Context(name=name, path=path, found=True, values=kept)


def remove(env: Mapping[str, str], name: str) -> None:
    """Removes the context. Raises Misconfigured where it is not there, and for `default`."""
    if demand_name(name) == DEFAULT:
        raise _bad_name(name, "that is the configuration file itself; remove it by hand")
    try:
        _path_of(env, name).unlink()
    except FileNotFoundError:
        raise _unknown(env, name, "") from None
    if in_use(env) == name:
        _current_path(env).unlink(missing_ok=True)


def is_there(env: Mapping[str, str], name: str) -> bool:
    """Returns whether there is a file of the context."""
    return _path_of(env, demand_name(name)).is_file()


def directory(env: Mapping[str, str]) -> Path:
    """Returns the directory of the configuration file, beside which contexts and tokens are."""
    return _configuration(env).parent


def demand_name(name: str) -> str:
    """Returns the name of a context. Raises Misconfigured for a text that is none."""
    if not _NAME.fullmatch(name):
        raise _bad_name(
            name,
            "it must be of letters, digits, '.', '_' and '-', begin with a letter or digit, and have "
            "at most 63 characters",
        )
    return name


def _path_of(env: Mapping[str, str], name: str) -> Path:
    own = _configuration(env)
    return own if name == DEFAULT else own.parent / "contexts" / f"{name}.toml"


def _configuration(env: Mapping[str, str]) -> Path:
    if env.get(Variable.CONFIG):
        return Path(env[Variable.CONFIG]).expanduser()
    base = Path(env.get("XDG_CONFIG_HOME", ""))
    # The XDG base directory specification: a path that is not absolute is to be ignored.
    return (base if base.is_absolute() else Path("~/.config").expanduser()) / "jit" / "config.toml"


def _current_path(env: Mapping[str, str]) -> Path:
    return _configuration(env).parent / "current-context"


def _absent(env: Mapping[str, str], name: str, path: Path, how: str) -> Context:
    if name != DEFAULT:
        raise _unknown(env, name, how)
    if env.get(Variable.CONFIG):
        raise _broken(path, "JIT_CONFIG names it, and it is not there")
    return Context(name=DEFAULT, path=path, found=False, values={})


def _check_key(path: Path, key: str, value: object, known: Mapping[str, tuple[type, ...]]) -> None:
    if key not in known:
        raise _broken(path, f"{key!r} is none of {', '.join(known)}")
    of_texts = not isinstance(value, list) or all(isinstance(part, str) for part in value)
    if not isinstance(value, known[key]) or not of_texts:
        raise _broken(path, f"{key!r} must be {_FORMS[known[key]]}")
    if key in _CHOICES and value not in list(_CHOICES[key]):
        raise _broken(path, f"{key!r} is {value!r}, and must be {' or '.join(_CHOICES[key])}")


def _write(path: Path, text: str) -> None:
    """Writes the file, there whole or not at all, for its user alone: a context may hold a token."""
    import tempfile

    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _broken(path, error.strerror or "it cannot be written") from None


def _toml(value: _Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    import json

    # A JSON text of ASCII is a TOML text too, but for the characters beyond 16 bits and DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _bad_name(name: str, fault: str) -> Misconfigured:
    return Misconfigured(f"{name!r} is no name for a context: {fault}", reason="CONTEXT_INVALID")


def _unknown(env: Mapping[str, str], name: str, how: str) -> Misconfigured:
    from jitaccess.naming.suggestion import did_you_mean

    known = names(env)
    there = f"there are {', '.join(known)}" if known else "there is none"
    said = f" ({how})" if how else ""
    return Misconfigured(
        f"there is no context {name}{said}; {there}{did_you_mean(name, known)}", reason="CONTEXT_UNKNOWN"
    )


def _broken(path: Path, fault: str) -> Misconfigured:
    return Misconfigured(f"the configuration file {path}: {fault}", reason="CONFIG_INVALID")
