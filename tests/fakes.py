"""Fakes of the lifecycle's ports, shared by unit tests: what is under test takes its world as arguments."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TypeVar

from broker.events import Event

E = TypeVar("E", bound=Event)

WALL_AT_BOOT = 1_790_000_000.0
"""Unix time when the fake boot clock stood at 0: some day in September 2026."""


@dataclass
class LoopClock:
    """The clock of the running (jumping) loop; *wall_offset* lets the wall clock jump."""

    wall_offset: float = 0.0

    def boot(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return WALL_AT_BOOT + self.boot() + self.wall_offset


@dataclass
class HandClock:
    """A clock that moves only when the test says so, and needs no loop."""

    now: float = 1_000.0
    wall_offset: float = 0.0

    def boot(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL_AT_BOOT + self.now + self.wall_offset


@dataclass
class Dice:
    """Loaded dice: the same number each time, and counted tokens."""

    face: float = 0.5
    count: int = 0

    def uniform(self) -> float:
        return self.face

    def token(self, nbytes: int) -> str:
        self.count += 1
        return f"random-{self.count}"


@dataclass
class Events:
    """Collects what was emitted."""

    seen: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.seen.append(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.seen if isinstance(event, kind)]
