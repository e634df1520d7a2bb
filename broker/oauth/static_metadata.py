"""
Servers without metadata: where their endpoints are stands in the configuration (``Dialect.endpoints``).

What an operator wrote is trusted as the issuer is, so that endpoints may be on any host; that each is https, or on a
loopback address where that is allowed, is seen to all the same.
"""

from __future__ import annotations

from typing import Any, get_args

from broker.errors import LocalError
from broker.oauth.client import Issuer
from broker.oauth.dialect import CLIENT_ID
from broker.oauth.endpoint_urls import NotAnEndpointUrlError, is_loopback, is_never_dialed, parse_url
from broker.oauth.metadata import AuthorizationServer, DescribedName, EndpointName

ENDPOINT_NAMES: tuple[str, ...] = (*get_args(EndpointName), *get_args(DescribedName))
"""The endpoints that a dialect may name."""


def described_server(issuer: Issuer) -> AuthorizationServer | None:
    """
    Give the server as its dialect describes it; None where it has metadata.

    Raises LocalError ``endpoint_invalid`` for what is no URL that we dial.
    """
    if not issuer.dialect.endpoints:
        return None
    urls: dict[str, Any] = {name: endpoint_url(issuer, name, text) for name, text in issuer.dialect.endpoints}
    return AuthorizationServer(issuer=issuer.issuer, **urls)


def endpoint_url(issuer: Issuer, name: str, text: str) -> str:
    """Give the URL of *text*, a path below *issuer* or the whole. Raises LocalError ``endpoint_invalid``."""
    url = f"{issuer.issuer.rstrip('/')}{text}" if text.startswith("/") else text
    try:
        # A tilde may be in a path and is in no host: a client's id does not say whom an access token is sent to.
        parsed = parse_url(url.replace(CLIENT_ID, "~") if name == "logout_endpoint" else url)
    except NotAnEndpointUrlError:
        raise LocalError(
            "endpoint_invalid",
            f"{name} is neither a path below the issuer nor a plain absolute URL",
            hint='for example "/oauth/token" or "https://auth.example.com/oauth/token"',
        ) from None
    if is_never_dialed(parsed.host):
        raise LocalError("endpoint_invalid", f"{name} is at a link-local or cloud metadata address, never dialed")
    if parsed.scheme != "https" and not (issuer.allow_insecure_loopback and is_loopback(parsed.host)):
        raise LocalError(
            "endpoint_invalid",
            f"{name} is not https",
            hint="http is only for a loopback address, with allow_insecure_loopback = true",
        )
    return url
