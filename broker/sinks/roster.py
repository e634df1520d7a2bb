"""All sinks of a configuration: one keeper for each, and what becomes of them when the configuration is replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from broker.errors import LocalError
from broker.sinks.hook import check_hook
from broker.sinks.keeper import Held, Keeper
from broker.sinks.place import examine, prepare
from broker.sinks.spec import Sink

MakeKeeper = Callable[[Sink, Held | None], Keeper]
"""Makes the keeper of a sink; the second is what one before it left in the same file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    keeper: Keeper
    task: asyncio.Task[None]


def check_sinks(sinks: Iterable[Sink], *, made: Collection[Path] = ()) -> Iterator[LocalError]:
    """Judge where sinks put their files, and their hooks, and touch nothing; *made*: see ``place.examine``. Blocks."""
    for sink in sinks:
        try:
            examine(sink, made=made)
            if sink.hook is not None:
                check_hook(sink, sink.hook)
        except LocalError as error:
            yield error


class Roster:
    """Runs the keepers."""

    def __init__(self, sinks: Iterable[Sink], make: MakeKeeper) -> None:
        self._wanted = {sink.name: sink for sink in sinks}
        self._make = make
        self._kept: dict[str, _Kept] = {}
        self._changed = asyncio.Event()

    def open(self) -> None:
        """
        See that every file can be where it is to be, and clean up after a crash; at the start. Blocks.

        Raises LocalError, as ``place.prepare`` and ``hook.check_hook`` do.
        """
        for sink in self._wanted.values():
            prepare(sink)
            if sink.hook is not None:
                check_hook(sink, sink.hook)

    def replace(self, sinks: Iterable[Sink]) -> None:
        """Go on under another configuration; to be called on the loop."""
        self._wanted = {sink.name: sink for sink in sinks}
        self._changed.set()

    async def run(self) -> NoReturn:
        """Keep all files until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                await self._reconcile(group)
                await self._changed.wait()
        raise AssertionError("the loop above never ends")

    async def _reconcile(self, group: asyncio.TaskGroup) -> None:
        """Stop what changed, remove what has no place any more, and only then start: two may have swapped paths."""
        wanted = dict(self._wanted)
        stopped: dict[str, Keeper] = {}
        for name, kept in tuple(self._kept.items()):
            if wanted.get(name) != kept.keeper.sink:
                kept.task.cancel()
                await asyncio.wait([kept.task])
                del self._kept[name]
                stopped[name] = kept.keeper
        for name, keeper in stopped.items():
            after = wanted.get(name)
            if after is None or after.path != keeper.sink.path:
                await keeper.discard()
        for name, sink in wanted.items():
            if name not in self._kept:
                before = stopped.get(name)
                held = before.held if before is not None and sink.makes_same_file(before.sink) else None
                keeper = self._make(sink, held)
                self._kept[name] = _Kept(keeper=keeper, task=group.create_task(keeper.run(), name=f"sink {name}"))
