from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from broker.errors import BrokerError
from broker.tokens.served import LAST_MOMENT, Served
from broker.tokens.serving import Standing, unavailable
from broker.tokens.spec import IssuedToken
from tests.fakes import LoopClock
from tests.jumping import advance
from tests.unit.tokens.tokens import issued


@dataclass
class Stands:
    """How the one that is served stands."""

    token: IssuedToken | None = None
    running: bool = False
    due_at: float | None = None


class One(Served):
    """Serves what the test says."""

    def __init__(self, stands: Stands, clock: LoopClock) -> None:
        super().__init__(clock=clock)
        self.stands = stands

    def in_hand(self) -> IssuedToken | None:
        return self.stands.token

    def standing(self) -> Standing:
        return Standing(etag=None if self.stands.token is None else self.stands.token.etag, failing=False)

    def is_running(self) -> bool:
        return self.stands.running

    def is_stale(self) -> bool:
        return False

    def wake_at(self) -> float | None:
        return self.stands.due_at

    def nothing(self) -> BrokerError:
        return unavailable(None, retry_in=1.0)


def one(*, lifetime: float | None = None, running: bool = False, due_in: float | None = None) -> One:
    clock = LoopClock()
    now = clock.boot()
    token = None if lifetime is None else issued(at=now, lifetime=lifetime)
    return One(Stands(token=token, running=running, due_at=None if due_in is None else now + due_in), clock)


@pytest.mark.parametrize(
    ("lifetime", "running", "due_in", "patience"),
    [
        (300.0, True, None, 10.0),
        (5.0, True, None, 5.0 - LAST_MOMENT),
        (300.0, False, 1.0, 0.0),
        (0.5, False, 1.0, 10.0),
        (None, True, None, 10.0),
        (None, False, 9.0, 10.0),
        (None, False, 11.0, 0.0),
        (None, False, None, 0.0),
    ],
)
async def test_a_wait_is_as_long_as_it_may_help(
    lifetime: float | None, running: bool, due_in: float | None, patience: float
):
    """With something in hand only what runs is waited for, and not until there is nothing."""
    served = one(lifetime=lifetime, running=running, due_in=due_in)

    assert served.patience(10.0) == pytest.approx(patience)


async def test_what_is_left_is_less_where_the_certificate_ends_before():
    """Its end is a date: by the wall clock, whatever it was when the token was issued."""
    served = one(lifetime=300.0)
    assert served.stands.token is not None
    served.stands.token = replace(served.stands.token, certificate_not_after=LoopClock().wall() + 40.0)

    assert served.left() == pytest.approx(40.0)
    serving = served.servable(None)
    assert serving is not None
    assert serving.expires_in in (39, 40)
    advance(40)
    assert served.servable(None) is None
    with pytest.raises(BrokerError):
        served.last_resort()


async def test_the_last_of_a_token_is_given_as_not_enough():
    """To whoever wanted more, and there is no more."""
    served = one(lifetime=300.0)
    advance(280)

    assert served.servable(60.0) is None
    assert served.last_resort().enough is False


async def test_a_change_wakes_who_waits_for_the_token_and_only_news_who_waits_for_news():
    """One change wakes all, and each waits for the next one anew."""
    served = one()
    news = served.news()
    changes = [asyncio.create_task(served.change()) for _ in range(3)]
    await asyncio.sleep(0)
    assert served.news() is news

    served.announce(news=False)
    await asyncio.gather(*changes)
    assert not news.done()

    served.announce()
    assert news.done()
    assert not served.news().done()


async def test_who_gives_up_takes_the_change_from_nobody():
    """It is shared."""
    served = one()
    gone, stays = asyncio.create_task(served.change()), asyncio.create_task(served.change())
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    assert not stays.done()

    served.announce()
    await stays


async def test_what_the_token_in_hand_is_bound_to_can_be_asked():
    """Nothing is bound where there is none."""
    assert one(lifetime=10.0).is_bound_to({"thumb"})
    assert not one(lifetime=10.0).is_bound_to({"other"})
    assert not one().is_bound_to({"thumb"})


async def test_a_token_is_bound_to_a_dpop_key_as_well_as_to_a_certificate():
    """Whatever of both is in wrong hands."""
    clock = LoopClock()
    bound = replace(issued(at=clock.boot()), certificate_thumbprint=None, jkt="key-1")
    served = One(Stands(token=bound), clock)

    assert served.is_bound_to({"key-1"})
    assert not served.is_bound_to({"thumb"})
