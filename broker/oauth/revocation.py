"""Giving a grant up at the server that issued it: token revocation (RFC 7009), or the logout of a dialect."""

from __future__ import annotations

from typing import Literal

from broker.errors import RemoteError
from broker.oauth.answers import json_object
from broker.oauth.client import Client, Issuer
from broker.oauth.client_auth import authenticate
from broker.oauth.dialect import Logout, with_client_id
from broker.oauth.messages import BearerSpec, Draft, Response
from broker.oauth.metadata import AuthorizationServer, endpoint
from broker.oauth.secret import AccessToken, RefreshToken

Revocation = Literal["revoked", "not_revocable"]
"""``not_revocable``: the server does not revoke this kind of token, and says so (RFC 7009 section 2.2.1)."""

_LOGGED_OUT = frozenset({200, 202, 204})
"""What a logout is answered with; nothing more is said of it."""


def revocation_draft(
    server: AuthorizationServer, issuer: Issuer, client: Client, token: RefreshToken | AccessToken
) -> Draft | None:
    """Draft the revocation of *token*, or give None where the server does not revoke such a one."""
    if issuer.dialect.logout is Logout.BEARER:
        return _logout_draft(server, issuer, client, token)
    if server.revocation_endpoint is None and "revocation_endpoint" not in server.mtls_endpoint_aliases:
        return None
    url = endpoint(server, "revocation_endpoint", client)
    authentication, credential = authenticate(client, issuer, server, url)
    hint = "refresh_token" if isinstance(token, RefreshToken) else "access_token"
    return Draft(
        url=url,
        form=(("token_type_hint", hint), *authentication),
        credential=credential,
        secret_fields=(("token", token),),
    )


def read_revocation_response(response: Response, issuer: Issuer, *, wall_now: float) -> Revocation:
    """
    Read the answer: 200 whatever its body, also for a token that the server does not know.

    Raises RemoteError for every answer after which it is not known to be revoked.
    """
    if issuer.dialect.logout is Logout.BEARER:
        return _read_logout(response, wall_now)
    if response.status != 200:
        try:
            json_object(response, wall_now=wall_now)  # raises, because it is no 200
        except RemoteError as error:
            if error.server_error != "unsupported_token_type":
                raise
            return "not_revocable"
    return "revoked"


def _logout_draft(
    server: AuthorizationServer, issuer: Issuer, client: Client, token: RefreshToken | AccessToken
) -> Draft | None:
    """Draft the logout, which takes an access token and nothing else."""
    if not isinstance(token, AccessToken):
        return None
    url = endpoint(server, "logout_endpoint", client)
    return Draft(
        method=issuer.dialect.logout_method,
        url=with_client_id(url, client.client_id),
        form=None,
        credential=BearerSpec(access_token=token),
    )


def _read_logout(response: Response, wall_now: float) -> Revocation:
    """Read the answer to a logout; 401 says that the token is not taken any more, and not that anything ended."""
    if response.status in _LOGGED_OUT:
        return "revoked"
    if response.status == 401:
        return "not_revocable"
    json_object(response, wall_now=wall_now)  # raises, because it is no 200
    raise AssertionError("200 is among those above")
