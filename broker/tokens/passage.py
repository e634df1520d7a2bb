"""
Lets requests to authorization servers pass: in their turn at the issuer, and past the breaker of the client.

One for the whole daemon, because an issuer's limits hold for everything that is asked of it, and a
certificate under suspicion is so for every request that presents it. It knows neither tokens nor grants.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

from broker.errors import Outcome, RemoteError
from broker.events import ClientResumed, ClientSuspended, Emit
from broker.oauth.client import Issuer
from broker.oauth.reasons import Reason
from broker.tokens import breaker as breakers
from broker.tokens.limiter import HASTE, Limiter, Limits
from broker.tokens.ports import Clock

T = TypeVar("T")


class Passage:
    """Holds the breaker of each client and the limiter of each issuer."""

    def __init__(self, clients: Iterable[str], *, clock: Clock, emit: Emit) -> None:
        self._breakers: dict[str, breakers.Breaker] = {name: breakers.Closed() for name in clients}
        self._limiters: dict[str, Limiter] = {}
        self._asked: dict[Hashable, tuple[Limiter, int]] = {}
        self._in_haste: set[Hashable] = set()
        self._unblock: list[Callable[[str], None]] = []
        self._clock = clock
        self._emit = emit

    def on_resumed(self, unblock: Callable[[str], None]) -> None:
        """Have *unblock* called with the name of a client that is answered again."""
        self._unblock.append(unblock)

    def replace(self, clients: Iterable[str], issuers: Iterable[str]) -> None:
        """
        Go on with other clients and issuers; a suspended client may probe at once.

        An issuer that is still named goes on at its rate: what it was asked before counts. One that is gone is
        forgotten as soon as that makes no difference, should it come back.
        """
        named = frozenset(issuers)
        self._limiters = {
            name: limiter for name, limiter in self._limiters.items() if name in named or not limiter.is_idle()
        }
        self._breakers |= {name: self._breakers.get(name, breakers.Closed()) for name in clients}
        self.reconsider()

    def reconsider(self) -> None:
        """Let suspended clients probe at once: what spoke against their certificates may be gone."""
        now = self._clock.boot()
        self._breakers = {
            name: breakers.Open(probe_at=now) if isinstance(breaker, breakers.Open) else breaker
            for name, breaker in self._breakers.items()
        }

    def hasten(self, who: Hashable) -> None:
        """Let the request of *who* come before others, now or when it asks for its turn: a caller waits for it."""
        self._in_haste.add(who)
        if who in self._asked:
            limiter, number = self._asked[who]
            limiter.hasten(number)

    def done(self, who: Hashable) -> None:
        """Take in that *who* wants no turn any more."""
        self._in_haste.discard(who)

    @asynccontextmanager
    async def turn(
        self, who: Hashable, client: str, issuer: Issuer, *, rank: float, still_wanted: Callable[[], None]
    ) -> AsyncIterator[None]:
        """
        Hold a turn at *issuer* for one request of *client*; the lowest *rank* comes first.

        *who* is one request and no other: two of one token would take each other's haste away.

        Raises RemoteError, before and after the wait, when the client's breaker holds its requests back, and
        what *still_wanted* raises when the turn comes; the turn is then the next one's.
        """
        self._hold_back(client)
        limiter = self._limiter(issuer)

        def asked(number: int) -> None:
            self._asked[who] = (limiter, number)

        try:
            async with limiter.turn(client, HASTE if who in self._in_haste else rank, asked) as number:
                self._asked.pop(who, None)
                try:
                    still_wanted()
                    self._hold_back(client)
                except Exception:
                    limiter.unused(number)
                    raise
                yield
        finally:
            self._asked.pop(who, None)

    async def guarded(self, client: str, request: Callable[[], Awaitable[T]]) -> T:
        """
        Make *request* under the breaker of *client*.

        Raises RemoteError ``client_suspended`` when the breaker holds it back, and whatever the request does.
        """
        admitted_at = self._admit(client)
        try:
            answer = await request()
        except RemoteError as error:
            self._take_in(client, error, admitted_at=admitted_at)
            raise
        self._take_in(client, None, admitted_at=admitted_at)
        return answer

    def _limiter(self, issuer: Issuer) -> Limiter:
        """Give the limiter of *issuer*, with the limits of the configuration in force."""
        limits = Limits(concurrent=issuer.max_concurrent_requests, per_second=issuer.max_requests_per_second)
        limiter = self._limiters.get(issuer.name)
        if limiter is None:
            limiter = self._limiters[issuer.name] = Limiter(limits, time=asyncio.get_running_loop().time)
        limiter.limits = limits
        return limiter

    def _hold_back(self, client: str) -> None:
        """Raise RemoteError while the client's breaker lets nothing through; it is not changed."""
        wait = breakers.admit(self._breakers[client], self._clock.boot())[1]
        if wait is not None:
            raise _suspended(wait)

    def _admit(self, client: str) -> float:
        """Give the time of admission. Raises RemoteError when the client's breaker holds the request back."""
        now = self._clock.boot()
        self._breakers[client], wait = breakers.admit(self._breakers[client], now)
        if wait is not None:
            raise _suspended(wait)
        return now

    def _take_in(self, client: str, error: RemoteError | None, *, admitted_at: float) -> None:
        """Take the end of a request into the client's breaker, and report if it opened or closed."""
        before = self._breakers[client]
        breaker = breakers.after(
            before,
            None if error is None else str(error.code),
            self._clock.boot(),
            admitted_at=admitted_at,
            answered=error is None or error.status is not None,
        )
        self._breakers[client] = breaker
        was_open, is_open = isinstance(before, breakers.Open), isinstance(breaker, breakers.Open)
        if is_open and not was_open and error is not None:
            self._emit(
                ClientSuspended(
                    client=client, reason=str(error.code), hint=error.hint, probe_in=breakers.PROBE_INTERVAL
                )
            )
        if was_open and not is_open:
            self._emit(ClientResumed(client=client))
            for unblock in self._unblock:
                unblock(client)


def _suspended(wait: float) -> RemoteError:
    return RemoteError(
        Reason.CLIENT_SUSPENDED,
        "requests of this client are held back",
        outcome=Outcome.NOT_SENT,
        hint="see the client_suspended event; its certificate is under suspicion",
        retry_after=wait,
    )
