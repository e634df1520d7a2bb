"""A sink without a disk and without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.events import Event, TokenFiled
from broker.sinks.files import Found, Identity, Mark
from broker.sinks.hook import Ended, Outcome
from broker.sinks.keeper import Held, Keeper
from broker.sinks.spec import Hook, Sink
from broker.tokens.serving import Serving
from tests.fakes import WALL_AT_BOOT, Dice, Events, LoopClock
from tests.unit.api.world import FakeTokens, issued

PATH = Path("/run/tokens/token")

HOOK = Hook(argv=("/bin/true",), timeout=10.0)


def sink(**changes: Any) -> Sink:
    members: dict[str, Any] = {"name": "app", "token": "directory", "path": PATH, "mode": 0o640}
    return Sink(**(members | changes))


def token(etag: str = "first", *, lifetime: float = 300.0) -> Serving:
    """Give a token that was obtained just now, as a caller gets it."""
    now = LoopClock().boot()
    made = issued(etag=etag, obtained_at=now, expires_at=now + lifetime, expires_at_wall=WALL_AT_BOOT + now + lifetime)
    return Serving(token=made, expires_in=int(lifetime), expires_at=int(WALL_AT_BOOT + now + lifetime), stale=False)


@dataclass
class FakeFiles:
    """Files in memory, by path: content, mark, and a number for each write; *refused* is raised instead."""

    files: dict[Path, tuple[bytes, Mark | None, int]] = field(default_factory=dict)
    refused: Exception | None = None
    irremovable: Exception | None = None
    writes: int = 0
    removed: list[Path] = field(default_factory=list)

    async def find(self, sink: Sink) -> Found | None:
        await asyncio.sleep(0)
        found = self.files.get(sink.path)
        return None if found is None else Found(identity=(1, found[2], 0), mark=found[1])

    async def write(self, sink: Sink, content: bytes, mark: Mark) -> Identity:
        await asyncio.sleep(0)
        if self.refused is not None:
            raise self.refused
        self.writes += 1
        self.files[sink.path] = (content, mark, self.writes)
        return (1, self.writes, 0)

    async def remove(self, sink: Sink) -> bool:
        await asyncio.sleep(0)
        if self.irremovable is not None:
            raise self.irremovable
        self.removed.append(sink.path)
        return self.files.pop(sink.path, None) is not None


@dataclass
class World:
    """A keeper with everything around it; *runs* are those of its hook, each as long as *hook_takes*."""

    tokens: FakeTokens
    files: FakeFiles = field(default_factory=FakeFiles)
    events: Events = field(default_factory=Events)
    clock: LoopClock = field(default_factory=LoopClock)
    runs: list[float] = field(default_factory=list)
    hook_takes: float = 0.0
    hook_lingers: float = 0.0
    hook_ends: Ended = field(default_factory=lambda: Ended(outcome=Outcome.OK, status=0))
    running: int = 0
    unrecorded: Exception | None = None

    def emit(self, event: Event) -> None:
        if isinstance(event, TokenFiled) and self.unrecorded is not None:
            raise self.unrecorded
        self.events(event)

    async def run_hook(self, sink: Sink, hook: Hook) -> Ended:
        assert self.running == 0, "two at once"
        self.running += 1
        self.runs.append(self.clock.boot())
        try:
            await asyncio.sleep(self.hook_takes)
        finally:
            await asyncio.sleep(self.hook_lingers)
            self.running -= 1
        return self.hook_ends

    def keeper(self, wanted: Sink, held: Held | None = None) -> Keeper:
        return Keeper(
            wanted,
            tokens=self.tokens,
            files=self.files,
            run_hook=self.run_hook,
            clock=self.clock,
            randomness=Dice(),
            emit=self.emit,
            held=held,
        )

    @property
    def content(self) -> bytes | None:
        found = self.files.files.get(PATH)
        return None if found is None else found[0]

    def give(self, answer: Serving | Exception) -> None:
        """Have the token replaced, and whoever watches told."""
        self.tokens.answers["directory"] = answer
        if "directory" in self.tokens.futures:
            self.tokens.tell()


def world(answer: Serving | Exception | None = None) -> World:
    return World(tokens=FakeTokens(answers={"directory": answer or token()}))


@asynccontextmanager
async def running(keeper: Keeper) -> AsyncIterator[None]:
    """Run a keeper for the length of a block."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(keeper.run())
        await asyncio.sleep(0.01)
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
