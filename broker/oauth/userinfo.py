"""The userinfo endpoint (OpenID Connect Core section 5.3): only to see that the access token is the person's."""

from __future__ import annotations

from broker.oauth.answers import json_object
from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.client import Client
from broker.oauth.messages import Request, Response
from broker.oauth.metadata import AuthorizationServer, endpoint
from broker.oauth.reasons import Reason


def userinfo_request(server: AuthorizationServer, client: Client) -> Request:
    """
    Make the request, but for the access token.

    Raises RemoteError ``metadata_insufficient`` when the server has no such endpoint.
    """
    url = endpoint(server, "userinfo_endpoint", client)
    return Request(method="GET", url=url, headers={"accept": "application/json"})


def check_userinfo(response: Response, *, subject: str, wall_now: float) -> None:
    """
    Compare ``sub`` with that of the ID token (IDT-11); nothing else of the answer is used.

    Raises RemoteError for an answer that is none, CheckFailedError for one about somebody else.
    """
    if json_object(response, wall_now=wall_now).get("sub") != subject:
        raise CheckFailedError(
            Reason.USERINFO_INVALID, Check.USERINFO_SUB, message="the userinfo is not about the person of the ID token"
        )
