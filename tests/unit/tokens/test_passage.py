from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.errors import Outcome, RemoteError
from broker.events import ClientResumed, ClientSuspended
from broker.oauth.client import Issuer
from broker.oauth.reasons import Reason
from broker.tokens.acquire import Registration
from broker.tokens.exchange import Exchange
from broker.tokens.passage import Passage
from tests.fakes import Dice, Events, LoopClock
from tests.unit.tokens.world import CLIENT, FakeMetadata, FakeSession

ISSUER = Issuer(name="as", issuer="https://as.example", max_concurrent_requests=1, max_requests_per_second=2)


def registration(client: str, thumbprint: str | None = "old") -> Registration:
    session = FakeSession(thumbprint=thumbprint)
    exchange = Exchange(session=session, signer=None, clock=LoopClock(), randomness=Dice())
    return Registration(client=replace(CLIENT, name=client), issuer=ISSUER, metadata=FakeMetadata(), exchange=exchange)


APP, OTHER, NEW = registration("app"), registration("other"), registration("new")
NEWER_APP = registration("app", "newer")
SUSPECTED = RemoteError(Reason.CERTIFICATE_SUSPECTED, "reset", outcome=Outcome.UNKNOWN)


class OverError(Exception):
    """Nobody wants it any longer."""


def passage() -> tuple[Passage, Events]:
    events = Events()
    return Passage(clock=LoopClock(), emit=events), events


async def pass_through(
    here: Passage, who: object, order: list[object], *, rank: float = 0.0, wanted: Callable[[], None] = lambda: None
) -> None:
    try:
        async with here.turn(who, APP, rank=rank, still_wanted=wanted):
            order.append(who)
    except OverError:
        pass
    finally:
        here.done(who)


async def refuse() -> None:
    raise SUSPECTED


async def answer() -> str:
    return "answer"


async def suspend(here: Passage, client: Registration) -> None:
    """Let three requests of *client* in a row speak against its certificate."""
    for _ in range(3):
        with pytest.raises(RemoteError):
            await here.guarded(client, refuse)
        await asyncio.sleep(1.0)


async def test_turns_come_by_rank_and_haste_comes_first():
    """At the issuer's rate; a caller that waits is before whatever waits for nobody."""
    here, _ = passage()
    order: list[object] = []
    async with asyncio.TaskGroup() as group:
        for who, rank in (("a", 1.0), ("b", 3.0), ("c", 2.0), ("d", 4.0)):
            group.create_task(pass_through(here, who, order, rank=rank))
        await asyncio.sleep(0)
        here.hasten("d")

    assert order == ["a", "d", "c", "b"]


async def test_haste_may_come_before_the_turn_is_asked_for():
    """The request is still being drafted when a caller comes."""
    here, _ = passage()
    order: list[object] = []
    here.hasten("late")
    async with asyncio.TaskGroup() as group:
        for who in ("a", "b", "c", "late"):
            group.create_task(pass_through(here, who, order, rank=9.0))

    assert order[:2] == ["a", "late"]


async def test_a_turn_that_nobody_wants_any_longer_is_the_next_ones():
    """At once: nothing was sent in it. It takes nobody's haste along."""
    here, _ = passage()
    order: list[object] = []

    def over() -> None:
        raise OverError

    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(pass_through(here, ("gone", number), order, rank=0.0, wanted=over))
        group.create_task(pass_through(here, "wanted", order, rank=5.0))
        async with asyncio.timeout(2.0):
            while "wanted" not in order:
                await asyncio.sleep(0.1)

    assert order == ["wanted"]


async def test_three_suspicions_in_a_row_hold_a_client_back_and_an_answer_lets_it_go():
    """For all requests of the client; others pass. Everybody who keeps something of it is told."""
    here, events = passage()
    told: list[str] = []
    here.on_resumed(told.append)
    here.on_resumed(told.append)
    await suspend(here, APP)

    for request in (lambda: here.guarded(APP, answer), lambda: pass_through(here, "x", [])):
        with pytest.raises(RemoteError) as raised:
            await request()
        assert raised.value.code == Reason.CLIENT_SUSPENDED
    assert await here.guarded(OTHER, answer) == "answer"
    assert [event.client for event in events.of(ClientSuspended)] == ["app"]

    await asyncio.sleep(60.0)
    assert await here.guarded(APP, answer) == "answer"
    assert [event.client for event in events.of(ClientResumed)] == ["app"]
    assert told == ["app", "app"]


async def test_a_reload_lets_a_suspended_client_probe_at_once():
    """Its certificate may have been replaced."""
    here, _ = passage()
    await suspend(here, APP)

    here.replace((APP, NEW))

    assert await here.guarded(APP, answer) == "answer"
    assert await here.guarded(NEW, answer) == "answer"


async def test_an_older_certificate_that_is_good_goes_on_beside_one_that_is_refused():
    """Else a client's own tokens, which try the new one at once, would hold back the grants that wait (R8)."""
    here, events = passage()
    here.replace((NEWER_APP,))
    await suspend(here, NEWER_APP)

    assert await here.guarded(APP, answer) == "answer"
    with pytest.raises(RemoteError) as raised:
        await here.guarded(NEWER_APP, answer)
    assert raised.value.code == Reason.CLIENT_SUSPENDED
    assert events.of(ClientResumed) == []


async def test_a_suspended_client_is_resumed_once_it_is_answered_with_a_newer_certificate():
    """Not before: until then requests with it are probes, and what was held against the older one is over then."""
    here, events = passage()
    await suspend(here, APP)

    here.replace((NEWER_APP,))
    with pytest.raises(RemoteError):
        await here.guarded(NEWER_APP, refuse)
    with pytest.raises(RemoteError) as held_back:
        await here.guarded(NEWER_APP, answer)
    assert held_back.value.code == Reason.CLIENT_SUSPENDED

    here.replace((NEWER_APP,))
    assert await here.guarded(NEWER_APP, answer) == "answer"
    assert await here.guarded(APP, answer) == "answer"
    assert [event.client for event in events.of(ClientSuspended)] == ["app"]
    assert [event.client for event in events.of(ClientResumed)] == ["app"]


async def test_what_spoke_against_an_older_certificate_is_over_when_the_newest_is_known_to_be_taken():
    """Nobody might present the older one again; other clients have nothing of it."""
    here, events = passage()
    told: list[str] = []
    here.on_resumed(told.append)
    await suspend(here, APP)
    await suspend(here, OTHER)

    here.trust(NEWER_APP)
    here.trust(NEWER_APP)

    assert await here.guarded(APP, answer) == "answer"
    with pytest.raises(RemoteError):
        await here.guarded(OTHER, answer)
    assert told == [event.client for event in events.of(ClientResumed)] == ["app"]
