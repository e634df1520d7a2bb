"""All sinks of a configuration, and what becomes of them when it is replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.events import SinkFileRemoved, UnexpectedFailure
from broker.sinks.keeper import Held, Keeper
from broker.sinks.place import beside
from broker.sinks.roster import Roster, check_sinks
from broker.sinks.spec import Format, Hook, Sink
from tests.unit.sinks.world import HOOK, World, sink, world

ONE, TWO = Path("/run/one"), Path("/run/two")


def unmade(wanted: Sink, held: Held | None) -> Keeper:
    raise AssertionError("nothing is kept yet")


@asynccontextmanager
async def kept(here: World, *sinks: Sink) -> AsyncIterator[Roster]:
    roster = Roster(sinks, here.keeper)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(roster.run())
        await asyncio.sleep(0.1)
        yield roster
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def replace(roster: Roster, *sinks: Sink) -> None:
    roster.replace(sinks)
    await asyncio.sleep(0.1)


async def test_every_sink_is_kept() -> None:
    """And all files stay when it stops."""
    here = world()

    async with kept(here, sink(name="one", path=ONE), sink(name="two", path=TWO)):
        pass

    assert set(here.files.files) == {ONE, TWO}


async def test_sinks_come_and_go() -> None:
    """What is not configured any more is removed; what did not change is not touched."""
    here = world()

    async with kept(here, sink(name="one", path=ONE)) as roster:
        await replace(roster, sink(name="one", path=ONE), sink(name="two", path=TWO))
        both = set(here.files.files)
        await replace(roster, sink(name="one", path=ONE))

    assert both == {ONE, TWO}
    assert set(here.files.files) == {ONE}
    assert here.files.writes == 2
    assert [event.sink for event in here.events.of(SinkFileRemoved)] == ["two"]


async def test_another_path_leaves_nothing_at_the_old_one() -> None:
    """Another format is another file at the same path, and another hook is no other file."""
    here = world()

    async with kept(here, sink(path=ONE)) as roster:
        await replace(roster, sink(path=TWO))
        moved = set(here.files.files)
        await replace(roster, sink(path=TWO, format=Format.JSON))
        writes = here.files.writes
        await replace(roster, sink(path=TWO, format=Format.JSON, hook=HOOK))

    assert moved == {TWO}
    assert here.files.files[TWO][0].startswith(b"{")
    assert here.files.writes == writes == 3


async def test_two_sinks_may_swap_their_paths() -> None:
    """All are stopped and removed before one is started."""
    here = world()

    async with kept(here, sink(name="one", path=ONE), sink(name="two", path=TWO)) as roster:
        await replace(roster, sink(name="one", path=TWO), sink(name="two", path=ONE))

    assert set(here.files.files) == {ONE, TWO}


async def test_what_a_keeper_began_is_at_its_end_before_the_next_begins() -> None:
    """Two that write the same file would be in each other's way."""
    here = world()
    here.hook_takes, here.hook_lingers = 1_000.0, 3.0

    async with kept(here, sink(path=ONE, hook=HOOK)) as roster:
        await replace(roster, sink(path=ONE, hook=HOOK, format=Format.JSON))
        meanwhile = here.files.writes
        await asyncio.sleep(5)

    assert meanwhile == 1
    assert here.files.writes == 2
    assert here.events.of(UnexpectedFailure) == []


async def test_reloads_in_a_row_come_to_the_last() -> None:
    """However fast they come."""
    here = world()

    async with kept(here, sink(path=ONE)) as roster:
        roster.replace([sink(path=TWO)])
        roster.replace([])
        roster.replace([sink(path=ONE, format=Format.JSON)])
        await asyncio.sleep(0.1)

    assert set(here.files.files) == {ONE}
    assert here.files.files[ONE][0].startswith(b"{")


def test_opening_looks_at_every_place_and_cleans_up(tmp_path: Path) -> None:
    """What a crash left is removed, and nothing else is made."""
    wanted = sink(path=tmp_path / "token")
    (tmp_path / beside(wanted)).touch()

    Roster([wanted], unmade).open()

    assert list(tmp_path.iterdir()) == []


def test_a_place_or_a_hook_that_is_not_safe_keeps_from_opening(tmp_path: Path) -> None:
    """Checking finds all of them, and touches nothing."""
    good = sink(path=tmp_path / "token", uid=40_001, gid=40_001)
    bad = [
        sink(name="a", path=tmp_path / "missing" / "token"),
        sink(name="b", path=tmp_path / "token", uid=1, gid=1, hook=Hook(argv=("/no/such",), timeout=1.0)),
    ]
    (tmp_path / beside(good)).touch()

    found = [error.code for error in check_sinks([good, *bad])]

    assert found == ["sink_failed", "sink_hook_missing"]
    assert list(check_sinks([good, bad[0]], made={tmp_path / "missing"})) == []
    assert list(tmp_path.iterdir()) == [tmp_path / beside(good)]
    with pytest.raises(LocalError):
        Roster(bad[:1], unmade).open()
