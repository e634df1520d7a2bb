"""
Grants that were given up: revoked at the server that issued them, however long that takes (rules.md R2.12).

Until the server has confirmed it, or for 30 days, the sealed record stays, so that a crash forgets nothing;
it is never served again. Nothing is ever revoked because the broker stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NoReturn

from broker.errors import BrokerError, LocalError, RemoteError, frames_of
from broker.events import Emit, GrantRevoked, UnexpectedFailure
from broker.oauth.dialect import Logout
from broker.oauth.end_session import end_session_url
from broker.oauth.messages import Draft
from broker.oauth.revocation import read_revocation_response, revocation_draft
from broker.tokens.acquire import Acquirer, Registration
from broker.tokens.exchange import Sent
from broker.tokens.grant import Grant, Phase, sealed_access_token
from broker.tokens.limiter import HASTE
from broker.tokens.passage import Passage
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


LAST = float("inf")
"""The rank of a revocation that nobody waits for: whoever is to be served comes before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Term:
    """
    When a grant may be left unrevoked, by the boot clock.

    A wall clock that is wrong may say that the time is long over: past *over_at* there has to be a try that the
    server has answered, unless it was tried until *at_last*, the whole time within one life of the process.
    """

    over_at: float
    at_last: float


class Revocations:
    """Revokes grants in the background."""

    def __init__(
        self,
        *,
        vault: Vault,
        acquirer: Acquirer,
        passage: Passage,
        registration_of: Callable[[Grant], Registration],
        emit: Emit,
    ) -> None:
        """*registration_of* gives a client that a grant was given to, or raises LocalError."""
        self._vault = vault
        self._acquirer = acquirer
        self._passage = passage
        self._registration_of = registration_of
        self._emit = emit
        self._grants: dict[str, Grant] = {}
        self._terms: dict[str, _Term] = {}
        self._insisting: set[str] = set()
        self._group: asyncio.TaskGroup | None = None

    def __contains__(self, grant_id: str) -> bool:
        """Say whether a grant is still to be revoked."""
        return grant_id in self._grants

    async def begin(self, grant: Grant) -> Outcome:
        """Begin to revoke *grant*, durably; gives how far that got within a few seconds."""
        grant = replace(grant, phase=Phase.REVOKING, reason=None, since=self._acquirer.clock.wall())
        tombstone = self._without_what_revokes_nothing(grant)
        self._take_up(tombstone)
        try:
            await self._vault.keep(tombstone)
            async with asyncio.timeout(FIRST_TRY):
                outcome = await self._revoke(tombstone, rank=HASTE)
        except (BrokerError, TimeoutError):
            self._later(tombstone.id)
            return self._reported(tombstone, "pending")
        except BaseException:
            self._later(tombstone.id)  # whoever asked for it hung up: it is to be revoked all the same
            raise
        return await self._finish(tombstone, outcome)

    def resume(self, grant: Grant) -> None:
        """Go on with a grant from the store; nothing is sent before ``run``."""
        since = grant.since if grant.phase is Phase.REVOKING else self._acquirer.clock.wall()
        self._take_up(replace(grant, phase=Phase.REVOKING, since=since))

    def bury(self, grant: Grant) -> Grant:
        """Take in what a refresh brought that was under way: it is to be revoked now. Gives what to write down."""
        before = self._grants.get(grant.id)
        since = self._acquirer.clock.wall() if before is None else before.since
        buried = self._without_what_revokes_nothing(replace(grant, phase=Phase.REVOKING, since=since))
        self._take_up(buried)
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

    def _take_up(self, grant: Grant) -> None:
        """Begin to count the time of a grant; what it was given before, by the wall clock, counts."""
        boot = self._acquirer.clock.boot()
        spent = min(max(0.0, self._acquirer.clock.wall() - grant.since), GIVEN_UP_AFTER)
        term = _Term(over_at=boot + GIVEN_UP_AFTER - spent, at_last=boot + GIVEN_UP_AFTER)
        self._terms[grant.id] = self._terms.get(grant.id, term)
        self._grants[grant.id] = grant

    def _later(self, grant_id: str, *, at_once: bool = False) -> None:
        if self._group is not None and grant_id not in self._insisting:
            self._insisting.add(grant_id)
            wait = 0.0 if at_once else FIRST_WAIT
            self._group.create_task(self._insist(grant_id, wait), name=f"revoke {grant_id}")

    async def _insist(self, grant_id: str, wait: float) -> None:
        """Try until it is done. Nothing that goes wrong with one grant keeps others from being revoked."""
        try:
            while grant_id in self._grants:
                await asyncio.sleep(wait)
                try:
                    wait = await self._try(grant_id, wait)
                except Exception as error:  # noqa: BLE001 - told, and tried again: it would end the broker
                    self._emit(
                        UnexpectedFailure(
                            where="revocation", incident="", error=type(error).__name__, frames=frames_of(error)
                        )
                    )
                    wait = _longer(wait)
        finally:
            self._insisting.discard(grant_id)

    async def _try(self, grant_id: str, wait: float) -> float:
        """Try once, after *wait* seconds; gives for how long to wait before the next try, if there is to be one."""
        grant = self._grants.get(grant_id)
        if grant is None:
            return 0.0
        try:
            outcome = await self._revoke(grant, rank=LAST)
        except BrokerError as error:
            if not self._is_over(grant_id, error):
                return _longer(wait)
            outcome = "given_up"
        await self._finish(grant, outcome)
        return 0.0

    def _is_over(self, grant_id: str, error: BrokerError) -> bool:
        """Say whether a grant may be left unrevoked now that a try has ended in *error*."""
        term, boot = self._terms.get(grant_id), self._acquirer.clock.boot()
        was_answered = isinstance(error, RemoteError) and error.status is not None
        return term is not None and boot >= (term.over_at if was_answered else term.at_last)

    async def _finish(self, grant: Grant, outcome: Outcome) -> Outcome:
        """Forget a grant, unless a refresh that was under way has brought another refresh token meanwhile."""
        now = self._grants.get(grant.id)
        if now is None:
            return outcome  # another try was answered first, and has told it
        if (now.refresh_token, now.access) != (grant.refresh_token, grant.access):
            self._later(grant.id, at_once=True)
            return self._reported(grant, "pending")
        del self._grants[grant.id]
        self._terms.pop(grant.id, None)
        self._reported(grant, outcome)
        await self._vault.forget(grant.id)
        return outcome

    async def _revoke(self, grant: Grant, *, rank: float) -> Outcome:
        """Revoke once. Raises BrokerError when it is not known to be revoked."""
        if grant.refresh_token is None and grant.access is None:
            return "not_revocable"
        registration = self._registration_of(grant)
        by_access_token = registration.issuer.dialect.logout is Logout.BEARER
        token = sealed_access_token(grant) if by_access_token else grant.refresh_token
        if token is None:
            return "not_revocable"
        server = await registration.metadata.get()
        draft: Draft | None = revocation_draft(server, registration.issuer, registration.client, token)
        if draft is None:
            return "not_revocable"
        try:
            sent = await self._sent(draft, registration, rank=rank)
            return read_revocation_response(sent.response, registration.issuer, wall_now=self._acquirer.clock.wall())
        except BrokerError:
            if by_access_token and self._has_ended(grant):
                return "not_revocable"
            raise

    def _has_ended(self, grant: Grant) -> bool:
        """Say whether its access token is over by the clock: tried it was, because clocks may be wrong."""
        return grant.access is not None and grant.access.expires_at <= self._acquirer.clock.wall()

    def _without_what_revokes_nothing(self, grant: Grant) -> Grant:
        """Give the grant without its access token, unless the dialect is known to revoke by that."""
        try:
            keeps = self._registration_of(grant).issuer.dialect.logout is Logout.BEARER
        except LocalError:
            keeps = False
        return grant if keeps else replace(grant, access=None)

    async def _sent(self, draft: Draft, registration: Registration, *, rank: float) -> Sent:
        """Send it in its turn. Raises RemoteError, also where the client's requests are held back."""
        exchange = registration.exchange
        async with self._passage.turn(object(), registration, rank=rank, still_wanted=lambda: None):
            return await self._passage.guarded(registration, lambda: exchange.send(draft, exchange.prepare()))

    def _reported(self, grant: Grant, outcome: Outcome) -> Outcome:
        try:
            client = self._registration_of(grant).client.name
        except BrokerError:
            client = ""
        self._emit(GrantRevoked(token=grant.token, grant=grant.id, client=client, outcome=outcome))
        return outcome


def _longer(wait: float) -> float:
    return min(max(FIRST_WAIT, wait * 2.0), LONGEST_WAIT)
