"""The commands about the caller itself: who it is, and its shell's completion."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from jitaccess.cli.command import command
from jitaccess.cli.session import Session
from jitaccess.cli.text import listed

if TYPE_CHECKING:
    from jitaccess.cli.screen import Screen

COMPLETE_VARIABLE = "_JIT_COMPLETE"


class Shell(StrEnum):
    """The shells that completion is there for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"
    PWSH = "pwsh"


def whoami(session: Session) -> None:
    """Show who your token says you are."""
    from jitaccess import Unauthenticated, config
    from jitaccess.contract.calls import grants

    settings = config.load(address=session.address, token=session.token)
    claims = read_claims(settings.token())
    refusal = None
    with session.client() as client:
        try:
            client.send(grants.list_grants(page_size=1))
        except Unauthenticated as error:
            refusal = error

    expires = _expiry(claims)
    data = {
        "principal": str(claims.get("sub", "")),
        "groups": _texts(claims.get("groups")),
        "roles": _texts(claims.get("roles")),
        "issuer": str(claims.get("iss", "")),
        "expireTime": expires.strftime("%Y-%m-%dT%H:%M:%SZ") if expires else None,
        "readFrom": "token",
        "address": settings.address,
        "accepted": refusal is None,
    }

    def show(screen: Screen) -> None:
        screen.fields(
            [
                ("principal", str(data["principal"])),
                ("groups", listed(_texts(claims.get("groups")))),
                ("roles", listed(_texts(claims.get("roles")))),
                ("issuer", str(data["issuer"])),
                ("expires", screen.moment(expires)),
                ("", "(as read from the token)" if claims else "(the token cannot be read here)"),
                ("service", f"{settings.address} {'refuses' if refusal else 'accepts'} the token"),
            ]
        )

    session.answer_data(data, show)
    if refusal:
        raise refusal


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh, fish, powershell or pwsh.")],
) -> None:
    """Print a shell's completion script.

    For bash: source <(jit completion bash)
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    typer.echo(get_completion_script(prog_name="jit", complete_var=COMPLETE_VARIABLE, shell=shell.value))


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    command(app)(whoami)
    app.command()(completion)


def read_claims(token: str) -> dict[str, object]:
    """Returns the claims of a JWT (RFC 7519) without verifying it; none where the text is not a JWT."""
    parts = token.strip().split(".")
    payload = parts[1] if len(parts) == 3 else ""
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _texts(claim: object) -> list[str]:
    return [str(item) for item in claim] if isinstance(claim, list) else []


def _expiry(claims: dict[str, object]) -> datetime | None:
    seconds = claims.get("exp")
    if not isinstance(seconds, (int, float)):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
