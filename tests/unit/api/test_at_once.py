"""A token at once: the same as on the ordinary way, or nothing, and nothing has happened then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from broker.api.answers import Answer
from broker.api.at_once import token_at_once
from broker.api.conditions import Known
from broker.api.serving import get_token
from broker.api.table import Act, Call, Offer
from broker.api.wire import Dates, Writer
from broker.api.world import World
from broker.oauth.secret import AccessToken
from broker.policy.rules import GrantsOf
from tests.fakes import Events, HandClock
from tests.unit.api.handlers import APP, OTHER, STRANGER, call, world
from tests.unit.api.world import FakeTokens, serving, unavailable

DATES = Dates(HandClock())


def made(at: World, asked: Call, *, last: bool = False) -> Act:
    act = token_at_once(at, asked, Writer(dates=DATES, last=last))
    assert act is not None
    return act


TURNS = count()


def offered(act: Act, turn: int | None = None) -> Offer | None:
    """Ask, in a turn of its own unless one is given."""
    return act(next(TURNS) if turn is None else turn)


def written(answer: Answer, *, last: bool = False) -> bytes:
    """Write what the ordinary way answers."""
    return Writer(dates=DATES, last=last).answer(answer)[0]


CALLS: dict[str, Callable[[], Call]] = {
    "a token": call,
    "a bare token": lambda: call(plain_text=True),
    "with a min_valid": lambda: call(min_valid=10),
    "with a wait": lambda: call(wait=10),
    "that is known": lambda: replace(call(), known=Known(tags=frozenset({"an-etag"}))),
    "another than is known": lambda: replace(call(), known=Known(tags=frozenset({"another"}))),
    "if there is any": lambda: replace(call(), known=Known(anything=True)),
    "known, without a wait": lambda: replace(call(wait=0), known=Known(anything=True)),
}


@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("asked", CALLS.values(), ids=CALLS)
async def test_the_answer_and_the_record_are_those_of_the_ordinary_way(
    asked: Callable[[], Call], last: bool, stale: bool
):
    """However often it is asked for."""
    tokens = FakeTokens({"directory": serving(stale=stale)})
    plain, fast = Events(), Events()
    expected = written(await get_token(world(tokens, emit=plain), asked()), last=last)
    act = made(world(tokens, emit=fast), asked(), last=last)

    for _ in range(3):
        offer = offered(act)
        assert offer is not None
        assert (offer.written, offer.last) == (expected, last)
        assert offer.outcome == ("ok" if plain.seen else "not_modified")
        assert ([replace(offer.record, pid=call().peer.pid)] if offer.record else []) == plain.seen
    assert not fast.seen


@pytest.mark.parametrize(
    "text", ['a "quoted" \\ one', '","expires_in":299,"expires_at":1790000300,"x":"', "%d %s {}", "\N{SNOWMAN}\n"]
)
async def test_whatever_a_token_is_made_of_it_comes_out_as_it_is(text: str):
    """Also where it looks like the rest of the answer."""
    tokens = FakeTokens({"directory": serving(access_token=AccessToken(text))})
    expected = written(await get_token(world(tokens), call()))

    offer = offered(made(world(tokens), call()))

    assert offer is not None
    assert offer.written == expected


async def test_what_changes_is_in_the_next_answer():
    """Another token, another second, another number of digits, staleness."""
    tokens = FakeTokens({"directory": serving()})
    act = made(world(tokens), call())
    later = [
        replace(serving(), expires_in=298, expires_at=1_790_000_301),
        replace(serving(), expires_in=9),
        serving(stale=True),
        serving(access_token=AccessToken("another"), etag="another", generation=8),
    ]
    for changed in later:
        tokens.answers["directory"] = changed
        offer = offered(act)
        assert offer is not None
        assert offer.written == written(await get_token(world(tokens), call()))


def test_a_token_that_is_waited_for_is_left_to_the_ordinary_way():
    """A long poll has nothing to tell at once."""
    polling = replace(call(wait=10), known=Known(anything=True))

    assert token_at_once(world(), polling, Writer(dates=DATES, last=False)) is None


def unanswered(at: World, asked: Call) -> None:
    """Fail unless nothing is answered, and nothing was done."""
    events: Any = at.emit
    before = list(events.seen)

    assert offered(made(at, asked)) is None
    assert events.seen == before


def test_what_is_refused_is_left_to_the_ordinary_way():
    """A stranger, somebody else's token, one that is not configured."""
    for asked in (call(peer=STRANGER), call("payments"), call("nobody")):
        unanswered(world(), asked)


def test_what_is_not_there_is_left_to_the_ordinary_way():
    """It may have to be waited for."""
    unanswered(world(FakeTokens({"directory": unavailable()})), call())


def test_it_looks_once_in_a_turn():
    """Nothing else runs in one; whatever has changed is seen in the next."""
    tokens = FakeTokens({"directory": serving()})
    act = made(world(tokens), call())
    before = offered(act, 1)
    tokens.answers["directory"] = serving(access_token=AccessToken("another"), etag="another", generation=8)

    assert offered(act, 1) is before
    assert offered(act, 2) is not before
    del tokens.answers["directory"]
    assert offered(act, 3) is None


def test_the_very_same_answer_is_given_while_nothing_changes():
    """So that it is written once; its record stays the same for as long as only the time changes."""
    now = serving()
    tokens = FakeTokens({"directory": now})
    act = made(world(tokens), call())
    first, second = offered(act), offered(act)
    tokens.answers["directory"] = replace(now, expires_in=298, expires_at=1_790_000_301)
    third = offered(act)

    assert first is second is not third
    assert first is not None
    assert third is not None
    assert first.record is third.record is not None


def test_what_was_known_and_is_not_any_more_is_written_anew():
    """Back and forth within one second: an answer without a token is not taken for one with it."""
    first, second = serving(), serving(access_token=AccessToken("another"), etag="another", generation=8)
    tokens = FakeTokens({"directory": second})
    act = made(world(tokens), replace(call(), known=Known(tags=frozenset({"an-etag"}))))
    outcomes = []
    for now in (second, first, second, first):
        tokens.answers["directory"] = now
        offer = offered(act)
        outcomes.append(None if offer is None else offer.outcome)

    assert outcomes == ["ok", "not_modified", "ok", "not_modified"]


async def test_when_the_broker_stops_all_is_left_to_the_ordinary_way():
    """It knows what to say."""
    at = world()
    act = made(at, call())
    assert offered(act) is not None
    at.waiting.close()

    assert offered(act) is None


def test_another_policy_decides_the_next_request():
    """Against it, and for it again."""
    at = world()
    act, policy = made(at, call()), at.policy
    assert offered(act) is not None
    at.replace_policy(replace(policy, workloads=(OTHER,)))
    assert offered(act) is None
    at.replace_policy(replace(policy, workloads=(OTHER, APP, replace(APP, name="again"))))
    offer = offered(act)

    assert offer is not None
    assert offer.record is not None
    assert offer.record.workload == "app,again"


def test_a_name_that_is_not_configured_any_more_is_not_served():
    """Whatever was decided before."""
    tokens = FakeTokens({"directory": serving()})
    act = made(world(tokens), call())
    assert offered(act) is not None
    tokens.answers.clear()

    assert offered(act) is None


def test_a_grant_of_another_owner_is_asked_for_again():
    """An operator may have given it to another workload."""
    own = replace(APP, grants=GrantsOf.OWN)
    owners = {"g": "app"}

    class Grants:
        def grant(self, grant_id: str) -> Any:
            return type("Grant", (), {"owner": owners[grant_id]})

    class OfGrant(FakeTokens):
        def grant_of(self, name: str) -> str | None:
            return "g"

    at = world(OfGrant({"directory": serving()}))
    at.grants = Grants()  # type: ignore[assignment]
    at.replace_policy(replace(at.policy, workloads=(own,)))
    act = made(at, call())
    assert offered(act) is not None
    owners["g"] = "other"

    assert offered(act) is None
