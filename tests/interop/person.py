"""A person who logs in and consents at the pages of oidc-provider, without a browser."""

from __future__ import annotations

import html
import http.cookiejar
import re
import ssl
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

STEPS = 12
"""Pages and redirects from the address that the broker gave to the one where it ends; more is a loop."""


@dataclass(frozen=True, kw_only=True)
class CameBack:
    """Where the browser ended, and what it would have posted there (``form_post``)."""

    url: str
    form: dict[str, str] | None = None


class _Still(urllib.request.HTTPRedirectHandler):
    """Redirects are looked at, not followed: the last one leads to nobody."""

    def redirect_request(self, *_: Any) -> None:
        return None


def consent(
    authorization_url: str, *, redirect_uri: str, ca_file: Path, login: str = "alice", proxy: str | None = None
) -> CameBack:
    """
    Log in as *login* and agree to everything; gives how the person comes back to *redirect_uri*.

    Everything goes through *proxy*, if there is one.
    """
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({} if proxy is None else {"https": proxy}),
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)),
        urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        _Still(),
    )
    url, fields = authorization_url, None
    for _ in range(STEPS):
        status, location, page = _ask(opener, url, fields)
        if location is not None:
            url, fields = urllib.parse.urljoin(url, location), None
            if url.startswith(redirect_uri):
                return CameBack(url=url)
            continue
        assert status == 200, f"{status} at {urllib.parse.urlsplit(url).path}: {page[:500]}"
        action, fields = _form(page, login)
        url = urllib.parse.urljoin(url, action)
        if url.startswith(redirect_uri):
            return CameBack(url=url, form=fields)
    raise AssertionError("the pages lead nowhere")


def _ask(opener: urllib.request.OpenerDirector, url: str, fields: dict[str, str] | None) -> tuple[int, str | None, str]:
    data = None if fields is None else urllib.parse.urlencode(fields).encode()
    try:
        with opener.open(url, data, timeout=20) as answer:
            return answer.status, None, answer.read().decode()
    except HTTPError as answer:
        with answer:
            return answer.code, answer.headers.get("Location"), answer.read().decode(errors="replace")


def _form(page: str, login: str) -> tuple[str, dict[str, str]]:
    """Give where the form of a page leads, and what a person sends with it."""
    action = re.search(r'<form[^>]*action="([^"]+)"', page)
    assert action, page[:500]
    fields = {
        html.unescape(name): html.unescape(value)
        for name, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
    }
    if 'name="login"' in page:
        fields |= {"login": login, "password": "any"}
    return html.unescape(action[1]), fields
