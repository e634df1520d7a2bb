"""
A person with a browser, scripted: opens an authorization URL of the sandbox, logs in and decides.

Blocking, with nothing but the standard library, so that a test or a command may use it anywhere. It is one
POST of ``user`` and ``decision`` to the URL; the answer is a redirect, or a page with a form for the client.
"""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode, urlsplit

TIMEOUT = 10.0
"""Seconds: the sandbox answers at once, or the machine is badly overloaded."""


class NoAnswerError(Exception):
    """There is nothing to take back to the client; the message says what came instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """Where the browser goes, and the *form* that it posts there; None where the answer is in the URL."""

    url: str = field(repr=False)
    form: tuple[tuple[str, str], ...] | None = field(default=None, repr=False)


def decide(authorization_url: str, *, ca_file: Path, user: str = "alice", allow: bool = True) -> Callback:
    """Log in as *user* and allow or deny what *authorization_url* asks for. Raises NoAnswerError."""
    target = urlsplit(authorization_url)
    context = ssl.create_default_context(cafile=ca_file)
    connection = http.client.HTTPSConnection(target.netloc, context=context, timeout=TIMEOUT)
    try:
        body = urlencode({"user": user, "decision": "allow" if allow else "deny"})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", f"{target.path}?{target.query}", body=body, headers=headers)
        answer = connection.getresponse()
        page, location = answer.read().decode(), answer.getheader("Location")
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswerError(f"the sandbox does not answer ({type(error).__name__})") from error
    finally:
        connection.close()
    if location is not None:
        return Callback(url=location)
    form = _Form()
    form.feed(page)
    if answer.status != 200 or form.action is None:
        raise NoAnswerError(f"status {answer.status}, and no way back to the client")
    return Callback(url=form.action, form=tuple(form.fields))


class _Form(HTMLParser):
    """Finds where the page's form goes and what it carries."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = given.get("action")
        elif tag == "input" and given.get("type") == "hidden":
            self.fields.append((given["name"], given["value"]))
