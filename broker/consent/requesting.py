"""
Gets an authorization request to the server: pushed, with a new assertion for its one transmission, written into
the URL, or sent to a server that says where to go. What comes out is what the person's browser opens.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from broker.errors import Outcome, RemoteError
from broker.oauth.authorization_request import (
    Asked,
    Pushed,
    Redirected,
    Transaction,
    authorization_url,
    plan_authorization,
    pushed_url,
    read_pushed_response,
)
from broker.oauth.capabilities import check_capabilities
from broker.oauth.client import Profile
from broker.oauth.messages import Draft
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.provider_redirect import read_redirect
from broker.oauth.reasons import Reason
from broker.tokens.acquire import Registration
from broker.tokens.exchange import REQUEST_OBJECT_LIFETIME, Sent
from broker.tokens.limiter import HASTE
from broker.tokens.passage import Passage
from broker.tokens.ports import Clock

TRANSACTION_LIFETIME = 600.0
"""
Seconds from the request to the callback, for a login with everything that people look for meanwhile (AC-09).

The reference to a pushed request usually ends long before, but that has to hold only until the browser has
opened it: to end the transaction with it would send people away who were slow to type.
"""

MARGIN = 5.0
"""Seconds before its end in which a request_uri is not to be opened any more (PAR-04): browsers take a moment."""

LEAST = 1.0
"""Seconds that have to be left for the browser; callers are told whole ones."""

DEADLINE = 30.0
"""Seconds to get a request to the server: a person waits in front of a blank page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """The URL for the browser, to be opened within *expires_in* seconds; *iss_required*: of the response."""

    url: str
    expires_in: float
    iss_required: bool


async def request_authorization(
    who: str, registration: Registration, asked: Asked, transaction: Transaction, *, passage: Passage, clock: Clock
) -> Requested:
    """
    Make the request of the authorization *who*.

    Raises RemoteError and LocalError; nothing is sent twice.
    """
    try:
        async with asyncio.timeout(DEADLINE):
            return await _request(who, registration, asked, transaction, passage=passage, clock=clock)
    except TimeoutError:
        raise RemoteError(
            Reason.TIMED_OUT, "the authorization request took too long", outcome=Outcome.UNKNOWN
        ) from None


async def _request(
    who: str, registration: Registration, asked: Asked, transaction: Transaction, *, passage: Passage, clock: Clock
) -> Requested:
    issuer, client, exchange = registration.issuer, registration.client, registration.exchange
    server = await registration.metadata.get()
    check_capabilities(server, client, issuer, grant_type="authorization_code")
    plan = plan_authorization(server, issuer, client, asked, transaction)
    if isinstance(plan, Pushed):
        sent = await _push(who, registration, plan.draft, transaction, passage)
        pushed = read_pushed_response(sent.response, wall_now=clock.wall())
        left = pushed.expires_in - (clock.boot() - sent.started_at)
        url = pushed_url(server, client, pushed, asked, renamed=issuer.dialect.renamed_parameters)
    elif isinstance(plan, Redirected):
        sent = await _push(who, registration, plan.draft, transaction, passage)
        left = TRANSACTION_LIFETIME
        state, redirect_uri = transaction.state, transaction.redirect_uri
        url = read_redirect(sent.response, issuer, state=state, redirect_uri=redirect_uri, wall_now=clock.wall())
    else:
        signed = None
        left = TRANSACTION_LIFETIME
        if plan.request_object is not None:
            signed, left = await exchange.sign_request_object(plan.request_object), float(REQUEST_OBJECT_LIFETIME)
        url = authorization_url(server, client, plan, signed, renamed=issuer.dialect.renamed_parameters)
    return Requested(url=url, expires_in=_useful(left), iss_required=_promises_iss(server, registration))


async def _push(who: str, registration: Registration, draft: Draft, transaction: Transaction, passage: Passage) -> Sent:
    """Send the request, with a proof of the key that the code will be bound to, if it will (RFC 9449 section 10.1)."""
    exchange = registration.exchange
    async with passage.turn(who, registration, rank=HASTE, still_wanted=lambda: None):
        return await passage.guarded(registration, lambda: exchange.send(draft, exchange.prepare(transaction.dpop_jkt)))


def _useful(left: float) -> float:
    """Give the seconds in which a URL may be opened that is good for *left*. Raises RemoteError if it is too late."""
    # RFC 9126 section 2.2 lets a reference live for 5 s, of which the whole margin would leave nothing.
    useful = min(left - min(MARGIN, left / 2), TRANSACTION_LIFETIME)
    if useful < LEAST:
        raise RemoteError(
            Reason.TIMED_OUT,
            "the request_uri ended before a browser could open it",
            outcome=Outcome.ANSWERED,
            hint="begin anew; if it happens again, the server is too slow for the life that it gives to a request_uri",
        )
    return useful


def _promises_iss(server: AuthorizationServer, registration: Registration) -> bool:
    """Say whether a response without ``iss`` is no response (AC-05)."""
    return server.authorization_response_iss_parameter_supported or registration.issuer.profile is Profile.FAPI2
