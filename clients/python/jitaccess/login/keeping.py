"""Where the tokens of a login are kept: in the system's key ring, or in a file that only its user can read (ADR 55).

The key ring is used where the package `keyring` is there (extra `keyring`) and finds one of the system's; else a file
of mode 0600 in the directory `tokens` beside the configuration file. Which it was stands in the context.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Protocol

from jitaccess.errors import Unauthenticated, Unavailable
from jitaccess.extras import ExtraMissing, needed_for
from jitaccess.login import file_lock
from jitaccess.login.choices import Place
from jitaccess.login.provider import Registration
from jitaccess.login.tokens import Tokens

_SERVICE: Final = "jit"


@dataclass(frozen=True, kw_only=True)
class Login:
    """Somebody who is logged in: where, as which client, and what they hold."""

    registration: Registration
    tokens: Tokens


class Vault(Protocol):
    """Keeps one text under a name."""

    def read(self) -> str | None: ...
    def write(self, text: str) -> None: ...
    def remove(self) -> None: ...
    def shown(self) -> str: ...


class Keep:
    """The login of one context; `directory` is that of the configuration. Safe between threads and processes."""

    def __init__(self, directory: Path, context: str, place: Place) -> None:
        self.context = context
        self.place = place
        self._lock = directory / "tokens" / f"{context}.lock"
        self._vault: Vault = (
            _File(directory / "tokens" / f"{context}.json")
            if place is Place.FILE
            else _KeyRing(f"{context} of {directory.resolve()}")
        )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within it no other process changes this login. Raises Unavailable where that cannot be had."""
        with ExitStack() as stack:
            try:
                stack.enter_context(file_lock.held(self._lock))
            except OSError as fault:
                raise _unwritable(str(self._lock), fault.strerror or "it cannot be written") from None
            yield

    def read(self) -> Login | None:
        """Returns the login, None where nobody is logged in. Raises Unauthenticated where it cannot be read."""
        text = self._vault.read()
        return None if text is None else _parsed(text, self._vault.shown())

    def write(self, login: Login) -> None:
        """Keeps the login in place of the one before. Raises Unavailable."""
        self._vault.write(json.dumps(asdict(login.registration) | asdict(login.tokens)))

    def remove(self) -> None:
        """Forgets the login, if there is one."""
        self._vault.remove()

    def shown(self) -> str:
        """Returns where it is, for people."""
        return self._vault.shown()


def usual_place() -> Place:
    """Returns where new logins go: to the system's key ring where there is one, else to a file."""
    try:
        with needed_for("the key ring", "jitaccess[keyring]"):
            import keyring.backends.chainer
            import keyring.backends.fail
            import keyring.backends.null
    except ExtraMissing:
        return Place.FILE
    found: Any = keyring.get_keyring()
    backends = found.backends if isinstance(found, keyring.backends.chainer.ChainerBackend) else [found]
    # Files in clear, as those of keyrings.alt, say of themselves that they are below 1; `null` keeps nothing.
    useless = (keyring.backends.fail.Keyring, keyring.backends.null.Keyring)
    real = any(each.priority >= 1 and not isinstance(each, useless) for each in backends)
    return Place.KEYRING if real else Place.FILE


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str | None:
        try:
            with self._path.open("rb") as file:
                if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    raise Unauthenticated(
                        f"others may read the tokens in {self._path}: chmod 600 it, or log in again",
                        reason="TOKEN_STORE_EXPOSED",
                    )
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise _unreadable(self.shown(), fault.strerror or "it cannot be read") from None

    def write(self, text: str) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made with mode 0600, and there whole or not at all.
            descriptor, name = tempfile.mkstemp(prefix=".", dir=self._path.parent)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    # A refresh token that was rotated and lost would end the login.
                    os.fsync(file.fileno())
                Path(name).replace(self._path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as fault:
            raise _unwritable(self.shown(), fault.strerror or "it cannot be written") from None

    def remove(self) -> None:
        with suppress(FileNotFoundError):
            self._path.unlink()

    def shown(self) -> str:
        return f"the file {self._path}"


class _KeyRing:
    def __init__(self, name: str) -> None:
        self._name = name

    def read(self) -> str | None:
        with self._asked("read") as ring:
            found: str | None = ring.get_password(_SERVICE, self._name)
            return found

    def write(self, text: str) -> None:
        with self._asked("written") as ring:
            ring.set_password(_SERVICE, self._name, text)

    def remove(self) -> None:
        with self._asked("written") as ring:
            if ring.get_password(_SERVICE, self._name) is not None:
                ring.delete_password(_SERVICE, self._name)

    def shown(self) -> str:
        return "the system's key ring"

    @contextmanager
    def _asked(self, what: str) -> Iterator[Any]:
        try:
            with needed_for("the key ring", "jitaccess[keyring]"):
                import keyring
            yield keyring
        except ExtraMissing as missing:
            raise _unreadable(self.shown(), str(missing)) from None
        except Exception as fault:
            # Each kind of key ring raises its own, and none of their words may be trusted to hold no secret.
            raise _unwritable(self.shown(), f"it cannot be {what} ({type(fault).__name__})") from None


def _parsed(text: str, where: str) -> Login:
    try:
        kept = json.loads(text)
        registration = Registration(**{field.name: kept[field.name] for field in fields(Registration)})
        tokens = Tokens(**{field.name: kept[field.name] for field in fields(Tokens)})
        sound = all(isinstance(value, str) for value in asdict(registration).values()) and all(
            isinstance(value, float | int if name.endswith("_at") else str) for name, value in asdict(tokens).items()
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise _unreadable(where, "it holds no login")
    return Login(registration=registration, tokens=tokens)


def _unreadable(where: str, fault: str) -> Unauthenticated:
    return Unauthenticated(f"{where}, where the tokens are, cannot be used: {fault}", reason="TOKEN_STORE_UNUSABLE")


def _unwritable(where: str, fault: str) -> Unavailable:
    return Unavailable(f"{where} cannot take the tokens: {fault}", reason="TOKEN_STORE_UNUSABLE")
