"""
Lets requests to authorization servers pass: in their turn at the issuer, and past the breaker of the client.

One for the whole daemon, because an issuer's limits hold for everything that is asked of it, and a
certificate under suspicion is so for every request that presents it; those that present an older one, which is
good, go on beside it (rules.md R8). It knows neither tokens nor grants.
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
from broker.tokens.acquire import Registration
from broker.tokens.limiter import HASTE, Limiter, Limits
from broker.tokens.ports import Clock

T = TypeVar("T")

_Presented = tuple[str, str | None]
"""A client, and the ``x5t#S256`` of the certificate that it presents."""


class Passage:
    """Holds the breaker of each client, by the certificate it presents, and the limiter of each issuer."""

    def __init__(self, *, clock: Clock, emit: Emit) -> None:
        self._breakers: dict[_Presented, breakers.Breaker] = {}
        self._limiters: dict[str, Limiter] = {}
        self._asked: dict[Hashable, tuple[Limiter, int]] = {}
        self._in_haste: set[Hashable] = set()
        self._unblock: list[Callable[[str], None]] = []
        self._clock = clock
        self._emit = emit

    def on_resumed(self, unblock: Callable[[str], None]) -> None:
        """Have *unblock* called with the name of a client that is answered again."""
        self._unblock.append(unblock)

    def replace(self, registrations: Iterable[Registration]) -> None:
        """
        Go on with the clients and issuers of *registrations*, the newest; a suspended client may probe at once.

        It stays suspended until it is answered with what is newest: nobody knows yet whether that is better.
        An issuer that is still named goes on at its rate: what it was asked before counts. One that is gone is
        forgotten as soon as that makes no difference, should it come back.
        """
        newest = dict(map(_presented, registrations := tuple(registrations)))
        named = {registration.issuer.name for registration in registrations}
        self._limiters = {
            name: limiter for name, limiter in self._limiters.items() if name in named or not limiter.is_idle()
        }
        known = {name: self._breaker((name, thumbprint)) for name, thumbprint in newest.items()}
        known |= {name: one for (name, _), one in self._breakers.items() if isinstance(one, breakers.Open)}
        self._breakers = {(name, thumbprint): known[name] for name, thumbprint in newest.items()}
        self.reconsider()

    def reconsider(self) -> None:
        """Let suspended clients probe at once: what spoke against their certificates may be gone."""
        now = self._clock.boot()
        self._breakers = {
            key: breakers.Open(probe_at=now) if isinstance(breaker, breakers.Open) else breaker
            for key, breaker in self._breakers.items()
        }

    def trust(self, registration: Registration) -> None:
        """
        Take in that a client is answered with its newest certificate: what spoke against others is over.

        Else it would be suspended for ever because of one that nobody presents any more.
        """
        client = registration.client.name
        was_open = any(name == client and isinstance(one, breakers.Open) for (name, _), one in self._breakers.items())
        self._breakers = {key: breaker for key, breaker in self._breakers.items() if key[0] != client}
        if was_open:
            self._resume(client)

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
        self, who: Hashable, registration: Registration, *, rank: float, still_wanted: Callable[[], None]
    ) -> AsyncIterator[None]:
        """
        Hold a turn at the issuer for one request of the client; the lowest *rank* comes first.

        *who* is one request and no other: two of one token would take each other's haste away.

        Raises RemoteError, before and after the wait, when the client's breaker holds its requests back, and
        what *still_wanted* raises when the turn comes; the turn is then the next one's.
        """
        presented = _presented(registration)
        self._hold_back(presented)
        limiter = self._limiter(registration.issuer)

        def asked(number: int) -> None:
            self._asked[who] = (limiter, number)

        try:
            async with limiter.turn(presented[0], HASTE if who in self._in_haste else rank, asked) as number:
                self._asked.pop(who, None)
                try:
                    still_wanted()
                    self._hold_back(presented)
                except Exception:
                    limiter.unused(number)
                    raise
                yield
        finally:
            self._asked.pop(who, None)

    async def guarded(self, registration: Registration, request: Callable[[], Awaitable[T]]) -> T:
        """
        Make *request* under the breaker of the client.

        Raises RemoteError ``client_suspended`` when the breaker holds it back, and whatever the request does.
        """
        presented = _presented(registration)
        admitted_at = self._admit(presented)
        try:
            answer = await request()
        except RemoteError as error:
            self._take_in(presented, error, admitted_at=admitted_at)
            raise
        self._take_in(presented, None, admitted_at=admitted_at)
        return answer

    def _limiter(self, issuer: Issuer) -> Limiter:
        """Give the limiter of *issuer*, with the limits of the configuration in force."""
        limits = Limits(concurrent=issuer.max_concurrent_requests, per_second=issuer.max_requests_per_second)
        limiter = self._limiters.get(issuer.name)
        if limiter is None:
            limiter = self._limiters[issuer.name] = Limiter(limits, time=asyncio.get_running_loop().time)
        limiter.limits = limits
        return limiter

    def _hold_back(self, presented: _Presented) -> None:
        """Raise RemoteError while the client's breaker lets nothing through; it is not changed."""
        wait = breakers.admit(self._breaker(presented), self._clock.boot())[1]
        if wait is not None:
            raise _suspended(wait)

    def _breaker(self, presented: _Presented) -> breakers.Breaker:
        return self._breakers.get(presented, breakers.Closed())

    def _admit(self, presented: _Presented) -> float:
        """Give the time of admission. Raises RemoteError when the client's breaker holds the request back."""
        now = self._clock.boot()
        self._breakers[presented], wait = breakers.admit(self._breaker(presented), now)
        if wait is not None:
            raise _suspended(wait)
        return now

    def _take_in(self, presented: _Presented, error: RemoteError | None, *, admitted_at: float) -> None:
        """Take the end of a request into the client's breaker, and report if it opened or closed."""
        client, before = presented[0], self._breaker(presented)
        breaker = breakers.after(
            before,
            None if error is None else str(error.code),
            self._clock.boot(),
            admitted_at=admitted_at,
            answered=error is None or error.status is not None,
        )
        self._breakers[presented] = breaker
        was_open, is_open = isinstance(before, breakers.Open), isinstance(breaker, breakers.Open)
        if is_open and not was_open and error is not None:
            self._emit(
                ClientSuspended(
                    client=client, reason=str(error.code), hint=error.hint, probe_in=breakers.PROBE_INTERVAL
                )
            )
        if was_open and not is_open:
            self._resume(client)

    def _resume(self, client: str) -> None:
        self._emit(ClientResumed(client=client))
        for unblock in self._unblock:
            unblock(client)


def _presented(registration: Registration) -> _Presented:
    return registration.client.name, registration.exchange.session.thumbprint


def _suspended(wait: float) -> RemoteError:
    return RemoteError(
        Reason.CLIENT_SUSPENDED,
        "requests of this client are held back",
        outcome=Outcome.NOT_SENT,
        hint="see the client_suspended event; its certificate is under suspicion",
        retry_after=wait,
    )
