"""
How much of the broker one caller, and all callers together, may hold: connections, places to wait, time.

The counts are shared by all API listeners, so that a caller gains nothing by opening two sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from enum import Enum

from broker.policy.peer import Peer

REFUSAL_PLACES = 32
"""Connections above the cap that are kept a moment, to tell the caller why; beyond them they are closed unheard."""

REFUSAL_PLACES_PER_UID = 8
"""So that one caller that is told off all the time does not keep others from being told."""

STRANGER_PLACES = 32
"""
Connections of callers that are in no workload: enough to be told so, and to look at the health routes.

They are counted apart, so that many who may have nothing leave all other places to those who may.
"""

STRANGER_PLACES_PER_UID = 16
"""So that one of them does not keep the others from being told."""

BURST_SECONDS = 1.0
"""A caller that was quiet may ask at once for what it may ask for in so long a time."""

ROUNDING = 1e-6
"""Seconds: sums of intervals are not exact."""

DESCRIPTORS_PER_CONNECTION = 2
"""One for the connection; as many again are left for authorization servers, files and logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    The caps; times in seconds.

    *request_deadline*: from the first byte of a request to its last. *idle_timeout*: without a byte between
    requests. *write_deadline*: for an answer to be taken. *max_connection_age*: a connection is closed with
    the answer that passes it, because who is at its other end was found out when it began.
    """

    max_connections: int = 512
    max_connections_per_uid: int = 256
    max_waiting: int = 512
    max_waiting_per_uid: int = 256
    max_requests_per_second_per_uid: int = 1_000
    request_deadline: float = 10.0
    idle_timeout: float = 60.0
    write_deadline: float = 10.0
    max_connection_age: float = 3_600.0

    def within(self, descriptors: int) -> Limits:
        """Give the limits of a process that may open so many *descriptors* (RLIMIT_NOFILE)."""
        most = max(1, descriptors // DESCRIPTORS_PER_CONNECTION - REFUSAL_PLACES - STRANGER_PLACES)
        return replace(self, max_connections=min(self.max_connections, most))


def account_of(peer: Peer) -> Hashable:
    """
    Give whose the places and the requests of *peer* are: its uid's, on whatever listener.

    Callers without a known uid share those of their listener: what comes over TCP takes nothing from a Unix socket.
    """
    return (peer.listener, None) if peer.uid is None else peer.uid


class Places:
    """Counts places that are taken, in all and by caller (``account_of``)."""

    def __init__(self, total: int, per_uid: int) -> None:
        self._total = total
        self._per_uid = per_uid
        self._by: dict[Hashable, int] = {}
        self.taken = 0
        """How many are taken, in all."""

    def take(self, who: Hashable) -> bool:
        """Take a place, if there is one."""
        own = self._by.get(who, 0)
        if self.taken >= self._total or own >= self._per_uid:
            return False
        self._by[who] = own + 1
        self.taken += 1
        return True

    def give_back(self, who: Hashable) -> None:
        """Free a place that was taken."""
        self.taken -= 1
        own = self._by[who] - 1
        if own:
            self._by[who] = own
        else:
            del self._by[who]


class Rates:
    """
    How many requests each of many may make in a second: a bucket of tokens for each, full at first.

    A bucket is held as the time when it will be full again, and forgotten when it is: what is kept are those
    that asked within the last seconds.
    """

    def __init__(self, per_second: int) -> None:
        """Take the rate."""
        self._interval = 1.0 / per_second
        self._full_at: dict[Hashable, float] = {}
        self._swept_at = 0.0

    def take(self, who: Hashable, now: float) -> bool:
        """Take a token of *who*, if there is one; *now* in seconds of a clock that never steps."""
        if now - self._swept_at >= BURST_SECONDS:
            self._full_at = {one: full_at for one, full_at in self._full_at.items() if full_at > now}
            self._swept_at = now
        full_at = self._full_at.get(who, now)
        full_at = (max(now, full_at)) + self._interval
        if full_at - now > BURST_SECONDS + ROUNDING:
            return False
        self._full_at[who] = full_at
        return True

    def __len__(self) -> int:
        """Give how many are kept."""
        return len(self._full_at)


class Admission(Enum):
    """What becomes of a new connection."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    """It is over the cap: its first request is answered 429, then it is closed."""
    DROPPED = "dropped"
    """So many are over the cap that this one is closed at once."""


class Stay:
    """
    One connection's place in the ledger, from its admission to its end.

    *wanted* are the places among which it wanted one, *places* those among which it has one.
    """

    def __init__(self, admission: Admission, who: Hashable, *, wanted: Places, places: Places | None) -> None:
        self.admission = admission
        self._who = who
        self._wanted = wanted
        self._places = places

    def holds_what_is_wanted_by(self, other: Stay) -> bool:
        """Say whether *other* would have a place if this one ended: that of the same caller, of the same kind."""
        return self._places is other._wanted and self._who == other._who

    def end(self) -> None:
        """Give the place back; once is enough, twice does no harm."""
        if self._places is not None:
            self._places.give_back(self._who)
            self._places = None


class ConnectionLedger:
    """Who holds which connections."""

    def __init__(self, limits: Limits) -> None:
        self._admitted = Places(limits.max_connections, limits.max_connections_per_uid)
        self._strangers = Places(
            min(STRANGER_PLACES, limits.max_connections), min(STRANGER_PLACES_PER_UID, limits.max_connections_per_uid)
        )
        self._refused = Places(REFUSAL_PLACES, REFUSAL_PLACES_PER_UID)

    def admit(self, who: Hashable, *, stranger: bool = False) -> Stay:
        """Judge a new connection and note it; *stranger*: of a caller that no workload is."""
        places = self._strangers if stranger else self._admitted
        if places.take(who):
            return Stay(Admission.ADMITTED, who, wanted=places, places=places)
        if self._refused.take(who):
            return Stay(Admission.REFUSED, who, wanted=places, places=self._refused)
        return Stay(Admission.DROPPED, who, wanted=places, places=None)


class WaitingRoom:
    """Places for requests that wait for something to happen; emptied at once when the broker stops."""

    def __init__(self, limits: Limits) -> None:
        self._places = Places(limits.max_waiting, limits.max_waiting_per_uid)
        self._scopes: set[asyncio.Timeout] = set()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the broker is stopping: nobody may wait any more."""
        return self._closed

    @contextmanager
    def place(self, who: Hashable) -> Iterator[bool]:
        """Take a place for as long as the block runs; gives whether there was one."""
        taken = not self._closed and self._places.take(who)
        try:
            yield taken
        finally:
            if taken:
                self._places.give_back(who)

    @asynccontextmanager
    async def until_closed(self) -> AsyncIterator[None]:
        """Let the block wait; raises TimeoutError in it when the room is closed."""
        async with asyncio.timeout(None) as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)

    def close(self) -> None:
        """Send everybody away who waits, and let nobody wait any more."""
        self._closed = True
        now = asyncio.get_running_loop().time()
        for scope in tuple(self._scopes):
            if not scope.expired():
                scope.reschedule(now)
