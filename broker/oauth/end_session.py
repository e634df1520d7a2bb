"""Logout at the authorization server (OpenID Connect RP-Initiated Logout 1.0): a URL for the person's browser."""

from __future__ import annotations

from urllib.parse import urlencode

from broker.oauth.client import Client
from broker.oauth.metadata import AuthorizationServer


def end_session_url(server: AuthorizationServer, client: Client) -> str | None:
    """Give the URL, or None where the server has none; the person is asked there (section 3: no hint, no token)."""
    if server.end_session_endpoint is None:
        return None
    separator = "&" if "?" in server.end_session_endpoint else "?"
    return f"{server.end_session_endpoint}{separator}{urlencode({'client_id': client.client_id})}"
