"""
An authorization endpoint that we call ourselves, and the redirect that it answers with (``AuthorizationBy.REDIRECT``).

Some servers leave the login to other providers: the answer to a POST says where the browser is to go. It is read
and not followed (rules.md R1). It comes from the server and leads elsewhere, so that nothing of it is believed but
what was asked for: https, a host that the configuration names, our ``state``, our ``redirect_uri``.
A server that people come back to before they come to us (``provider_callback``) has a state of its own with the
provider; ours then comes back with its code.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import parse_qsl, quote, urlsplit

from broker.oauth.answers import json_object
from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.client import Issuer
from broker.oauth.dialect import Placement
from broker.oauth.endpoint_urls import NotAnEndpointUrlError, is_listed, is_never_dialed, parse_url
from broker.oauth.messages import Draft, Response
from broker.oauth.metadata import AuthorizationServer, endpoint
from broker.oauth.reasons import Reason
from broker.oauth.static_metadata import endpoint_url

MAX_PARAMETERS = 50
"""A request to a provider has a handful."""

LONGEST = 8_192
"""Characters of a URL that browsers and servers agree to take."""

_REDIRECTS = frozenset({302, 303})
"""Those that a browser follows with a GET, whatever it was answered to (RFC 9110 section 15.4)."""

_URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"
"""What is left as it is of a Location; the rest is encoded as browsers do it, because servers paste URLs together."""


_COMES_BACK_FIRST = "a server to which people come back first needs provider_callback in its dialect"


def redirect_draft(server: AuthorizationServer, issuer: Issuer, form: tuple[tuple[str, str], ...]) -> Draft:
    """Draft the call; *form* is the authorization request (RFC 6749 section 4.1.1), and proves nobody."""
    url = endpoint(server, "authorization_endpoint", None)
    return Draft(url=url, form=form, in_query=issuer.dialect.authorization_placement is Placement.QUERY)


def read_redirect(response: Response, issuer: Issuer, *, state: str, redirect_uri: str, wall_now: float) -> str:
    """
    Give the URL for the browser.

    Raises RemoteError for an answer that is no redirect, and CheckFailedError for one that leads where nobody asked.
    """
    if response.status not in _REDIRECTS:
        json_object(response, wall_now=wall_now)
        _refuse("the authorization endpoint answered 200, where a redirect (302 with Location) is expected")
    # The transport gives a byte that is no UTF-8 as a surrogate.
    url = quote(response.headers.get("location", ""), safe=_URL_CHARACTERS, errors="surrogateescape")
    if not url or len(url) > LONGEST:
        _refuse("the redirect of the authorization endpoint has no Location, or one that is too long")
    _check_place(url, issuer)
    query = urlsplit(url).query
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        _refuse("the query of the redirect cannot be read")
    given = dict(pairs)
    if len(given) != len(pairs):
        _refuse("a parameter of the redirect occurs twice", Check.REPEATED_PARAMETER)
    _check_way_back(given, issuer, state, redirect_uri)
    for name, wanted in (("response_type", "code"), ("response_mode", "query")):
        if given.get(name, wanted) != wanted:
            _refuse(f"the redirect asks for another {name} than {wanted}", Check.RESPONSE_TYPE)
    return url


def _check_way_back(given: Mapping[str, str], issuer: Issuer, state: str, redirect_uri: str) -> None:
    """See that people come back to us, or to the server with a state of its own, as the dialect says."""
    callback = issuer.dialect.provider_callback
    if callback is not None:
        redirect_uri = endpoint_url(issuer, "provider_callback", callback)
    elif not hmac.compare_digest(given.get("state", "").encode(), state.encode()):
        _refuse("the redirect has not the state that was sent", Check.STATE, _COMES_BACK_FIRST)
    if not hmac.compare_digest(given.get("redirect_uri", "").encode(), redirect_uri.encode()):
        _refuse(
            "the redirect does not lead back to where the dialect says: the redirect_uri that was sent, or its own",
            Check.REDIRECT_URI,
            hint="the redirect URI has to be the one that is registered at the server, to the letter and port included"
            f" (token-broker login takes --port); {_COMES_BACK_FIRST}",
        )


def _check_place(url: str, issuer: Issuer) -> None:
    if "#" in url:
        # A browser takes a fragment along through every redirect that has none, and so back to us.
        _refuse("the Location of the redirect has a fragment")
    try:
        place = parse_url(url.partition("?")[0])
    except NotAnEndpointUrlError:
        _refuse("the Location of the redirect is not a plain absolute URL")
    if place.scheme != "https":
        _refuse("the Location of the redirect is not https")
    if is_never_dialed(place.host):
        _refuse("the Location of the redirect is a link-local or cloud metadata address")
    listed = issuer.dialect.provider_hosts
    if not is_listed(place, listed):
        hosts = ", ".join(f'"{host}"' for host in (*listed, place.authority))
        _refuse(
            "the redirect leads to a host that is not trusted",
            hint=f"if people log in there, set in [issuer.{issuer.name}.dialect]: provider_hosts = [{hosts}]",
        )


def _refuse(message: str, check: Check = Check.LOCATION, hint: str | None = None) -> NoReturn:
    raise CheckFailedError(Reason.PROVIDER_REDIRECT_INVALID, check, message=message, hint=hint)
