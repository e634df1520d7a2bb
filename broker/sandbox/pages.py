"""
The few pages that people see: log in, allow or deny, what went wrong.

Plain HTML without scripts or anything from elsewhere; readable on a phone, in light and in dark. Whatever comes
from a request is escaped, and the policy lets no script run if that were ever wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import urlsplit

STYLE = """\
:root{color-scheme:light dark}
*{box-sizing:border-box}
body{margin:0;font:1rem/1.5 system-ui,sans-serif;background:Canvas;color:CanvasText}
main{max-width:30rem;margin:0 auto;padding:1.5rem 1rem}
h1{font-size:1.4rem;line-height:1.2}
fieldset{border:1px solid GrayText;border-radius:.5rem;margin:0 0 1rem;padding:.5rem 1rem}
label{display:block;padding:.5rem 0}
button{font:inherit;min-height:2.75rem;padding:.5rem 1.25rem;margin:0 .5rem .5rem 0;border-radius:.5rem;
border:1px solid currentColor;background:ButtonFace;color:ButtonText;cursor:pointer}
button.first{background:#0b57d0;border-color:#0b57d0;color:#fff}
button:focus-visible,input:focus-visible{outline:3px solid #f2a600;outline-offset:2px}
li,code,pre{overflow-wrap:anywhere;white-space:pre-wrap}
.note{border-left:.3rem solid #b26a00;padding-left:.75rem}
"""

NOTE = "This is a sandbox on this computer. Nothing here is a real account."


def policy(*redirect_uris: str | None) -> str:
    """Give the Content-Security-Policy: forms lead here, and from here to *redirect_uris*, and nowhere else."""
    return "; ".join(
        (
            "default-src 'none'",
            "style-src 'unsafe-inline'",
            f"form-action 'self'{''.join(dict.fromkeys(map(_origin, redirect_uris)))}",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def _origin(redirect_uri: str | None) -> str:
    """Give what CSP calls the place: browsers apply form-action to redirects too, and know no IPv6 literals."""
    if redirect_uri is None:
        return ""
    scheme, place, *_ = urlsplit(redirect_uri)
    return f" {scheme}:" if "[" in place else f" {scheme}://{place}"


def login_page(
    people: Iterable[str],
    *,
    client_id: str,
    hint: str | None,
    field: str = "user",
    values: Mapping[str, str] | None = None,
) -> str:
    """Ask who it is; *field* of the form is the name of who was chosen, or what *values* has for it."""
    names = list(people)
    checked = hint if hint in names else names[0]
    choices = "".join(
        f'<label><input type="radio" name="{field}" value="{escape((values or {}).get(name, name))}"'
        f"{' checked' if name == checked else ''}> {escape(name)}</label>"
        for name in names
    )
    return _page(
        "Log in",
        f"<p><strong>{escape(client_id)}</strong> wants to know who you are. No password is needed.</p>"
        f'<form method="post"><fieldset><legend>Who are you?</legend>{choices}</fieldset>'
        '<button class="first" type="submit">Continue</button></form>',
    )


def consent_page(user: str, *, client_id: str, scope: Sequence[str], details: Sequence[Mapping[str, Any]]) -> str:
    """Ask whether that is all right."""
    asked = "".join(f"<li><code>{escape(name)}</code></li>" for name in scope)
    asked += "".join(f"<li><code>{escape(str(one.get('type')))}</code> (in detail)</li>" for one in details)
    return _page(
        "Allow access?",
        f"<p>{escape(user)}, <strong>{escape(client_id)}</strong> asks for:</p>"
        f"<ul>{asked or '<li>nothing in particular</li>'}</ul>"
        f'<form method="post"><input type="hidden" name="user" value="{escape(user)}">'
        '<button class="first" type="submit" name="decision" value="allow">Allow</button>'
        '<button type="submit" name="decision" value="deny">Deny</button></form>',
    )


def error_page(error: str, reason: str) -> str:
    """Say what went wrong, where no client can be told."""
    return _page(
        "This did not work",
        f"<p>The request that led here is wrong: {escape(reason)} (<code>{escape(error)}</code>).</p>"
        "<p>Go back to the application and start again.</p>",
    )


def logged_out_page() -> str:
    """Say that nobody is logged in any more; nobody ever was."""
    return _page("Logged out", "<p>You are logged out. You can close this window.</p>")


def form_post_page(redirect_uri: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Take the answer back in a form; without a script, the person presses the button."""
    hidden = "".join(f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in pairs)
    return _page(
        "Back to the application",
        f'<form method="post" action="{escape(redirect_uri)}">{hidden}'
        '<button class="first" type="submit">Continue</button></form>',
    )


def _page(title: str, content: str) -> str:
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title} - sandbox</title><style>{STYLE}</style></head>"
        f'<body><main><h1>{title}</h1>{content}<p class="note">{NOTE}</p></main></body></html>'
    )
