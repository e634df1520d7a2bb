from __future__ import annotations

import asyncio

from broker.errors import RemoteError
from broker.events import (
    ClientSuspected,
    ClientTrusted,
    GrantEnded,
    GrantRevived,
)
from broker.oauth.client import RefreshRotation
from broker.oauth.messages import Response
from broker.tokens.grant import Phase
from tests.jumping import loop_time
from tests.unit.tokens.bearer_world import BearerWorld
from tests.unit.tokens.grant_world import GrantWorld, RotatingServer, not_sent
from tests.unit.tokens.world import json_response


async def test_a_storm_of_refusals_ends_no_grant():
    """R2.7: the server lost its mind; when it is back everything goes on, and those that are really gone are told."""
    world = GrantWorld(RotatingServer("strict"))
    names = [f"g{number:02}" for number in range(40)]
    world.stored(*names)
    async with world.running() as grants:
        await asyncio.sleep(10.0)
        world.server.before = lambda _: json_response({"error": "invalid_grant"}, status=400)
        await asyncio.sleep(1800.0)
        assert len(world.events.of(ClientSuspected)) == 1
        assert all(grants.grant(name).phase is not Phase.ENDED for name in names)
        before = len(world.server.at)

        world.server.before = lambda _: None
        world.server.dead |= {"g07", "g21", "g33"}
        await asyncio.sleep(3600.0)

        assert len(world.server.at) > before
        assert len(world.events.of(ClientTrusted)) >= 1
        ended = {name for name in names if grants.grant(name).phase is Phase.ENDED}
        assert ended == {"g07", "g21", "g33"}
        assert all(grants.status(name).expires_in for name in names if name not in ended)
    revived = {event.grant for event in world.events.of(GrantRevived)}
    assert revived <= {event.grant for event in world.events.of(GrantEnded)}


async def test_a_suspect_client_asks_once_in_three_minutes():
    """Not forty grants, each on its own backoff."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored(*(f"g{number:02}" for number in range(40)))
    asked: list[float] = []

    def refuse(_: dict[str, str]) -> Response:
        asked.append(loop_time())
        return json_response({"error": "invalid_grant"}, status=400)

    world.server.before = refuse
    async with world.running():
        await asyncio.sleep(60.0)
        at_first = len(asked)
        await asyncio.sleep(1800.0)

    assert at_first <= 60
    assert len(asked) - at_first <= 11


async def test_a_suspect_clients_lost_answers_end_no_grant_either():
    """R2.7: change no grant; whatever such a server says of one that is in doubt is no definite word."""
    world = GrantWorld(RotatingServer("strict"), rotation=RefreshRotation.STRICT)
    doubtful = [f"d{number:02}" for number in range(20)]
    world.stored(*doubtful, phase=Phase.OPEN)
    world.stored(*(f"g{number:02}" for number in range(5)))
    world.server.before = lambda _: json_response({"error": "invalid_grant"}, status=400)
    async with world.running() as grants:
        await asyncio.sleep(3600.0)
        assert len(world.events.of(ClientSuspected)) == 1
        assert {grants.grant(name).phase for name in doubtful} == {Phase.OPEN}

        world.server.before = lambda _: None
        await asyncio.sleep(1800.0)
        assert all(grants.status(name).expires_in for name in doubtful)


async def test_what_is_refused_of_suspect_records_speaks_against_no_client():
    """R3: each is tried once; that an older refresh token is refused says nothing about the others."""
    world = GrantWorld(RotatingServer("strict"))
    older = [f"g{number}" for number in range(5)]
    world.stored(*older, "good", "whole")
    world.store.suspect = {f"grant/{name}" for name in (*older, "good")}
    for name in older:
        world.server.dead.add(name)
    async with world.running() as grants:
        await asyncio.sleep(600.0)
        statuses = {name: grants.status(name) for name in (*older, "good", "whole")}

    asked = [token for token in world.server.asked if token.removeprefix("rt-").split("-")[0] in older]
    assert len(asked) == len(set(asked)) == len(older)
    assert world.events.of(ClientSuspected) == []
    assert {(event.grant, event.reason) for event in world.events.of(GrantEnded)} == {
        (name, "lost_answer") for name in older
    }
    assert [statuses[name].state for name in ("good", "whole")] == ["fresh", "fresh"]


async def test_a_suspect_client_brings_no_grant_back_that_nothing_could_be_asked_with():
    """R2.7 takes verdicts back; that there is no access token is none, and would only be said again."""
    world = BearerWorld()
    world.consented("ended", access=None)
    world.consented("b", "c", lifetime=40.0)
    refused: set[str] = set()

    def once(fields: dict[str, str]) -> Response | RemoteError:
        again = fields["refresh_token"] in refused
        refused.add(fields["refresh_token"])
        return not_sent() if again else json_response({"error": "invalid_grant"}, status=400)

    world.server.before = once
    async with world.running() as grants:
        await asyncio.sleep(21.0)
        assert grants.grant("ended").reason == "access_token_ended"
        await asyncio.sleep(18.0)
        assert len(world.events.of(ClientSuspected)) == 1
        await asyncio.sleep(600.0)

        assert grants.grant("ended").phase is Phase.ENDED
    assert [event.grant for event in world.events.of(GrantEnded)].count("ended") == 1
    assert "ended" not in {event.grant for event in world.events.of(GrantRevived)}
