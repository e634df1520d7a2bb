"""Asks the userinfo endpoint whose a new access token is, in its turn at the issuer and under the client's breaker."""

from __future__ import annotations

from broker.oauth.messages import Response
from broker.oauth.token_response import TokenResponse
from broker.oauth.userinfo import subject_of, userinfo_request
from broker.tokens.acquire import Registration
from broker.tokens.limiter import HASTE
from broker.tokens.passage import Passage


async def ask_userinfo(registration: Registration, answer: TokenResponse, passage: Passage) -> Response:
    """
    Ask with the access token of *answer*, which nobody has been given yet.

    Raises RemoteError, ``metadata_insufficient`` among them. It comes before what nobody waits for: until it is
    answered, the token is of no use.
    """
    exchange = registration.exchange
    request = userinfo_request(await registration.metadata.get(), registration.issuer, registration.client)
    transmission = exchange.prepare(answer.jkt)
    async with passage.turn(object(), registration, rank=HASTE, still_wanted=lambda: None):
        return await passage.guarded(registration, lambda: exchange.fetch(request, answer.access_token, transmission))


async def subject_by_userinfo(
    registration: Registration, answer: TokenResponse, passage: Passage, *, wall_now: float
) -> str | None:
    """
    Give whose the token is, where a dialect tells it so; None where it does not.

    Raises RemoteError as ``ask_userinfo``, and CheckFailedError where the answer is about nobody.
    """
    if not registration.issuer.dialect.identifies:
        return None
    response = await ask_userinfo(registration, answer, passage)
    return subject_of(response, registration.issuer, wall_now=wall_now)
