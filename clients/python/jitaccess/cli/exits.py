"""The exit codes of `jit`, and how an answer or an error becomes one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from jitaccess.contract.model import ExtensionState, GrantState
from jitaccess.errors import JitError

OK = 0
NO = 1  # The service answered, and the answer is no.
USAGE = 2
UNAUTHENTICATED = 3
NOT_PERMITTED = 4
NOT_FOUND = 5
CONFLICT = 6
UNAVAILABLE = 7
TIMED_OUT = 8  # What was waited for has not come yet.
ACCESS_ENDED = 9  # It ended while the command of `jit run` ran.
BUG = 70  # EX_SOFTWARE of sysexits.h: never to be taken for a no.
NOT_RUNNABLE = 126  # As shells have them, of the command of `jit run`.
NO_COMMAND = 127
INTERRUPTED = 130
PIPE_CLOSED = 141

_CODES = {
    "INVALID_ARGUMENT": USAGE,
    "OUT_OF_RANGE": USAGE,
    "UNAUTHENTICATED": UNAUTHENTICATED,
    "PERMISSION_DENIED": NOT_PERMITTED,
    "NOT_FOUND": NOT_FOUND,
    "ABORTED": CONFLICT,
    "FAILED_PRECONDITION": CONFLICT,
    "ALREADY_EXISTS": CONFLICT,
}
_HINTS = {
    "ADDRESS_MISSING": "pass --address HOST:PORT, or log in with `jit login URL`",
    "TOKEN_MISSING": "pass --token-file FILE, or set JIT_TOKEN_FILE, or log in with `jit login URL`",
    "NOT_LOGGED_IN": "log in with `jit login`",
    "LOGIN_ENDED": "log in again with `jit login`",
    "LOGIN_DENIED": "log in again with `jit login`, as whoever may",
    "LOGIN_NOT_OFFERED": "tokens from elsewhere go by --token-file FILE or JIT_TOKEN_FILE",
    "PROVIDER_UNAVAILABLE": "who is logged in goes on until the token ends; try again once the provider is back",
    "CONTEXT_UNKNOWN": "`jit context ls` shows the contexts",
    "TOKEN_EXPIRED": "get a new token; `jit whoami` shows what is in this one",
    "TOKEN_INVALID": "`jit whoami` shows what is in the token",
    "NOT_ELIGIBLE": "`jit policy ls` shows the policies that you may ask under",
    "TOO_MANY_ACTIVE": "`jit ls` shows what there is; release or withdraw what is not needed",
    "STALE_ETAG": "it has changed since it was read: look again with `jit show`, then decide",
    "NOT_SHOWN": "an approval is for what its reviewer has seen",
    "LOST_RACE": "somebody else was first: look again with `jit show`, then decide",
    "POLICY_NO_LONGER_ALLOWS": "ask anew with `jit request`",
    "DEADLINE_EXCEEDED": "a write may have happened all the same; look with `jit ls`, or pass a longer --timeout",
    "TLS_NEEDED": "pass --tls, or set JIT_TLS=true or an address https://HOST:PORT",
    "TLS_NOT_SPOKEN": "pass --no-tls if that port is meant, or the address of the port that speaks TLS",
    "CERTIFICATE_UNKNOWN_AUTHORITY": "pass --ca-file FILE, or set JIT_CA_FILE, with the authority that signed it",
    "CERTIFICATE_EXPIRED": "whoever runs the service must renew it; is this machine's clock right?",
    "CLIENT_CERTIFICATE_NEEDED": "pass --cert FILE and --key FILE, or set JIT_CERT_FILE and JIT_CERT_KEY_FILE",
    "CLIENT_CERTIFICATE_REFUSED": "the service trusts other authorities, or the certificate has expired",
    "CERTIFICATE_WRONG_NAME": "use an address with a name that the certificate is for",
    "UNAVAILABLE": "is the service up, and is the address its gRPC one?",
}


def code_of(error: JitError) -> int:
    """Returns the exit code; what gave neither a yes nor a no is UNAVAILABLE."""
    # A limit of a policy does not pass by trying again, as one of the service does.
    if error.reason == "TOO_MANY_ACTIVE":
        return CONFLICT
    return _CODES.get(error.code, UNAVAILABLE)


def code_of_state(state: GrantState) -> int:
    """Returns the exit code for a grant that was waited for: it can be used, it still waits, or it never will be."""
    if state is GrantState.ACTIVE:
        return OK
    return TIMED_OUT if state in (GrantState.PENDING, GrantState.SCHEDULED) else NO


def code_of_extension(state: ExtensionState) -> int:
    """Returns the exit code for a request for more time that was waited for."""
    if state is ExtensionState.APPROVED:
        return OK
    return TIMED_OUT if state is ExtensionState.PENDING else NO


def hint_for(error: JitError) -> str:
    """Returns what to do about it, or nothing where the message says it all."""
    if error.reason == "REVIEW_ASSURANCE_REQUIRED":
        return _step_up(error.metadata)
    return _HINTS.get(error.reason, "")


def _step_up(asked: Mapping[str, str]) -> str:
    """Returns how to log in so that the approval counts (RFC 9470); the values are the policy's."""
    acr, amr, max_age = (asked.get(name, "") for name in ("acr_values", "amr_values", "max_age"))
    demands = [
        f"acr_values={acr}" if acr else "",
        f"a method of each of: {amr}" if amr else "",
        f"max_age={max_age}, so enter the password or the second factor anew" if max_age else "",
    ]
    how = ", ".join(demand for demand in demands if demand)
    options = f"--acr-values {shlex.quote(acr)} " if acr else ""
    options += f"--max-age {shlex.quote(max_age)} " if max_age else ""
    command = f"jit login {options or '--prompt login'}".strip()
    return f"log in anew at your provider with {how}: {command}; then approve again (a denial needs none of it)"
