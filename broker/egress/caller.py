"""
One call of an API, from what a caller asked for to the head of the reply (rules.md R6).

It goes out with the token and on a connection with the certificate that the token is bound to. It is repeated in
one case only: the API says that it does not know the token, another one can be had, and all of the body is still
here. Implements ``tokens.calls.Egress``.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Hashable
from dataclasses import replace

from broker.egress import fields
from broker.egress.recording import RecordedBody
from broker.errors import BrokerError, LocalError
from broker.oauth.challenges import read_challenges, says_invalid_token
from broker.tokens.calls import ApiCall, ApiReply, ApiRequest, Called, Fields, Line, Lines, Renew
from broker.tokens.ports import Clock, Randomness
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


class Caller:
    """Makes calls; remembers only which tokens were refused lately."""

    def __init__(self, *, lines: Lines, clock: Clock, randomness: Randomness) -> None:
        self._lines = lines
        self._clock = clock
        self._randomness = randomness
        self._refused: dict[Hashable, tuple[str, float]] = {}

    async def call(self, call: ApiCall) -> Called:
        """
        Make a call: see ``tokens.calls.Egress``.

        Raises LocalError ``certificate_gone`` where the token is bound to a certificate that is not there any more.
        """
        body = None if call.body is None else RecordedBody(call.body)
        outgoing = self._with_interaction_id(call, fields.of_request(call.fields))
        reply = await self._send(call, outgoing, body, call.serving.token)
        serving = call.serving
        if reply.status == UNAUTHORIZED and self._may_try_again(call, reply, body):
            newer = await self._renewed(call.renew, reply, call.serving)
            if newer is not None:
                serving = newer
                reply = await self._send(call, outgoing, None if body is None else body.again(), newer.token)
        return Called(reply=replace(reply, fields=fields.of_reply(reply.fields)), serving=serving)

    async def _send(self, call: ApiCall, outgoing: Fields, body: RecordedBody | None, token: IssuedToken) -> ApiReply:
        line = self._line(call, token)
        credentials = (("Authorization", f"Bearer {token.access_token.reveal()}"),)
        request = ApiRequest(
            method=call.method,
            url=call.upstream.url_of(call.path, call.query),
            fields=(*outgoing, *credentials),
            body=body,
        )
        return await line.open(request)

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
        challenges = read_challenges(fields.values_of(reply.fields, "www-authenticate"))
        if not says_invalid_token(challenges) or (body is not None and not body.is_whole):
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
