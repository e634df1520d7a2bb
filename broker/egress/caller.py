"""
One call of an API, from what a caller asked for to the head of the reply (rules.md R6).

It goes out with the token, and on a connection with the certificate or with a proof of the key that the token is
bound to. It is repeated in two cases only, and only if all of the body is still here: the API wants a nonce in the
proof, or it says that it does not know the token, and another one can be had. Beside that, what a line could not
send that was replaced meanwhile (by a rotation or a reload) goes out on the one in its place. Implements
``tokens.calls.Egress``.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import replace

from broker.egress import fields
from broker.egress.recording import RecordedBody
from broker.errors import BrokerError, LocalError, Outcome, RemoteError
from broker.oauth.challenges import parse_challenges, says_invalid_token
from broker.oauth.dpop import is_nonce_challenge, presented
from broker.oauth.reasons import Reason
from broker.tokens.calls import (
    ApiCall,
    ApiReply,
    ApiRequest,
    Body,
    Called,
    EndpointOfServerError,
    Fields,
    Line,
    Lines,
)
from broker.tokens.ports import Clock, Randomness
from broker.tokens.proofs import Proofs
from broker.tokens.serving import Serving
from broker.tokens.spec import IssuedToken

UNAUTHORIZED = 401

COOLDOWN = 60.0
"""Seconds in which an API gets no second token because it refused the first: as for forced refreshes (local-api.md)."""

INTERACTION_ID = "x-fapi-interaction-id"
"""FAPI 1.0 Part 1 section 6.2.2: one id for a call, in the logs of both sides."""

INTERACTION_BYTES = 16
"""Random bytes of a UUID (RFC 9562)."""

MAX_MEMORIES = 4_096
"""Tokens and APIs for which it is known when a token was refused last; far more than are refused in a minute."""


IsEndpoint = Callable[[str, str], Awaitable[bool]]
"""Says whether a URL is an endpoint of the authorization server of a token, by the token's name."""

ProofsOf = Callable[[str], Proofs | None]
"""Gives the means to make DPoP proofs for requests with a token, by its name; None where it is not bound so."""


class Caller:
    """Makes calls; remembers only which tokens were refused lately."""

    def __init__(
        self, *, lines: Lines, proofs: ProofsOf, is_endpoint: IsEndpoint, clock: Clock, randomness: Randomness
    ) -> None:
        self._lines = lines
        self._is_endpoint = is_endpoint
        self._proofs = proofs
        self._clock = clock
        self._randomness = randomness
        self._refused: dict[Hashable, tuple[str, float]] = {}

    async def call(self, call: ApiCall) -> Called:
        """
        Make a call: see ``tokens.calls.Egress``.

        Raises LocalError ``certificate_gone`` where the token is bound to a certificate that is not there any more,
        and EndpointOfServerError: there the certificate alone may do what only the broker is to do.
        """
        if await self._is_endpoint(call.upstream.token, call.upstream.url_of(call.path, "")):
            raise EndpointOfServerError
        body = None if call.body is None else RecordedBody(call.body)
        call = replace(call, fields=self._with_interaction_id(call, fields.of_request(call.fields)), body=body)
        reply = await self._send(call, call.serving.token)
        serving = call.serving
        if reply.status == UNAUTHORIZED and self._may_try_again(call, reply, body):
            newer = await self._renewed(call, reply)
            if newer is not None:
                serving = newer
                again = replace(call, body=None if body is None else body.again())
                reply = await self._send(again, newer.token)
        return Called(reply=replace(reply, fields=fields.of_reply(reply.fields)), serving=serving)

    async def _send(self, call: ApiCall, token: IssuedToken) -> ApiReply:
        """Send a call with what *token* is bound to; a second time where the API wants a nonce in the proof."""
        url = call.upstream.url_of(call.path, call.query)
        if token.jkt is None:
            bearer = {"authorization": f"Bearer {token.access_token.reveal()}"}
            return await self._open(call, token, _request(call, url, bearer))
        proofs = self._proofs(call.upstream.token)
        if proofs is None:
            raise LocalError(Reason.DPOP_KEY_UNKNOWN, "the token is bound to a key that is not there any more")
        htu = url.partition("?")[0]  # whatever a query is made of, it is not proved
        proof = await proofs.for_resource(call.method, htu, token.access_token, jkt=token.jkt)
        body = None if call.body is None else RecordedBody(call.body)
        request = _request(replace(call, body=body), url, presented(token.access_token, proof))
        reply = await self._open(call, token, request)
        nonce = proofs.note_resource(htu, reply.fields)
        challenges = fields.values_of(reply.fields, "www-authenticate")
        if nonce is None or not is_nonce_challenge(reply.status, challenges) or not _is_here(body):
            return reply
        await reply.body.close()
        proof = await proofs.for_resource(call.method, htu, token.access_token, jkt=token.jkt, nonce=nonce)
        again = replace(call, body=None if body is None else body.again())
        reply = await self._open(call, token, _request(again, url, presented(token.access_token, proof)))
        proofs.note_resource(htu, reply.fields)
        return reply

    async def _open(self, call: ApiCall, token: IssuedToken, request: ApiRequest) -> ApiReply:
        """
        Send a request on the line of its token; on the one in its place if nothing of it was sent by then.

        A connection that was being made while the line was replaced may have met a server that has gone on, to
        another authority for example; and the line may be closed already.
        """
        line = self._line(call, token)
        try:
            return await line.open(request)
        except RemoteError as error:
            newer = self._lines.line(call.upstream.name, token.certificate_thumbprint)
            was_sent = error.outcome is not Outcome.NOT_SENT or not _is_untouched(request.body)
            if was_sent or newer is None or newer is line:
                raise
        return await newer.open(request)

    def _line(self, call: ApiCall, token: IssuedToken) -> Line:
        line = self._lines.line(call.upstream.name, token.certificate_thumbprint)
        if line is None:
            raise LocalError(
                "certificate_gone",
                "the token is bound to a certificate that is not there any more",
                hint="another token is on its way: try again",
            )
        return line

    def _with_interaction_id(self, call: ApiCall, outgoing: Fields) -> Fields:
        if not call.upstream.interaction_id or fields.values_of(outgoing, INTERACTION_ID):
            return outgoing
        drawn = hashlib.sha256(self._randomness.token(INTERACTION_BYTES).encode()).digest()[:INTERACTION_BYTES]
        return (*outgoing, (INTERACTION_ID, str(uuid.UUID(bytes=drawn, version=4))))

    def _may_try_again(self, call: ApiCall, reply: ApiReply, body: RecordedBody | None) -> bool:
        """
        Say whether another token may help: there is one in a cooldown for this API.

        All calls that were under way with the refused one get that: who gives out tokens fetches no second for it.
        """
        challenges = parse_challenges(fields.values_of(reply.fields, "www-authenticate"))
        if not says_invalid_token(challenges) or not _is_here(body):
            return False
        key, now = _key(call), self._clock.boot()
        etag, at = self._refused.get(key, ("", -COOLDOWN))
        if etag == call.serving.token.etag:
            return True
        if now - at < COOLDOWN:
            return False
        if len(self._refused) >= MAX_MEMORIES:
            self._refused = {one: known for one, known in self._refused.items() if now - known[1] < COOLDOWN}
        self._refused[key] = (call.serving.token.etag, now)
        return True

    async def _renewed(self, call: ApiCall, refused: ApiReply) -> Serving | None:
        """Get another token; None if there is none: then the caller gets the refusal of the API as it is."""
        etag = call.serving.token.etag
        try:
            newer = await call.renew(etag)
        except BrokerError:
            newer = None  # whoever was asked has reported why
        except BaseException:
            await refused.body.close()
            raise
        if newer is None or newer.token.etag == etag:
            self._not_replaced(call)
            return None
        await refused.body.close()
        return newer

    def _not_replaced(self, call: ApiCall) -> None:
        """Note that the token is still that one: it may be replaced yet, when the cooldown is over."""
        etag, at = self._refused.get(_key(call), ("", 0.0))
        if etag == call.serving.token.etag:
            self._refused[_key(call)] = ("", at)


def _key(call: ApiCall) -> Hashable:
    return (call.upstream.name, call.upstream.token, call.grant)


def _request(call: ApiCall, url: str, credentials: Mapping[str, str]) -> ApiRequest:
    return ApiRequest(method=call.method, url=url, fields=(*call.fields, *credentials.items()), body=call.body)


def _is_untouched(body: Body | None) -> bool:
    """Say whether nothing of a body was taken from whoever sends it."""
    return body is None or (isinstance(body, RecordedBody) and not body.has_begun)


def _is_here(body: RecordedBody | None) -> bool:
    """Say whether a call can be made again: it has no body, or all of that is known."""
    return body is None or body.is_whole
