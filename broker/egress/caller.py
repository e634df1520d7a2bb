"""
One call of an API, from what a caller asked for to the head of the reply (rules.md R6).

It goes out with the token, and on a connection with the certificate or with a proof of the key that the token is
bound to. It is repeated in two cases only, and only if all of the body is still here: the API wants a nonce in the
proof, or it says that it does not know the token, and another one can be had. Implements ``tokens.calls.Egress``.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace

from broker.egress import fields
from broker.egress.recording import RecordedBody
from broker.errors import BrokerError, LocalError
from broker.oauth.challenges import parse_challenges, says_invalid_token
from broker.oauth.dpop import is_nonce_challenge, presented
from broker.oauth.reasons import Reason
from broker.tokens.calls import ApiCall, ApiReply, ApiRequest, Called, Fields, Line, Lines, Renew
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


ProofsOf = Callable[[str], Proofs | None]
"""Gives the means to make DPoP proofs for requests with a token, by its name; None where it is not bound so."""


class Caller:
    """Makes calls; remembers only which tokens were refused lately."""

    def __init__(self, *, lines: Lines, proofs: ProofsOf, clock: Clock, randomness: Randomness) -> None:
        self._lines = lines
        self._proofs = proofs
        self._clock = clock
        self._randomness = randomness
        self._refused: dict[Hashable, tuple[str, float]] = {}

    async def call(self, call: ApiCall) -> Called:
        """
        Make a call: see ``tokens.calls.Egress``.

        Raises LocalError ``certificate_gone`` where the token is bound to a certificate that is not there any more.
        """
        body = None if call.body is None else RecordedBody(call.body)
        call = replace(call, fields=self._with_interaction_id(call, fields.of_request(call.fields)), body=body)
        reply = await self._send(call, call.serving.token)
        serving = call.serving
        if reply.status == UNAUTHORIZED and self._may_try_again(call, reply, body):
            newer = await self._renewed(call.renew, reply, call.serving)
            if newer is not None:
                serving = newer
                again = replace(call, body=None if body is None else body.again())
                reply = await self._send(again, newer.token)
        return Called(reply=replace(reply, fields=fields.of_reply(reply.fields)), serving=serving)

    async def _send(self, call: ApiCall, token: IssuedToken) -> ApiReply:
        """Send a call with what *token* is bound to; a second time where the API wants a nonce in the proof."""
        line = self._line(call, token)
        url = call.upstream.url_of(call.path, call.query)
        if token.jkt is None:
            return await line.open(_request(call, url, {"authorization": f"Bearer {token.access_token.reveal()}"}))
        proofs = self._proofs(call.upstream.token)
        if proofs is None:
            raise LocalError(Reason.DPOP_KEY_UNKNOWN, "the token is bound to a key that is not there any more")
        htu = url.partition("?")[0]  # whatever a query is made of, it is not proved
        proof = await proofs.for_resource(call.method, htu, token.access_token, jkt=token.jkt)
        body = None if call.body is None else RecordedBody(call.body)
        reply = await line.open(_request(replace(call, body=body), url, presented(token.access_token, proof)))
        nonce = proofs.note_resource(htu, reply.fields)
        challenges = fields.values_of(reply.fields, "www-authenticate")
        if nonce is None or not is_nonce_challenge(reply.status, challenges) or not _is_here(body):
            return reply
        await reply.body.close()
        proof = await proofs.for_resource(call.method, htu, token.access_token, jkt=token.jkt, nonce=nonce)
        again = replace(call, body=None if body is None else body.again())
        reply = await line.open(_request(again, url, presented(token.access_token, proof)))
        proofs.note_resource(htu, reply.fields)
        return reply

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
        """Say whether another token may help; once for each token, and once in a cooldown for it and this API."""
        challenges = parse_challenges(fields.values_of(reply.fields, "www-authenticate"))
        if not says_invalid_token(challenges) or not _is_here(body):
            return False
        key, now = (call.upstream.name, call.upstream.token, call.grant), self._clock.boot()
        etag, at = self._refused.get(key, ("", -COOLDOWN))
        if etag == call.serving.token.etag or now - at < COOLDOWN:
            return False
        if len(self._refused) >= MAX_MEMORIES:
            self._refused = {one: known for one, known in self._refused.items() if now - known[1] < COOLDOWN}
        self._refused[key] = (call.serving.token.etag, now)
        return True

    async def _renewed(self, renew: Renew, refused: ApiReply, serving: Serving) -> Serving | None:
        """Get another token; None if there is none: then the caller gets the refusal of the API as it is."""
        try:
            newer = await renew(serving.token.etag)
        except BrokerError:
            return None  # whoever was asked has reported why
        if newer.token.etag == serving.token.etag:
            return None
        await refused.body.close()
        return newer


def _request(call: ApiCall, url: str, credentials: Mapping[str, str]) -> ApiRequest:
    return ApiRequest(method=call.method, url=url, fields=(*call.fields, *credentials.items()), body=call.body)


def _is_here(body: RecordedBody | None) -> bool:
    """Say whether a call can be made again: it has no body, or all of that is known."""
    return body is None or body.is_whole
