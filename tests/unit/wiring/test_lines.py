"""The right connection for a token is there for as long as the token is, and ends when its calls do."""

from __future__ import annotations

import asyncio
from typing import cast

from broker.transport.upstream import UpstreamLine
from broker.wiring.lines import LAST_CALLS, UpstreamLines


class FakeLine:
    """A line with calls under way that says when it is closed."""

    def __init__(self, thumbprint: str | None, *, busy_for: float = 0.0) -> None:
        self.thumbprint = thumbprint
        self.busy_for = busy_for
        self.closed_at: float | None = None

    async def drained(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, self.busy_for))

    async def close(self) -> None:
        if self.closed_at is None:
            self.closed_at = asyncio.get_running_loop().time()


def lines(**given: FakeLine) -> UpstreamLines:
    return UpstreamLines(cast("dict[str, UpstreamLine]", given))


def adopt(held: UpstreamLines, *earlier: FakeLine, **given: FakeLine) -> None:
    """Put lines to use, and lines to ``api`` with *earlier* certificates."""
    again = tuple(("api", cast("UpstreamLine", line)) for line in earlier)
    held.adopt(cast("dict[str, UpstreamLine]", given), again)


def found(held: UpstreamLines, upstream: str, thumbprint: str | None) -> object:
    return held.line(upstream, thumbprint)


async def settle(seconds: float = 1.0) -> None:
    await asyncio.sleep(seconds)


async def test_a_token_goes_out_with_the_certificate_that_it_is_bound_to():
    """Of now, or of before; one that is bound to nothing with that of now."""
    old, new = FakeLine("t1"), FakeLine("t2")
    held = lines(api=FakeLine("t1"))

    adopt(held, old, api=new)

    assert found(held, "api", "t1") is old
    assert found(held, "api", "t2") is new
    assert found(held, "api", None) is new
    assert found(held, "api", "t3") is None
    assert found(held, "other", None) is None
    await held.close()


async def test_a_line_ends_when_nothing_is_bound_to_its_certificate_and_its_calls_are_over():
    """The one in force does not."""
    old, new = FakeLine("t1", busy_for=5.0), FakeLine("t2")
    held = lines(api=FakeLine("t1"))
    adopt(held, old, api=new)
    held.retire("t2")
    held.retire("t1")
    began = asyncio.get_running_loop().time()

    await settle(10.0)

    assert found(held, "api", "t1") is None
    assert found(held, "api", "t2") is new
    assert old.closed_at == began + 5.0
    assert new.closed_at is None
    await held.close()
    assert new.closed_at is not None


async def test_a_line_that_is_replaced_by_one_like_it_ends():
    """Another CA file, other time-outs: whoever calls now goes by the new one."""
    old, new, gone = FakeLine("t1"), FakeLine("t1"), FakeLine("t1")
    held = lines(api=old, other=gone)

    adopt(held, api=new)
    await settle()

    assert found(held, "api", "t1") is new
    assert found(held, "other", "t1") is None
    assert old.closed_at is not None
    assert gone.closed_at is not None
    await held.close()


async def test_a_line_with_an_earlier_certificate_is_replaced_like_all_others():
    """It would go on trusting a CA that is none any more; its calls that are under way end first."""
    old, again = FakeLine("t1", busy_for=5.0), FakeLine("t1")
    held = lines(api=old)
    began = asyncio.get_running_loop().time()

    adopt(held, again, api=FakeLine("t2"))
    await settle(10.0)

    assert found(held, "api", "t1") is again
    assert (old.closed_at, again.closed_at) == (began + 5.0, None)
    assert held.shown() == {"api": ("t1", "t2")}
    await held.close()


async def test_an_earlier_certificate_that_was_retired_meanwhile_does_not_come_back():
    """Lines are built while others go on; nobody would end one that comes too late."""
    held = lines(api=FakeLine("t1"))
    adopt(held, FakeLine("t1"), api=FakeLine("t2"))
    held.retire("t1")

    adopt(held, FakeLine("t1"), api=FakeLine("t3"))

    assert found(held, "api", "t1") is None
    assert held.shown() == {"api": ("t3",)}
    await held.close()


async def test_the_last_calls_have_an_end():
    """A caller that never reads keeps no old certificate in use for ever."""
    old = FakeLine("t1", busy_for=1e9)
    held = lines(api=old)
    began = asyncio.get_running_loop().time()
    adopt(held)
    await settle(LAST_CALLS + 1.0)

    assert old.closed_at == began + LAST_CALLS


async def test_closing_waits_for_nobody():
    """Also not for what was ending by itself."""
    ending, current = FakeLine("t1", busy_for=50.0), FakeLine("t2")
    held = lines(api=ending)
    adopt(held, api=FakeLine("t1"))
    adopt(held, api=current)
    began = asyncio.get_running_loop().time()

    await held.close()

    assert ending.closed_at == began
    assert current.closed_at == began
