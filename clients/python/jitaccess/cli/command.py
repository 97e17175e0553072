"""What all commands share: the options that each takes, and how a failure becomes an exit code."""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from jitaccess.cli import exits
from jitaccess.cli.session import Output, Session
from jitaccess.cli.text import parse_fact, parse_instant
from jitaccess.errors import JitError

_COMMON: dict[str, Any] = {
    "output": Annotated[
        Output | None,
        typer.Option("-o", "--output", help="Form of the answer: table (default), json as REST gives it, yaml."),
    ],
    "address": Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="The service's gRPC endpoints, with commas between [env var: JIT_ADDRESS]."
        ),
    ],
    "tls": Annotated[
        bool | None,
        typer.Option(
            "--tls/--no-tls", help="Speak TLS [env var: JIT_TLS; default: to other hosts].", show_default=False
        ),
    ],
    "ca_file": Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Authorities of the service's certificate, PEM; means TLS [env var: JIT_CA_FILE]."
        ),
    ],
    "cert_file": Annotated[
        Path | None,
        typer.Option(
            "--cert", metavar="FILE", help="This client's own certificate chain, PEM (mTLS) [env var: JIT_CERT_FILE]."
        ),
    ],
    "cert_key_file": Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE", help="Its key, PEM; by default in the same file [env var: JIT_CERT_KEY_FILE]."
        ),
    ],
    "token_file": Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the bearer token [env var: JIT_TOKEN_FILE].")
    ],
    "timeout": Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.001, help="How long to wait for an answer [default: 10].")
    ],
    "context": Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The context to use, of `jit context ls` [env var: JIT_CONTEXT; default: the one in use].",
        ),
    ],
}


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"jit {version('jitaccess')}")
        raise typer.Exit


_VERSION = typer.Option("--version", is_eager=True, callback=_say_version, help="Print the version, and end.")


def command(
    app: typer.Typer, name: str | None = None, *, cls: type[TyperCommand] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds a function as a command of the app, of typer's class or `cls`, with the common options behind its own.

    The function takes a Session first. A parameter that is a dataclass stands for the options that its fields are. A
    JitError that the function raises is reported and becomes the exit code.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        groups = {name: hint for name, hint in hints.items() if _is_group(hint)}
        own_names = {option.name for option in _own_options(function)}
        takes_facts = _FACTS in own_names

        @wraps(function)
        def run(ctx: typer.Context, **given: Any) -> None:
            common = {option: given[option] for option in _COMMON}
            if takes_facts:
                given[_FACTS], common[_FACTS] = _apart(given[_FACTS] or [])
            given = {name: value for name, value in given.items() if name not in _COMMON or name in own_names}
            own = Session(**common)
            session = own.over(ctx.obj) if isinstance(ctx.obj, Session) else own
            for name, group in groups.items():
                given[name] = group(**{field.name: given.pop(field.name) for field in dataclasses.fields(group)})
            _run(ctx.command_path, function, session, given)

        _sign(run, function)
        app.command(name, cls=cls)(run)
        return function

    return register


def common_options(app: typer.Typer) -> None:
    """Lets the app take the common options before the command too, where each command finds them."""

    def remember(ctx: typer.Context, *, version: bool, **given: Any) -> None:  # noqa: ARG001 (it ended in _say_version)
        ctx.obj = Session(**given)

    remember.__doc__ = app.info.help
    _sign(remember, None, version=Annotated[bool, _VERSION])
    app.callback()(remember)


def parsed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Returns a parser for typer from one that raises ValueError: its message is the usage error."""

    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return convert


def _fact_or_context(text: str) -> tuple[str, object] | str:
    return parse_fact(text) if "=" in text else text


Facts = Annotated[
    list[str] | None,
    typer.Option(
        "--context",
        metavar="K=V|NAME",
        parser=parsed(_fact_or_context),
        help="K=V: what conditions may read; may be repeated. V is JSON, else text. NAME: the context to use, as "
        "everywhere [env var: JIT_CONTEXT].",
    ),
]
_FACTS = "context"
"""The parameter of the commands that take facts; there the option is the common one of that name too."""


Address = Annotated[
    str,
    typer.Option(
        "--source-ip",
        metavar="ADDRESS",
        help="Where another subject is, for conditions. Your own address the service sees.",
        show_default=False,
    ),
]


At = Annotated[
    datetime | None,
    typer.Option(
        "--at",
        metavar="INSTANT",
        parser=parsed(parse_instant),
        help="As of this past instant, ISO 8601, from the record. About others: auditors and admins.",
        show_default=False,
    ),
]


def facts(given: list[str] | None) -> dict[str, object] | None:
    """Returns the facts of `--context`, None where there are none."""
    return dict(given) if given else None  # type: ignore[arg-type]  # The parser made pairs of the texts.


def pipe_closed() -> int:
    """Returns the exit code for a reader that has gone, and keeps the interpreter from flushing into its pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exits.PIPE_CLOSED


def _run(command: str, function: Callable[..., None], session: Session, given: dict[str, Any]) -> None:
    try:
        function(session, **given)
    except JitError as error:
        session.report(error, command)
        raise typer.Exit(exits.code_of(error)) from None
    except (KeyboardInterrupt, typer.Abort):
        if sys.stderr.isatty():
            sys.stderr.write("\n")  # The shell's prompt shall not stand behind a ^C.
        raise typer.Exit(exits.INTERRUPTED) from None
    except BrokenPipeError:
        # Typer would end with 1, our "no".
        raise typer.Exit(pipe_closed()) from None


def _is_group(hint: object) -> bool:
    return dataclasses.is_dataclass(hint) and hint is not Session


def _options(parameter: inspect.Parameter, hint: Any) -> list[inspect.Parameter]:
    """Returns the options that the parameter stands for: those of its group, or itself."""
    if not _is_group(hint):
        return [parameter.replace(annotation=hint)]
    hints = get_type_hints(hint, include_extras=True)
    return [option.replace(annotation=hints[name]) for name, option in inspect.signature(hint).parameters.items()]


def _own_options(function: Callable[..., None]) -> list[inspect.Parameter]:
    """Returns the options of the function itself, without the Session."""
    hints = get_type_hints(function, include_extras=True)
    own = list(inspect.signature(function).parameters.values())[1:]
    return [option for parameter in own for option in _options(parameter, hints[parameter.name])]


def _apart(given: list[Any]) -> tuple[list[Any] | None, str | None]:
    """Returns the facts, and the name of the context that stands among them."""
    facts, named = (
        [item for item in given if not isinstance(item, str)],
        [item for item in given if isinstance(item, str)],
    )
    if len(named) > 1:
        raise typer.BadParameter(
            f"{named[0]!r} and {named[1]!r}: one context only; a fact is written KEY=VALUE", param_hint="--context"
        )
    return facts or None, (named[0] if named else None)


def _sign(run: Callable[..., None], function: Callable[..., None] | None, **switches: Any) -> None:
    """Gives `run` the signature that typer reads: context, the function's own parameters, common options, switches."""
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
    if function is not None:
        parameters += [option.replace(kind=kind) for option in _own_options(function)]
        del run.__wrapped__  # type: ignore[attr-defined]  # Or typer would read the function beneath.
    taken = {parameter.name for parameter in parameters}
    parameters += [
        inspect.Parameter(name, kind, default=None, annotation=annotation)
        for name, annotation in _COMMON.items()
        if name not in taken
    ]
    parameters += [inspect.Parameter(name, kind, default=False, annotation=hint) for name, hint in switches.items()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
