"""
All keepers by name, with one heap, one timer and one task group for them.

A task exists only while an attempt runs (``attempts``), and belongs to the group of ``run``.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NoReturn

from broker.events import Emit
from broker.tokens import state as table
from broker.tokens.acquire import Acquirer, Registration
from broker.tokens.alarms import Alarms
from broker.tokens.attempts import Attempts
from broker.tokens.keeper import Keeper
from broker.tokens.passage import Passage
from broker.tokens.ports import Clock, Randomness, Watch
from broker.tokens.reload import Fate, fate_of, terms_of
from broker.tokens.serving import Serving, TokenStatus
from broker.tokens.spec import IssuedToken, TokenSpec

AT_ONCE = 64
"""
Attempts of one client that a start begins with; each that ends begins the next.

Four times as many as an issuer may be asked at a time, so that it never waits for us, and far fewer than there may be
tokens: ten thousand attempts that wait for their turns take 30 MB, and the process would keep most of it.
"""


class Registry:
    """Implements ``ports.TokenSource``."""

    def __init__(
        self,
        specs: Iterable[TokenSpec],
        registrations: Mapping[str, Registration],
        *,
        acquirer: Acquirer,
        clock: Clock,
        randomness: Randomness,
        emit: Emit,
        passage: Passage,
    ) -> None:
        """Keep a token for each of *specs*; *registrations* by the name of the client."""
        self._keepers = {spec.name: Keeper(spec, clock=clock, randomness=randomness, emit=emit) for spec in specs}
        self._attempts = Attempts(
            registrations,
            acquirer=acquirer,
            clock=clock,
            randomness=randomness,
            emit=emit,
            settle=self._handle,
            passage=passage,
        )
        self._passage = passage
        passage.on_resumed(self._unblock)
        self._make_keeper = partial(Keeper, clock=clock, randomness=randomness, emit=emit)
        self._registrations = dict(registrations)
        self._running: set[asyncio.Task[None]] = set()
        self._under_way: Counter[str] = Counter()  # attempts, by client
        self._not_begun: dict[str, deque[Keeper]] = {}  # by client, in the order of the configuration
        self._clock = clock
        self._alarms = Alarms(clock)
        self._group: asyncio.TaskGroup | None = None

    def names(self) -> Collection[str]:
        """Give all configured names, in the order of the configuration; that of a moment, whatever is reloaded."""
        return self._keepers.keys()  # of a mapping that is replaced, and never changed

    def required(self) -> Collection[str]:
        """Give the names of those without which the broker is not ready."""
        return tuple(name for name, keeper in self._keepers.items() if keeper.spec.required)

    def grant_of(self, name: str) -> str | None:
        """Give None: nobody consented to these."""
        del name
        return None

    def status(self, name: str) -> TokenStatus:
        """Say how the token *name* stands. Raises KeyError."""
        return self._keepers[name].status()

    def expires_at(self, name: str) -> float | None:
        """Give the Unix time when the token in hand ends, None if there is none. Raises KeyError."""
        token, now = table.token_of(self._keepers[name].state), self._clock.boot()
        if token is None or token.expires_at <= now:
            return None
        return token.expires_at_by(boot=now, wall=self._clock.wall())

    def in_hand(self) -> Iterator[tuple[str, IssuedToken]]:
        """Give each token in hand with its name."""
        for name, keeper in self._keepers.items():
            token = keeper.in_hand()
            if token is not None:
                yield name, token

    def at_once(self, name: str, *, min_valid: float | None) -> Serving | None:
        """Give a token where that takes no wait and changes nothing: see ``ports.TokenSource``."""
        keeper = self._keepers.get(name)
        if keeper is None or not table.is_settled(keeper.state, self._clock.boot()):
            return None
        return keeper.servable(min_valid)

    async def get(self, name: str, *, min_valid: float | None, wait: float) -> Serving:
        """Give a token, after a wait if need be: see ``ports.TokenSource``."""
        keeper = self._keepers[name]
        deadline = self._clock.boot() + wait
        self._handle(keeper, table.Asked())
        while (serving := keeper.servable(min_valid)) is None:
            self._handle(keeper, table.Wanted())
            if not await self._next(keeper, deadline):
                return keeper.last_resort()
        return serving

    async def refresh(self, name: str, *, rejected: str | None, wait: float, begun: Callable[[], None]) -> Serving:
        """Give another token than the one in hand, as far as there is one: see ``ports.TokenSource``."""
        keeper = self._keepers[name]
        deadline = self._clock.boot() + wait
        self._handle(keeper, table.Asked())
        if rejected is None or not keeper.has_other_than(rejected):
            before, attempts = keeper.standing().etag, keeper.attempts
            self._handle(keeper, table.Forced())
            if keeper.attempts != attempts:
                begun()
            while not keeper.has_other_than(before) and await self._next(keeper, deadline):
                self._handle(keeper, table.Forced())  # a reload may have overtaken the attempt that was waited for
        return keeper.last_resort()

    @contextmanager
    def watch(self, name: str) -> Iterator[Watch]:
        """Let a caller wait for news of the token *name*: see ``ports.TokenSource``."""
        keeper = self._keepers[name]
        keeper.watchers += 1
        try:
            self._set_alarm(keeper)
            yield Watch(news=keeper.news(), standing=keeper.standing)
        finally:
            keeper.watchers -= 1

    async def run(self) -> NoReturn:
        """Keep every token, until cancelled; the attempts that run then are cancelled, too."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                self._begin_all()
                while True:
                    await self._alarms.wait()
                    self._ring()
            finally:
                self._group = None
        raise AssertionError("the loop above never ends")

    def replace(
        self,
        specs: Sequence[TokenSpec],
        registrations: Mapping[str, Registration],
        *,
        banned: frozenset[str] = frozenset(),
    ) -> tuple[asyncio.Task[None], ...]:
        """
        Go on under another configuration, at once; callers that wait are not disturbed.

        Tokens that are bound to certificates or DPoP keys with the thumbprints *banned* are not served any more.
        Gives the attempts that run with the means of the older one: when they are done it can be taken down.
        """
        before, terms = self._keepers, {name: self._registrations[k.spec.client] for name, k in self._keepers.items()}
        under_way = tuple(self._running)
        self._keepers = {spec.name: before.get(spec.name) or self._make_keeper(spec) for spec in specs}
        self._registrations = dict(registrations)
        self._attempts.replace(registrations)
        self._passage.replace(registrations.values())
        for spec in specs:
            keeper = self._keepers[spec.name]
            if spec.name in before:
                old = terms_of(keeper.spec, terms[spec.name])
                fate = fate_of(old, terms_of(spec, registrations[spec.client]))
                is_banned = not banned.isdisjoint({old.thumbprint, old.jkt}) or keeper.is_bound_to(banned)
                keeper.carry(spec, Fate.DROPPED if is_banned else fate)
            self._handle(keeper, table.Unblocked())
            self._handle(keeper, table.Tick())
            self._set_alarm(keeper)
        for name in before.keys() - self._keepers.keys():
            before[name].carry(before[name].spec, Fate.DROPPED)
        return under_way

    async def _next(self, keeper: Keeper, deadline: float) -> bool:
        """Wait, in haste, for the attempt that runs or comes in time; gives whether that may have helped."""
        if self._keepers.get(keeper.spec.name) is not keeper:
            return False  # no longer configured
        self._attempts.hasten(keeper)
        running = keeper.is_running()
        left = keeper.patience(deadline - self._clock.boot())
        if left <= 0:
            return False
        try:
            async with asyncio.timeout(left):
                await keeper.change()
        except TimeoutError:
            return False
        # When the attempt that was waited for has failed, the next one is not the caller's own.
        return not running or keeper.is_running() or isinstance(keeper.state, table.Fresh)

    def reconsider(self) -> None:
        """
        Look at every token again at once, after a clock was set or the machine slept.

        What the server or a certificate's dates refused by the old clock may be tried again; nothing else is
        asked for that is not due.
        """
        self._passage.reconsider()
        for keeper in self._keepers.values():
            self._handle(keeper, table.Unblocked())
            self._handle(keeper, table.Tick())

    def _ring(self) -> None:
        for name in self._alarms.ring():
            keeper = self._keepers.get(name)
            if keeper is not None:  # else no longer configured
                self._handle(keeper, table.Tick())
                self._set_alarm(keeper)

    def _handle(self, keeper: Keeper, event: table.Event) -> None:
        """Take an event through the keeper, start the attempt it asks for, set the alarm it needs."""
        if self._group is None or self._keepers.get(keeper.spec.name) is not keeper:
            return  # not running yet, stopping, or no longer configured: a caller gets what is in hand
        before = keeper.state
        attempt = keeper.handle(event)
        if attempt is not None:
            task = self._group.create_task(self._attempts.make(keeper, attempt), name=f"refresh {keeper.spec.name}")
            self._running.add(task)
            self._under_way[keeper.spec.client] += 1
            task.add_done_callback(partial(self._ended, keeper.spec.client))
        if keeper.state is not before:
            self._set_alarm(keeper)

    def _begin_all(self) -> None:
        """Look at every token for the first time: all are missing, and one is as urgent as the other."""
        for keeper in self._keepers.values():
            client = keeper.spec.client
            self._not_begun.setdefault(client, deque()).append(keeper)
            self._begin_more(client)

    def _begin_more(self, client: str) -> None:
        """Begin with as many tokens of *client* as there is room for; one that a caller wants does not wait for it."""
        left = self._not_begun.get(client)
        while left and self._under_way[client] < AT_ONCE:
            self._handle(left.popleft(), table.Tick())

    def _ended(self, client: str, attempt: asyncio.Task[None]) -> None:
        self._running.discard(attempt)
        self._under_way[client] -= 1
        self._begin_more(client)

    def _unblock(self, client: str) -> None:
        """Let the tokens of *client* be tried again that were held back."""
        for keeper in self._keepers.values():
            if keeper.spec.client == client:
                self._handle(keeper, table.Unblocked())

    def _set_alarm(self, keeper: Keeper) -> None:
        at = keeper.wake_at()
        if at is not None:
            self._alarms.set(keeper.spec.name, at)
