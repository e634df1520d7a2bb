"""The routes of the API sockets."""

from __future__ import annotations

import json

import pytest

from broker.api import problems
from broker.api.answers import Answer
from broker.api.problems import ProblemError
from broker.api.routes import API_ROUTES, list_tokens, live, ready, ready_one
from broker.api.table import Call
from broker.policy.peer import Peer
from broker.tokens.serving import TokenState, TokenStatus
from tests.unit.api.handlers import PEER, ROOT, STRANGER, UNKNOWN, call, world
from tests.unit.api.world import FakeTokens, serving


async def test_the_list_holds_the_callers_own_tokens():
    """How they stand, as far as it is known, and no token."""
    tokens = FakeTokens(
        answers={"payments": serving(), "directory": serving(), "ledger": serving()},
        states={
            "ledger": TokenStatus(
                name="ledger",
                state=TokenState.UNAVAILABLE,
                required=True,
                reason="connect_failed",
                hint="is it running?",
                retry_in=4,
            )
        },
    )

    answer = await list_tokens(world(tokens), call())

    assert json.loads(answer.body) == {
        "tokens": [
            {"name": "directory", "state": "fresh", "expires_in": 299},
            {
                "name": "ledger",
                "state": "unavailable",
                "reason": "connect_failed",
                "hint": "is it running?",
                "retry_in": 4,
            },
        ]
    }


@pytest.mark.parametrize("peer", [ROOT, Peer(listener="api", uid=900)])
async def test_root_and_our_own_uid_see_every_state(peer: Peer):
    """For status and doctor."""
    answer = await list_tokens(world(), call(peer=peer))

    assert names_in(answer) == ["directory", "payments", "ledger"]


async def test_a_caller_that_may_list_sees_its_token():
    """Whatever it may do with it, it is its own."""
    answer = await list_tokens(world(), call(peer=Peer(listener="api", uid=3000)))

    assert names_in(answer) == ["directory"]


@pytest.mark.parametrize("peer", [STRANGER, UNKNOWN])
async def test_a_stranger_has_no_list(peer: Peer):
    """An empty one would look like a configuration without tokens."""
    with pytest.raises(ProblemError) as caught:
        await list_tokens(world(), call(peer=peer))

    assert (caught.value.problem.status, caught.value.problem.reason) == (403, "no_workload")


async def test_readiness_shows_a_caller_its_own_tokens():
    """Anybody may ask, nobody learns the names of others."""
    shown = {
        name: list(json.loads((await ready(world(), call(peer=peer))).body)["tokens"])
        for name, peer in {"app": PEER, "stranger": STRANGER, "root": ROOT}.items()
    }

    assert shown == {
        "app": ["directory", "ledger"],
        "stranger": [],
        "root": ["directory", "payments", "ledger"],
    }


@pytest.mark.parametrize(
    ("peer", "name", "status"),
    [
        (PEER, "directory", 200),
        (PEER, "payments", 404),  # another's
        (PEER, "nothing", 404),
        (STRANGER, "directory", 404),
        (ROOT, "payments", 200),
    ],
)
async def test_the_readiness_of_one_token_is_for_those_who_may_know_of_it(peer: Peer, name: str, status: int):
    """An unknown name and a foreign one are alike."""
    request = Call(peer=peer, name=name)

    if status == 200:
        assert json.loads((await ready_one(world(), request)).body)["status"] == "ready"
    else:
        with pytest.raises(ProblemError) as caught:
            await ready_one(world(), request)
        assert caught.value.problem == problems.ROUTE_UNKNOWN


@pytest.mark.parametrize(
    ("peer", "shown"), [(ROOT, ["listener", "audit"]), (PEER, None), (STRANGER, None)], ids=["root", "app", "stranger"]
)
async def test_what_waits_for_a_restart_is_shown_to_whoever_can_restart(peer: Peer, shown: list[str] | None):
    """The sections of the configuration are nothing for a workload."""
    changed = world()
    changed.restart = lambda: ("listener", "audit")
    changed.refused = lambda: True

    members = json.loads((await ready(changed, call(peer=peer))).body)

    assert members.get("restart") == shown
    assert members.get("reload_refused") is (None if shown is None else True)


async def test_readiness_shows_sandbox_issuers():
    """They come from whoever keeps the metadata."""
    assert json.loads((await ready(world(), call())).body)["sandbox"] == ["play"]


async def test_being_alive_depends_on_nothing():
    """The socket serves: that is all it means."""
    assert json.loads((await live(None, call())).body) == {"status": "ok"}


def test_every_route_of_a_token_asks_the_policy():
    """A later route that forgets it would be found here."""
    with_tokens = [route for route in API_ROUTES if route.template.startswith("/v1/") and "{name}" in route.template]

    assert with_tokens
    assert all(route.action is not None for route in with_tokens)


def test_no_method_and_path_is_there_twice():
    """The first would hide the second."""
    keys = [(route.method, route.template) for route in API_ROUTES]

    assert len(set(keys)) == len(keys)


def names_in(answer: Answer) -> list[str]:
    return [token["name"] for token in json.loads(answer.body)["tokens"]]


@pytest.mark.parametrize("peer", [STRANGER, UNKNOWN])
def test_no_route_reads_a_body_of_a_stranger(peer: Peer):
    """Each asks before, so that nobody holds a place by sending slowly what will be refused."""
    taking = [route for route in API_ROUTES if route.body is not None]
    assert taking
    for route in taking:
        assert route.enter is not None
        with pytest.raises(ProblemError) as refused:
            route.enter(world(), call(peer=peer, name="directory"))
        hidden = route.template == "/v1/authorizations/{id}/callback"
        assert refused.value.problem.status == (404 if hidden else 403)
