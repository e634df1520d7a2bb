"""Tests of ``broker/sandbox/iridium/troubles.py``: which faults there are, and what they do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.sandbox.commands import CommandRefusedError
from broker.sandbox.iridium.troubles import Troubles, read_trouble
from tests.unit.sandbox.iridium.talking import visiting


def test_a_fault_is_met_as_often_as_it_says():
    """At its place only; without a number until it is cleared."""
    troubles = Troubles()
    troubles.add(read_trouble({"where": "token", "kind": "status", "times": 2}))
    met = [troubles.take(where) is not None for where in ("refresh", "token", "token", "token")]
    troubles.add(read_trouble({"where": "token", "kind": "delay"}))
    endless = [troubles.take("token") is not None for _ in range(3)]
    counted = [one["met"] for one in troubles.as_json()]
    troubles.clear()

    assert met == [False, True, True, False]
    assert endless == [True] * 3
    assert counted == [2, 3]
    assert troubles.take("token") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"where": "logout"},
        {"where": None},
        {"kind": "html"},
        {"kind": 1},
        {"times": 0},
        {"times": True},
        {"delay_seconds": -1},
        {"delay_seconds": "1"},
        {"status": 200},
        {"status": 503.5},
        {"retry_after": 1},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(changes: dict[str, Any]):
    """A test with a slip in it must not pass by accident."""
    with pytest.raises(CommandRefusedError):
        read_trouble({"where": "token", "kind": "status", **changes})


@pytest.mark.real_time
async def test_a_lost_answer_has_done_its_work(tmp_path: Path):
    """The code is spent."""
    async with visiting(tmp_path) as visitor:
        code = await visitor.code()
        visitor.iridium.trouble("token", "lost_answer", times=1)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await visitor.redeem(code)
        again = await visitor.redeem(code)

        assert again.status == 400
        assert [(one.outcome, one.fault) for one in visitor.iridium.journal.entries("token")] == [
            ("issued", "lost_answer"),
            ("invalid_grant", None),
        ]


@pytest.mark.real_time
async def test_a_status_comes_instead_of_the_answer(tmp_path: Path):
    """The code is still good."""
    async with visiting(tmp_path) as visitor:
        code = await visitor.code()
        visitor.iridium.trouble("token", "status", times=1)
        answers = [await visitor.redeem(code), await visitor.redeem(code)]

        assert [one.status for one in answers] == [503, 200]


@pytest.mark.real_time
async def test_a_delayed_answer_comes_late(tmp_path: Path):
    """At the refresh endpoint, too."""
    async with visiting(tmp_path) as visitor:
        visitor.iridium.trouble("refresh", "delay", delay_seconds=0.2)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await visitor.refresh("any")

        assert loop.time() - began >= 0.2
