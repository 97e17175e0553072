"""The pages of the provider: plain HTML without scripts, whose style is a file of its own."""

from __future__ import annotations

import html
from typing import Final
from urllib.parse import urlsplit

from jit_service.runtime.dev_issuer import PEOPLE
from jit_service.runtime.dev_provider.messages import NO_STORE, Response
from jit_service.runtime.dev_provider.sessions import PICKABLE, Session

STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0; }
main { max-width: 32rem; margin: 0 auto; padding: 1.5rem 1rem; }
h1 { font-size: 1.5rem; }
button { font: inherit; min-height: 2.75rem; padding: .5rem 1rem; border: 1px solid; border-radius: .4rem; }
button { cursor: pointer; margin: .25rem 0; }
button.person { display: block; width: 100%; text-align: start; }
button.person span { display: block; font-size: .875rem; }
input { font: inherit; min-height: 2.5rem; padding: .25rem .5rem; text-transform: uppercase; }
button:focus-visible, input:focus-visible { outline: 3px solid; outline-offset: 2px; }
.code { font: 1.5rem ui-monospace, monospace; letter-spacing: .1em; }
.warning { border-inline-start: .3rem solid; padding-inline-start: .7rem; }
"""
_WARNING: Final = (
    "Development mode: there is no password. Whoever reaches this page on this machine can be anybody. Never in "
    "production."
)


def style() -> Response:
    """Returns the style sheet."""
    return Response(headers=(("content-type", "text/css; charset=utf-8"), NO_STORE, *_security()), body=STYLE.encode())


def pick_page(base: str, interaction: str, *, client: str, redirect_uri: str) -> Response:
    """Returns the page on which one says who to be."""
    form = _form(base, interaction, _people(), _button("cancel", "Cancel"))
    body = f"<p>{_text(client)} asks who you are.</p>{form}"
    return _page("Who do you want to be?", base, body, redirect_uri=redirect_uri)


def confirm_page(base: str, interaction: str, session: Session, *, client: str, redirect_uri: str) -> Response:
    """Returns the page on which one proves again who one is: the step-up."""
    who = _text(session.who)
    form = _form(base, interaction, _button("confirm", f"Confirm that I am {who}"), _button("cancel", "Cancel"))
    body = (
        f"<p>{_text(client)} asks you to confirm again that you are <strong>{who}</strong>, as before a decision that "
        f"matters.</p>{form}"
    )
    return _page("Confirm again", base, body, redirect_uri=redirect_uri)


def device_page(base: str, interaction: str, user_code: str, *, client: str) -> Response:
    """Returns the page on which one says who another device acts for."""
    body = (
        f"<p>{_text(client)} on another device asks who you are. It shows this code:</p>"
        f'<p class="code">{_text(user_code)}</p>'
        "<p>Go on only if it does, and you began this log-in yourself.</p>"
        f"{_form(base, interaction, _people(), _button('cancel', 'Refuse'))}"
    )
    return _page("Log in another device", base, body)


def code_page(base: str, fault: str = "") -> Response:
    """Returns the page that asks for a device's code."""
    told = f'<p role="alert">{_text(fault)}</p>' if fault else ""
    body = (
        f'{told}<form method="get" action="{base}/device">'
        '<p><label for="code">The code that the device shows</label></p>'
        '<p><input id="code" name="user_code" autocomplete="off" autocapitalize="characters" spellcheck="false" '
        'maxlength="20" required> <button>Go on</button></p></form>'
    )
    return _page("Log in another device", base, body)


def logout_page(base: str, interaction: str) -> Response:
    """Returns the page that asks whether one wants to log out, since nothing proves that the client asked for it."""
    return _page("Log out?", base, _form(base, interaction, _button("logout", "Log out")))


def message_page(base: str, title: str, text: str, *, status: int = 200) -> Response:
    """Returns a page that only says something."""
    return _page(title, base, f"<p>{_text(text)}</p>", status=status)


def _people() -> str:
    return "".join(_person(who) for who in PICKABLE)


def _person(who: str) -> str:
    principal, groups, roles = PEOPLE[who]
    rights = ", ".join((*groups, *(f"role {role.value}" for role in roles))) or "no groups"
    about = f"<span>{_text(principal)}: {_text(rights)}</span>"
    return f'<button class="person" name="answer" value="{_text(who)}">Be {_text(who)}{about}</button>'


def _button(answer: str, label: str) -> str:
    return f'<button name="answer" value="{answer}">{label}</button> '


def _form(base: str, interaction: str, *buttons: str) -> str:
    name = f'<input type="hidden" name="interaction" value="{_text(interaction)}">'
    return f'<form method="post" action="{base}/interaction">{name}{"".join(buttons)}</form>'


def _page(title: str, base: str, body: str, *, redirect_uri: str = "", status: int = 200) -> Response:
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
        f'<link rel="stylesheet" href="{base}/style.css"></head><body><main><h1>{title}</h1>{body}'
        f'<p class="warning">{_WARNING}</p></main></body></html>'
    )
    kind = ("content-type", "text/html; charset=utf-8")
    return Response(status=status, headers=(kind, NO_STORE, *_security(redirect_uri)), body=text.encode())


def _security(redirect_uri: str = "") -> tuple[tuple[str, str], ...]:
    parts = urlsplit(redirect_uri)
    # A browser holds the redirect after a form against form-action too.
    targets = f"'self' {parts.scheme}://{parts.netloc}" if redirect_uri else "'self'"
    return (
        (
            "content-security-policy",
            f"default-src 'none'; style-src 'self'; form-action {targets}; base-uri 'none'; frame-ancestors 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        # Not no-referrer, with which a form's Origin would be null.
        ("referrer-policy", "same-origin"),
    )


def _text(text: str) -> str:
    return html.escape(text, quote=True)
