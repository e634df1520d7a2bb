"""
Grants that were given up: revoked at the server that issued them, however long that takes (rules.md R2.12).

Until the server has confirmed it, or for 30 days, the sealed record stays, so that a crash forgets nothing;
it is never served again. Nothing is ever revoked because the broker stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NoReturn

from broker.errors import BrokerError
from broker.events import Emit, GrantRevoked
from broker.oauth.end_session import end_session_url
from broker.oauth.messages import Draft
from broker.oauth.revocation import read_revocation_response, revocation_draft
from broker.tokens.acquire import Acquirer, Registration
from broker.tokens.grant import Grant, Phase
from broker.tokens.vault import Vault

Outcome = Literal["revoked", "pending", "not_revocable", "given_up"]

FIRST_TRY = 5.0
"""Seconds that whoever gives a grant up waits for the server's word; after that it is ``pending``."""

FIRST_WAIT = 5.0
LONGEST_WAIT = 3_600.0
"""Seconds between two tries: soon at first, and then as often as it matters for a month."""

METADATA_PATIENCE = 1.0
"""Seconds: where to log out is worth no long wait."""

GIVEN_UP_AFTER = 30 * 86_400.0
"""Seconds (R2.12): no refresh token that we know of lives longer unused, and some record has to be the last."""


class Revocations:
    """Revokes grants in the background."""

    def __init__(
        self,
        *,
        vault: Vault,
        acquirer: Acquirer,
        registration_of: Callable[[Grant], Registration],
        emit: Emit,
    ) -> None:
        """*registration_of* gives a client that a grant was given to, or raises LocalError."""
        self._vault = vault
        self._acquirer = acquirer
        self._registration_of = registration_of
        self._emit = emit
        self._grants: dict[str, Grant] = {}
        self._insisting: set[str] = set()
        self._group: asyncio.TaskGroup | None = None

    def __contains__(self, grant_id: str) -> bool:
        """Say whether a grant is still to be revoked."""
        return grant_id in self._grants

    async def begin(self, grant: Grant) -> Outcome:
        """Begin to revoke *grant*, durably; gives how far that got within a few seconds."""
        clock = self._acquirer.clock
        tombstone = replace(grant, phase=Phase.REVOKING, access=None, reason=None, since=clock.wall())
        self._grants[grant.id] = tombstone
        await self._vault.keep(tombstone)
        try:
            async with asyncio.timeout(FIRST_TRY):
                outcome = await self._revoke(tombstone)
        except (BrokerError, TimeoutError):
            self._later(tombstone.id)
            outcome = "pending"
            return self._reported(tombstone, outcome)
        return await self._finish(tombstone, outcome)

    def resume(self, grant: Grant) -> None:
        """Go on with a grant from the store; nothing is sent before ``run``."""
        since = grant.since if grant.phase is Phase.REVOKING else self._acquirer.clock.wall()
        self._grants[grant.id] = replace(grant, phase=Phase.REVOKING, since=since)

    def bury(self, grant: Grant) -> Grant:
        """Take in what a refresh brought that was under way: it is to be revoked now. Gives what to write down."""
        before = self._grants.get(grant.id)
        since = self._acquirer.clock.wall() if before is None else before.since
        self._grants[grant.id] = buried = replace(grant, since=since)
        self._later(grant.id)
        return buried

    async def end_session_url(self, grant: Grant) -> str | None:
        """
        Give the URL at which the person's browser ends the session at the server, where there is one.

        A revoked grant does not log anybody out: who comes back may be asked for nothing but the consent. None
        also where the server's metadata is not at hand.
        """
        try:
            registration = self._registration_of(grant)
            async with asyncio.timeout(METADATA_PATIENCE):
                return end_session_url(await registration.metadata.get(), registration.client)
        except (BrokerError, TimeoutError):
            return None

    async def run(self) -> NoReturn:
        """Go on with what is left, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for grant_id in tuple(self._grants):
                    self._later(grant_id, at_once=True)
                await asyncio.get_running_loop().create_future()
            finally:
                self._group = None
        raise AssertionError("the future above never ends")

    def _later(self, grant_id: str, *, at_once: bool = False) -> None:
        if self._group is not None and grant_id not in self._insisting:
            self._insisting.add(grant_id)
            wait = 0.0 if at_once else FIRST_WAIT
            task = self._group.create_task(self._insist(grant_id, wait), name=f"revoke {grant_id}")
            task.add_done_callback(lambda _: self._insisting.discard(grant_id))

    async def _insist(self, grant_id: str, wait: float) -> None:
        while grant_id in self._grants:
            await asyncio.sleep(wait)
            grant = self._grants[grant_id]
            if self._acquirer.clock.wall() - grant.since > GIVEN_UP_AFTER:
                await self._finish(grant, "given_up")
                return
            try:
                outcome = await self._revoke(grant)
            except BrokerError:
                wait = min(max(FIRST_WAIT, wait * 2.0), LONGEST_WAIT)
            else:
                await self._finish(grant, outcome)
                wait = 0.0

    async def _finish(self, grant: Grant, outcome: Outcome) -> Outcome:
        """Forget a grant, unless a refresh that was under way has brought another refresh token meanwhile."""
        if self._grants[grant.id].refresh_token != grant.refresh_token:
            self._later(grant.id, at_once=True)
            return self._reported(grant, "pending")
        del self._grants[grant.id]
        await self._vault.forget(grant.id)
        return self._reported(grant, outcome)

    async def _revoke(self, grant: Grant) -> Outcome:
        """Revoke once. Raises BrokerError when it is not known to be revoked."""
        if grant.refresh_token is None:
            return "not_revocable"
        registration = self._registration_of(grant)
        server = await registration.metadata.get()
        draft: Draft | None = revocation_draft(server, registration.issuer, registration.client, grant.refresh_token)
        if draft is None:
            return "not_revocable"
        sent = await registration.exchange.send(draft, registration.exchange.prepare())
        return read_revocation_response(sent.response, wall_now=self._acquirer.clock.wall())

    def _reported(self, grant: Grant, outcome: Outcome) -> Outcome:
        try:
            client = self._registration_of(grant).client.name
        except BrokerError:
            client = ""
        self._emit(GrantRevoked(token=grant.token, grant=grant.id, client=client, outcome=outcome))
        return outcome
