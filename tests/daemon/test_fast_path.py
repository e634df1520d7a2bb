"""
The fast path gives what the slow one gives: the same bytes, the same records, the same counts (rules.md R11).

The same requests go to two servers that differ in nothing else. They are made by a generator of random numbers with a
fixed seed: valid, odd, malformed, cut at every byte, one behind the other, too large.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.api.answers import Answer
from broker.api.desk import Asked
from broker.api.fast_path import Held
from broker.api.table import Offer
from broker.tokens import state as table
from broker.tokens.schedule import Pace
from tests.daemon.two_ways import APP, LIMITS, TIME, Line, Side, agree, connected, exchange, on_both, token, two_sides

SEED = 8

CASES = 10_000
"""Connections of the differential test, each with one request or more."""

CHANGE_EVERY = 61
"""Cases between two changes of the world."""

MANY = 100_000
"""Requests after which all sums have to agree."""

GOOD = b"GET /v1/tokens/directory HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /v1/tokens/directory HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

TARGETS = (
    *(b"/v1/tokens/directory",) * 6,
    b"/v1/tokens/ledger",
    b"/v1/tokens/payments",
    b"/v1/tokens/nobody",
    b"/v1/tokens/directory?min_valid=10",
    b"/v1/tokens/directory?min_valid=86400",
    b"/v1/tokens/directory?min_valid=0&wait=0",
    b"/v1/tokens/directory?wait=0",
    b"/v1/tokens/directory?wait=61",
    b"/v1/tokens/directory?min_valid=1&min_valid=1",
    b"/v1/tokens/%64irectory",
    b"/v1/tokens/../directory",
    b"/v1/tokens/",
    b"/v1/tokens",
    b"/v1/tokens/directory/refresh",
    b"/livez",
    b"/nowhere",
)

HEADERS = (
    *(b"",) * 8,
    b"Accept: text/plain\r\n",
    b"Accept: application/json\r\n",
    b"accept:text/plain;q=0.5, application/json;q=0.4\r\n",
    b'If-None-Match: W/"etag-1"\r\n',
    b'If-None-Match: "etag-2", W/"etag-3"\r\n',
    b"If-None-Match: *\r\n",
    b"If-None-Match: nonsense\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"User-Agent: curl/8.5.0\r\nAccept: */*\r\n",
    b"Expect: 100-continue\r\n",
    b"Expect: a miracle\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 3\r\n\r\nabc",
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
    b"Authorization: Bearer x\r\n",
    b"Cookie: a=b\r\n",
    b"Origin: https://example.com\r\n",
    b"X-Forwarded-For: 10.0.0.1\r\n",
    b"X:a\r\n folded\r\n",
    b"X : a\r\n",
    b"X: " + b"\xc3\xa4" + b"\r\n",
)

HOSTS = (*(b"Host: localhost\r\n",) * 8, b"Host: unix\r\n", b"host:LOCALHOST\r\n", b"Host: evil\r\n", b"")

METHODS = (*(b"GET",) * 12, b"HEAD", b"POST", b"get", b"DELETE", b"OPTIONS")

VERSIONS = (*(b"HTTP/1.1",) * 10, b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1.1 ")

KNOWN = (
    GOOD,
    LAST,
    GOOD.replace(b"\r\n\r\n", b"\r\nAccept: text/plain\r\n\r\n"),
    GOOD.replace(b"\r\n\r\n", b'\r\nIf-None-Match: W/"etag-1"\r\n\r\n'),
    GOOD.replace(b"directory", b"ledger"),
    GOOD.replace(b"directory ", b"directory?min_valid=10 "),
)
"""What comes often enough to be known."""


def any_request(dice: random.Random) -> bytes:
    """Make one that may be good."""
    line = b" ".join((dice.choice(METHODS), dice.choice(TARGETS), dice.choice(VERSIONS)))
    fields = [dice.choice(HOSTS), dice.choice(HEADERS), dice.choice(HEADERS)]
    dice.shuffle(fields)
    return line + b"\r\n" + b"".join(fields) + b"\r\n"


def damaged(dice: random.Random, raw: bytes) -> bytes:
    """Change, add or leave out some bytes."""
    for _ in range(dice.choice((1, 1, 1, 2, 5))):
        at = dice.randrange(len(raw) + 1)
        some = bytes(dice.choices((0, 10, 13, 32, 58, 71, 128, 255, dice.randrange(256)), k=dice.choice((0, 1, 1, 2))))
        raw = raw[:at] + some + raw[at + dice.choice((0, 1)) :]
    return raw


def too_large(dice: random.Random) -> bytes:
    """Make a head around the cap, or far above it."""
    size = dice.choice((1_900, 2_100, 8_050, 8_130, 8_192, 8_200, 16_384, 16_385, 70_000, 300_000))
    return GOOD[:-2] + b"X: " + b"a" * size + dice.choice((b"\r\n\r\n", b"\r\n\r\n" + GOOD, b""))


def cut(dice: random.Random, raw: bytes) -> list[bytes]:
    """Cut into pieces at random."""
    at = sorted(dice.randrange(len(raw) + 1) for _ in range(dice.choice((1, 1, 2, 3))))
    return [piece for start, end in zip([0, *at], [*at, len(raw)], strict=True) if (piece := raw[start:end])]


def cut_everywhere() -> Iterator[list[bytes]]:
    """Cut what is known at every byte, alone and with another behind it."""
    for raw in KNOWN:
        for at in range(1, len(raw)):
            yield [raw[:at], raw[at:]]
            yield [raw[:at], raw[at:] + GOOD]


def random_case(dice: random.Random) -> list[bytes]:
    """Make the pieces of one connection."""

    def one() -> bytes:
        kind = dice.random()
        if kind < 0.55:
            return dice.choice(KNOWN)
        if kind < 0.80:
            return any_request(dice)
        if kind < 0.97:
            return damaged(dice, dice.choice((*KNOWN, any_request(dice))))
        return too_large(dice)

    requests = [one() for _ in range(dice.choice((1, 1, 2, 3, 6)))]
    shape = dice.random()
    if shape < 0.5:
        return requests  # one after the other
    if shape < 0.7:
        return [b"".join(requests)]
    if shape < 0.9:
        return cut(dice, b"".join(requests))
    return [*requests, b"".join(requests), *requests]


def cases() -> Iterator[list[bytes]]:
    """Make all of them."""
    yield from cut_everywhere()
    dice = random.Random(SEED)
    while True:
        yield random_case(dice)


# --- how the world changes between two cases ---


def fresh(side: Side, generation: int) -> None:
    """Another token."""
    now = side.clock.now
    for name in ("directory", "ledger"):
        if name in side.registry.names():
            side.put(table.Fresh(token=token(generation, at=now, name=name), refresh_at=now + 200.0), name)


def stale(side: Side, _: int) -> None:
    """A refresh that fails."""
    kept = side.keeper().in_hand()
    if kept is not None:
        failure = table.Failure(code="connect_failed", pace=Pace.ORDINARY)
        now = side.clock.now
        side.put(table.Stale(token=kept, refresh_at=now - 1.0, due_at=now + 50.0, failure=failure))


def due(side: Side, _: int) -> None:
    """A token whose time to be refreshed has come."""
    side.clock.now += 210.0


def ended(side: Side, _: int) -> None:
    """A token that has ended."""
    side.clock.now += 400.0


def nobody(side: Side, _: int) -> None:
    """A policy in which nobody may have anything."""
    side.allow()


def less(side: Side, _: int) -> None:
    """A policy in which only one token is anybody's."""
    side.allow(replace(APP, tokens=frozenset({"ledger"})))


def everybody(side: Side, _: int) -> None:
    """The policy of the beginning."""
    side.allow(APP)


def two(side: Side, _: int) -> None:
    """A policy with two workloads that give the same."""
    side.allow(APP, replace(APP, name="again"))


def disk_full(side: Side, _: int) -> None:
    """An audit log that cannot be written."""
    side.disk.room = 0


def disk_there(side: Side, _: int) -> None:
    """And that can be again."""
    side.disk.room = None


def missing(side: Side, _: int) -> None:
    """A token that is not configured any more."""
    side.registry._keepers = {name: one for name, one in side.registry._keepers.items() if name != "ledger"}


CHANGES: tuple[Callable[[Side, int], None], ...] = (
    *(fresh,) * 8,
    stale,
    fresh,
    due,
    fresh,
    ended,
    fresh,
    less,
    everybody,
    nobody,
    two,
    everybody,
    disk_full,
    disk_there,
)


async def test_whatever_is_sent_comes_out_the_same(tmp_path: Path, record_property: Callable[[str, object], None]):
    """Answers, ends of connections, audit records, log lines and metrics, while the world changes."""
    dice, generator = random.Random(SEED), cases()
    counts: dict[str, int] = {"at once": 0, "ordinary": 0}
    async with two_sides(tmp_path) as sides:
        counting(counts, sides[1])
        for number in range(CASES):
            if number % CHANGE_EVERY == 0:
                change = dice.choice(CHANGES) if number else fresh
                for side in sides:
                    change(side, number)
                    side.clock.now += 1.0
                    side.telemetry.tick()
            await on_both(sides, next(generator))
            for side in sides:
                side.clock.now += 0.001
        agree(sides)
    agree(sides)

    record_property("table", f"{CASES} connections; on the fast side {counts}")
    assert counts["at once"] > CASES / 3
    assert counts["ordinary"] > CASES / 2


HURRIED = 400
"""Connections on which nobody waits for an answer before the next request."""

SOUND = (
    *(GOOD,) * 3,
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /v1/tokens/payments HTTP/1.1\r\nHost: localhost\r\n\r\n",
    GOOD.replace(b"directory ", b"ledger?wait=0 "),
)


async def test_answers_come_in_the_order_of_the_requests_however_close_they_come(tmp_path: Path):
    """Alone or several in one piece, some turns of the loop after one another; the loop is not waited for."""
    dice = random.Random(SEED)
    async with two_sides(tmp_path) as sides:
        for side in sides:
            fresh(side, 1)
            await exchange(side, [GOOD])
        for _ in range(HURRIED):
            pieces = [b"".join(dice.choices(SOUND, k=dice.choice((1, 1, 2, 3)))) for _ in range(dice.randrange(2, 7))]
            turns = [dice.randrange(6) for _ in pieces]
            received = []
            for side in sides:
                async with connected(side) as line:
                    for piece, some in zip(pieces, turns, strict=True):
                        line.connection.send(piece)
                        for _ in range(some):
                            await asyncio.sleep(0)
                    await line.settle()
                received.append(undated(line.received))
            assert received[1] == received[0], (pieces, turns)
        agree(sides)


def counting(counts: dict[str, int], side: Side) -> None:
    """Count which way the requests of *side* go."""
    desk = side.server._desk
    at_once, answer = desk.answer_at_once, desk.answer

    def answered_at_once(turn: int, asked: Asked) -> Sequence[Offer | None]:
        offers = at_once(turn, asked)
        counts["at once"] += len(offers) - offers.count(None)
        return offers

    async def answered(*arguments: Any) -> Answer:
        counts["ordinary"] += 1
        return await answer(*arguments)

    desk.answer_at_once, desk.answer = answered_at_once, answered  # type: ignore[method-assign, assignment]


# --- on an open connection ---

WORDS = GOOD.replace(b"directory ", b"directory?wait=0 ")


def gone(side: Side, _: int) -> None:
    """A reload after which the token is not configured."""
    side.registry._keepers = {}


def replaced(side: Side, _: int) -> None:
    """Another token."""
    fresh(side, 2)


EFFECTS: dict[str, tuple[Callable[[Side, int], None], int, bytes]] = {
    "a changed policy": (less, 403, b"access_denied"),
    "a removed workload": (nobody, 403, b"access_denied"),
    "a replaced token": (replaced, 200, b"directory-2"),
    "an expired token": (ended, 503, b"temporarily_unavailable"),
    "a token that is not configured any more": (gone, 403, b"access_denied"),
    "an audit log that cannot be written": (disk_full, 503, b"temporarily_unavailable"),
}


@pytest.mark.parametrize("whose", ["held", "aiohttp's"])
@pytest.mark.parametrize(("change", "status", "said"), EFFECTS.values(), ids=EFFECTS)
async def test_a_change_takes_effect_on_the_very_next_request_of_an_open_connection(
    tmp_path: Path, change: Callable[[Side, int], None], status: int, said: bytes, whose: str
):
    """Whoever has the connection, and whatever was answered on it before."""
    counts = {"at once": 0, "ordinary": 0}
    async with two_sides(tmp_path) as sides:
        received = []
        for side in sides:
            fresh(side, 1)
            counting(counts, side)
            await exchange(side, [WORDS])
            async with connected(side) as line:
                if whose != "held":
                    await line.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                for _ in range(3):
                    await line.send(WORDS)
                before = len(line.received)
                change(side, 0)
                await line.send(WORDS)
                received.append(line.received[before:])
        agree(sides)

    assert counts["at once"] >= 3
    plain, fast = ([line for line in one.split(b"\r\n") if not line.startswith(b"Date: ")] for one in received)
    assert fast == plain
    assert fast[0].split(b" ")[1] == str(status).encode()
    assert said in fast[-1]


# --- many ---

SEVERAL = 40
"""Connections side by side."""

ASKED = (*KNOWN[:1], *KNOWN[2:])


async def answered_in_turns(lines: Sequence[Line], raw: bytes) -> list[bytes]:
    """Send *raw* on all *lines* and give what came on each."""
    for line in lines:
        line.connection.send(raw)
    for line in lines:
        line.received = b""
    missing = list(lines)
    while missing:
        await asyncio.sleep(0)
        for line in missing:
            line._take()
            assert not line.ended
        missing = [line for line in missing if not is_whole(line.received)]
    return [line.received for line in lines]


def is_whole(raw: bytes) -> bool:
    """Say whether *raw* is one answer."""
    head, end, body = raw.partition(b"\r\n\r\n")
    if not end:
        return False
    _, found, rest = head.partition(b"Content-Length: ")
    return len(body) == (int(rest.split(b"\r\n")[0]) if found else 0)


async def test_after_a_hundred_thousand_requests_all_sums_agree(
    tmp_path: Path, record_property: Callable[[str, object], None]
):
    """The answers one by one, the bytes of the audit log, each series of the metrics; and nothing is left open."""
    dice = random.Random(SEED)
    counts = {"at once": 0, "ordinary": 0}
    descriptors = descriptors_open()
    async with two_sides(tmp_path) as sides:
        counting(counts, sides[1])
        lines = [[Line(opened(side)) for _ in range(SEVERAL)] for side in sides]
        for number in range(MANY // SEVERAL):
            if number % 25 == 0:
                for side in sides:
                    fresh(side, 1 + number // 50)
            raw = dice.choice(ASKED)
            plain, fast = [await answered_in_turns(some, raw) for some in lines]
            assert list(map(undated, plain)) == list(map(undated, fast))
            for side in sides:
                side.clock.now += 0.2
                side.telemetry.tick()
        for line in (*lines[0], *lines[1]):
            line.connection.close()
        agree(sides)
        records = sides[1].recorded().count(b'"token_served"')
    agree(sides)

    record_property("table", f"{MANY} requests, {records} tokens; on the fast side {counts}")
    assert counts["at once"] > MANY * 0.9
    assert descriptors_open() == descriptors


def opened(side: Side) -> socket.socket:
    """Connect, and leave it open."""
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    connection.connect(os.fspath(side.path))
    return connection


def descriptors_open() -> int:
    """Count the descriptors of this process."""
    return len(tuple(Path("/proc/self/fd").iterdir()))


def undated(raw: bytes) -> bytes:
    """Leave the date out."""
    return TIME.sub(b"", raw)


async def test_nothing_is_left_of_connections_however_they_end(tmp_path: Path):
    """No descriptor, no place, no object: of those that were held, handed over, cut off and refused."""
    dice = random.Random(SEED)
    descriptors = descriptors_open()
    limits = replace(LIMITS, max_connections_per_uid=20, max_connections=20)
    async with two_sides(tmp_path, limits=limits) as sides:
        side = sides[1]
        fresh(side, 1)
        service = side.server._service
        assert service is not None
        for _ in range(300):
            lines = [Line(opened(side)) for _ in range(dice.choice((1, 5, 30)))]
            for line in lines:
                await line.send(dice.choice((GOOD, GOOD, LAST, GOOD[:20], GOOD + GOOD, b"\0\r\n\r\n", b"")))
            for line in lines:
                line.connection.close()
            for _ in range(20):
                await asyncio.sleep(0)
            assert not service._lobby.held
            assert service._ledger._admitted.taken == 0
        assert service._ledger._refused.taken == 0
        assert service._engine.activity.running == 0
        assert not service._handing
    gc.collect()

    assert [one for one in gc.get_objects() if isinstance(one, Held)] == []
    assert descriptors_open() == descriptors
