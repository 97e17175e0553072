"""The token that a platform gives to its jobs: GitHub Actions, GitLab, Kubernetes, or whatever a command prints."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from jitaccess.errors import Misconfigured, Unauthenticated, Unavailable
from jitaccess.login.choices import Workload
from jitaccess.login.claims import lifetime
from jitaccess.login.resource import SECONDS
from jitaccess.naming.variables import Variable

KUBERNETES_FILE: Final = Path("/var/run/secrets/jit/token")
"""Where a pod mounts its projected token for this service, as docs/guides/login.md says."""
_GITHUB_URL: Final = "ACTIONS_ID_TOKEN_REQUEST_URL"
_GITHUB_TOKEN: Final = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"  # noqa: S105 (the variable's name)
_GITLAB: Final = "GITLAB_CI"
_COMMAND_SECONDS: Final = 60.0
_MAX_TOKEN: Final = 64 << 10
_UNKNOWN_LIFETIME: Final = 60.0


def detect(env: Mapping[str, str]) -> Workload | None:
    """Returns the platform that this process is a job of and has a token from; None where there is none."""
    if env.get(_GITHUB_URL) and env.get(_GITHUB_TOKEN):
        return Workload.GITHUB
    if env.get(_GITLAB) and env.get(Variable.ID_TOKEN):
        return Workload.GITLAB
    return Workload.KUBERNETES if KUBERNETES_FILE.is_file() else None


def source(workload: Workload, env: Mapping[str, str], *, audience: Callable[[], str]) -> Callable[[], str]:
    """Returns the source of the platform's tokens. `audience` is asked where the platform must be told for whom.

    The source raises Unauthenticated where the platform gives none, Unavailable where it does not answer.
    """
    if workload is Workload.GITHUB:
        return Cached(lambda: _github(env, audience()))
    if workload is Workload.GITLAB:
        return lambda: _gitlab(env)
    return lambda: _in_file(KUBERNETES_FILE)


def command_source(command: str | Sequence[str], *, directory: Path | None = None) -> Callable[[], str]:
    """Returns the source of what a command prints. A text is split as a shell does it, but no shell runs it.

    It runs in `directory` where one is given. The source raises Unauthenticated where the command fails or prints
    no token. Raises Misconfigured for a command that is none.
    """
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as fault:
        raise Misconfigured(f"token_command: {fault}", reason="CONFIG_INVALID") from None
    if not words:
        raise Misconfigured("token_command: give the command and its arguments", reason="CONFIG_INVALID")
    return Cached(lambda: _printed(words, directory))


class Cached:
    """A source that asks another one again only before the token ends: after four fifths of its life. Thread-safe."""

    def __init__(self, ask: Callable[[], str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0.0

    def at_hand(self) -> str | None:
        """Returns the token where nobody has to be asked, else None."""
        return self._token if self._token and self._clock() < self._until else None

    def __call__(self) -> str:
        """Returns the token. Raises what the other source raises."""
        with self._lock:
            if (token := self.at_hand()) is not None:
                return token
            asked_at = self._clock()
            token = self._ask()
            span = lifetime(token)
            self._token, self._until = token, asked_at + (_UNKNOWN_LIFETIME if span is None else span * 4 / 5)
            return token


def _github(env: Mapping[str, str], audience: str) -> str:
    from jitaccess.jose.fetching import Documents

    url, secret = env.get(_GITHUB_URL, ""), env.get(_GITHUB_TOKEN, "")
    if not url or not secret:
        raise _missing("GitHub Actions", f"{_GITHUB_URL} is not set; give the job `permissions: {{id-token: write}}`")
    separator = "&" if "?" in url else "?"
    try:
        answer = Documents(url, seconds=SECONDS).ask(
            f"{url}{separator}audience={quote(audience, safe='')}", headers={"authorization": f"Bearer {secret}"}
        )
    except (OSError, ValueError) as fault:
        raise Unavailable(f"GitHub Actions gives no token: {fault}", reason="WORKLOAD_UNAVAILABLE") from None
    token = answer.body.get("value") if answer.status == 200 and isinstance(answer.body, dict) else None
    if not isinstance(token, str) or not token:
        if answer.status >= 500 or answer.status == 429:
            raise Unavailable(f"GitHub Actions gives no token: {answer.status}", reason="WORKLOAD_UNAVAILABLE")
        raise _missing("GitHub Actions", f"it answers {answer.status}")
    return token


def _gitlab(env: Mapping[str, str]) -> str:
    if token := env.get(Variable.ID_TOKEN, ""):
        return token
    raise _missing("GitLab", f"{Variable.ID_TOKEN} is not set; give the job `id_tokens: {{{Variable.ID_TOKEN}: …}}`")


def _in_file(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        raise _missing("Kubernetes", f"{path} cannot be read; mount a projected token there") from None


def _printed(words: Sequence[str], directory: Path | None) -> str:
    import subprocess

    name = words[0]
    try:
        # Its words on stderr are for whoever looks, such as "insert your key".
        ran = subprocess.run(  # noqa: S603 (it is what the configuration names)
            words,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd=directory,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _failed(name, f"it takes longer than {_COMMAND_SECONDS:g} s") from None
    except OSError as fault:
        raise _failed(name, fault.strerror or "it cannot be run") from None
    if ran.returncode:
        raise _failed(name, f"it ended with {ran.returncode}")
    token = ran.stdout[: _MAX_TOKEN + 1].decode("ascii", errors="replace").strip()
    if not token or len(token) > _MAX_TOKEN or any(character.isspace() for character in token):
        raise _failed(name, "it must print one token and nothing else")
    return token


def _missing(platform: str, fault: str) -> Unauthenticated:
    return Unauthenticated(f"no token from {platform}: {fault}", reason="WORKLOAD_TOKEN_MISSING")


def _failed(name: str, fault: str) -> Unauthenticated:
    return Unauthenticated(f"token_command {name}: {fault}", reason="TOKEN_COMMAND_FAILED")
