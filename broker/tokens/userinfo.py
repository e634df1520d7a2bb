"""
Asks the userinfo endpoint whose a new access token is, in its turn at the issuer and under the client's breaker.

A token that is nobody's business is given up where that can be done.
"""

from __future__ import annotations

from contextlib import suppress

from broker.errors import BrokerError, Outcome, RemoteError
from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.dialect import Logout
from broker.oauth.messages import Response
from broker.oauth.reasons import Reason
from broker.oauth.revocation import revocation_draft
from broker.oauth.secret import AccessToken
from broker.oauth.token_response import TokenResponse
from broker.oauth.userinfo import subject_of, userinfo_request
from broker.tokens.acquire import Registration
from broker.tokens.limiter import HASTE
from broker.tokens.passage import Passage

ASKED_ABOUT = 2
"""How often a server says that a token is another's before it counts: as with ``invalid_grant`` (rules.md R2.6)."""


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


async def check_subject(
    registration: Registration, answer: TokenResponse, passage: Passage, *, subject: str, wall_now: float
) -> None:
    """
    See that a refreshed token is that of *subject*: some servers refresh to a token of the client's own.

    Raises CheckFailedError ``subject_changed``, and RemoteError where it cannot be found out: the refresh is done
    then, whatever became of the question.
    """
    for _ in range(ASKED_ABOUT):
        try:
            found = await subject_by_userinfo(registration, answer, passage, wall_now=wall_now)
        except RemoteError as error:
            error.outcome = Outcome.ANSWERED
            raise
        if found in {None, subject}:
            return
    await _log_out(registration, answer.access_token, passage)
    raise CheckFailedError(
        Reason.SUBJECT_CHANGED,
        Check.USERINFO_SUB,
        message="the refreshed access token is not that of the person who consented",
        hint='a person has to consent again; on_subject_change = "serve" of the token would serve it',
    )


async def _log_out(registration: Registration, access_token: AccessToken, passage: Passage) -> None:
    """Give up a token that nobody will see, where one can be by itself; it ends by itself soon: one try is enough."""
    issuer, exchange = registration.issuer, registration.exchange
    if issuer.dialect.logout is not Logout.BEARER:
        return
    with suppress(BrokerError):
        draft = revocation_draft(await registration.metadata.get(), issuer, registration.client, access_token)
        if draft is not None:
            async with passage.turn(object(), registration, rank=HASTE, still_wanted=lambda: None):
                await passage.guarded(registration, lambda: exchange.send(draft, exchange.prepare()))
