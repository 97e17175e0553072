"""The commands of `jit`, put together, and the way out of the process."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import typer
from typer.main import get_command

from jitaccess.cli import (
    asking,
    audit,
    check,
    context,
    delegation,
    drafts,
    exits,
    grants,
    lock,
    login,
    logout,
    policy,
    proposals,
    review,
    running,
    search,
    signal,
    token,
    who,
)
from jitaccess.cli.command import common_options, pipe_closed
from jitaccess.cli.who import COMPLETE_VARIABLE
from jitaccess.extras import ExtraMissing

_HELP = """Ask for access, decide on it, and check it.

`jit login https://HOST` is all that is needed. The address and the token come from the options, then from JIT_ADDRESS
and JIT_TOKEN or JIT_TOKEN_FILE, then from the context in use (`jit context ls`), which --context or JIT_CONTEXT names
too; without one, from ~/.config/jit/config.toml (keys address, tls, ca_file, cert_file, cert_key_file, token_file,
token, token_command; JIT_CONFIG names another file). There may be several addresses, with commas between: where one is
unavailable, the next is asked.
"""
_EPILOG = (
    "Exit codes: 0 ok, 1 the answer is no, 2 usage or invalid, 3 unauthenticated, 4 not permitted, 5 not found, "
    "6 conflict or wrong state, 7 no answer to be had, 8 waited for too long, "
    "9 access ended while its command ran, 126 and 127 its command cannot be run, 130 interrupted."
)


def build(*, completes: bool) -> typer.Typer:
    """Returns the app with all its commands. `completes` says whether a shell asks it for completions."""
    made = partial(_typer, completes=completes)
    app = made(_HELP)
    app.info.epilog = _EPILOG
    common_options(app)
    asking.add_to(app)
    running.add_to(app)
    review.add_to(app)
    grants.add_to(app)
    delegation.add_to(app)
    lock.add_to(app)
    check.add_to(app)
    search.add_to(app)
    token.add_to(app)
    policies, log = made("Read, try, apply and approve policies."), made("Read and verify the audit log.")
    signals = made("Read and set signals, which conditions read.")
    contexts = made("Choose between services, and between logins to one.")
    policy.add_to(policies)
    drafts.add_to(policies)
    proposals.add_to(policies)
    signal.add_to(signals)
    audit.add_to(log)
    context.add_to(contexts)
    app.add_typer(policies, name="policy")
    app.add_typer(signals, name="signal")
    app.add_typer(log, name="audit")
    app.add_typer(contexts, name="context")
    login.add_to(app)
    logout.add_to(app)
    who.add_to(app)
    return app


def run(arguments: Sequence[str]) -> int:
    """Runs the command line and returns its exit code; nothing escapes but what ends the interpreter itself."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _invoke(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        return pipe_closed()
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except ExtraMissing as fault:
        print(f"jit: {fault}", file=sys.stderr)
        return exits.UNAVAILABLE
    except Exception:
        traceback.print_exc()
        return exits.BUG
    return code


def _invoke(arguments: Sequence[str]) -> int:
    try:
        _command(completes=COMPLETE_VARIABLE in os.environ)(args=list(arguments), prog_name="jit")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else exits.OK
    return exits.OK


# A process that runs many command lines, such as one that tests, would spend most of its time on making all commands.
@cache
def _command(*, completes: bool) -> Callable[..., Any]:
    """Returns all commands, for this process to run again and again."""
    return get_command(build(completes=completes))


def _typer(help: str, *, completes: bool) -> typer.Typer:
    # Without a markup mode, help and usage errors are plain text, and rich stays unloaded.
    return typer.Typer(
        help=help,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        # Only while a shell asks for completions: it would add two options that `jit completion` stands for.
        add_completion=completes,
    )
