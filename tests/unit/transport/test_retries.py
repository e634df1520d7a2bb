from __future__ import annotations

import pytest

from broker.errors import Outcome, RemoteError
from broker.oauth.messages import Request, Response
from broker.oauth.reasons import Reason
from broker.transport.retries import BUDGET, FIRST_WAIT, MAX_TRIES, TRANSIENT, get_with_retries
from tests.fakes import Dice, HandClock
from tests.unit.transport.scripted import ScriptedSession, answer, failure

GET = Request(method="GET", url="https://as.example/jwks")


class Naps:
    """Sleeping without time: it moves a clock by hand, and remembers."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        self.clock.now += seconds


async def get(session: ScriptedSession, naps: Naps | None = None, *, face: float = 0.5) -> Response:
    naps = naps or Naps()
    return await get_with_retries(session, GET, clock=naps.clock, randomness=Dice(face=face), sleep=naps)


@pytest.mark.parametrize("first", [failure(Reason.CONNECT_FAILED), failure(Reason.CONNECTION_LOST, Outcome.UNKNOWN)])
async def test_a_passing_failure_is_bridged(first: RemoteError):
    """A GET changes nothing, so that it does not matter whether the first was processed."""
    session = ScriptedSession([first, answer(200)])

    assert (await get(session)).status == 200
    assert len(session.sent) == 2


async def test_a_failure_that_stays_is_raised_after_three_tries():
    """The last error, not one of tenacity's own."""
    naps = Naps()
    session = ScriptedSession([failure(Reason.CONNECT_FAILED)])

    with pytest.raises(RemoteError) as caught:
        await get(session, naps)

    assert caught.value.code == Reason.CONNECT_FAILED
    assert len(session.sent) == MAX_TRIES == 3
    assert naps.taken == [FIRST_WAIT * 0.5, FIRST_WAIT * 2 * 0.5]


@pytest.mark.parametrize("reason", sorted(set(Reason) - TRANSIENT))
async def test_a_definite_failure_is_not_tried_again(reason: Reason):
    """A refused certificate or document is the same a moment later."""
    session = ScriptedSession([failure(reason, Outcome.UNKNOWN), answer(200)])

    with pytest.raises(RemoteError):
        await get(session)

    assert len(session.sent) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_failing_server_is_asked_again_and_its_last_answer_given(status: int):
    """What the answer means is not judged here."""
    session = ScriptedSession([answer(500), answer(status)])

    assert (await get(session)).status == status
    assert len(session.sent) == MAX_TRIES


@pytest.mark.parametrize(
    "only", [answer(200), answer(302), answer(404), answer(429), answer(503, headers={"retry-after": "5"})]
)
async def test_any_other_answer_is_given_at_once(only: Response):
    """Also the one of a server that says when to come back."""
    session = ScriptedSession([only])

    assert await get(session) is only
    assert len(session.sent) == 1


async def test_a_slow_failure_is_not_tried_again():
    """Three time-outs of ten seconds would hold up a caller for half a minute."""
    naps = Naps()

    class SlowSession(ScriptedSession):
        async def send(self, request: Request) -> Response:
            naps.clock.now += BUDGET
            return await super().send(request)

    session = SlowSession([failure(Reason.TIMED_OUT, Outcome.UNKNOWN)])

    with pytest.raises(RemoteError):
        await get(session, naps)

    assert len(session.sent) == 1


async def test_waits_are_left_to_chance():
    """Brokers that lost a server together do not come back together."""
    naps = Naps()

    await get(ScriptedSession([failure(Reason.CONNECT_FAILED), answer(200)]), naps, face=0.0)

    assert naps.taken == [0.0]


async def test_nothing_but_a_get_is_sent_again():
    """A POST here is a bug that would spend a grant twice."""
    session = ScriptedSession([answer(200)])
    post = Request(method="POST", url="https://as.example/token", form=())

    with pytest.raises(ValueError, match="only a GET"):
        await get_with_retries(session, post, clock=HandClock(), randomness=Dice())

    assert session.sent == []
