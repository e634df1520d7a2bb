from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.tokens.grant import Grant
from broker.tokens.grant_index import AT_ONCE, GrantIndex
from broker.tokens.grant_keeper import GrantKeeper
from tests.fakes import Dice, HandClock
from tests.unit.tokens.grant_world import ISSUER, SPEC


def keeper_of(token: str, client: str = "app") -> GrantKeeper:
    spec = replace(SPEC, name=token, client=client)
    return GrantKeeper(spec, ISSUER, clock=HandClock(), randomness=Dice(), emit=lambda _: None)


def test_grants_are_found_by_id_and_by_token():
    """Without a look at the others: there may be ten thousand."""
    index, first, second, other = GrantIndex(), keeper_of("person"), keeper_of("person"), keeper_of("other")
    index.add("a", first)
    index.add("b", second)
    index.add("c", other)

    assert (index["a"], list(index), len(index)) == (first, ["a", "b", "c"], 3)
    assert index.of("person") == {"a": first, "b": second}
    assert index.of("nobody") == {}


def test_grants_are_found_by_the_client_of_their_token():
    """It may have several tokens, and some of them no grant any more."""
    index, first, second = GrantIndex(), keeper_of("person"), keeper_of("account")
    index.add("a", first)
    index.add("b", keeper_of("other", "another"))
    index.add("c", second)
    index.add("d", keeper_of("gone"))
    index.pop("d")

    assert index.of_client("app") == (first, second)
    assert index.of_client("nobody") == ()


def test_a_grant_that_is_gone_is_gone_from_both():
    """And asking for it says so."""
    index, keeper = GrantIndex(), keeper_of("person")
    index.add("a", keeper)

    assert index.pop("a") is keeper

    assert "a" not in index
    assert index.of("person") == {}
    with pytest.raises(KeyError):
        index.pop("a")


async def test_a_long_list_lets_others_have_their_turn():
    """However many grants there are; the lowest ids are the answer."""
    index, keeper = GrantIndex(), keeper_of("person")
    keeper.begin_with(Grant(id="x", token="person", owner="app", issuer="i", client_id="c", created_at=1.0), None)
    for number in range(4 * AT_ONCE):
        index.add(f"{number:05}", keeper)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        other = group.create_task(others())
        found = await index.first(3, {"person": None, "other": None}, subject=None, after="00009")
        nobody = await index.first(3, {"person": frozenset({"another"})}, subject=None, after=None)
        other.cancel()

    assert found == ["00010", "00011", "00012"]
    assert nobody == []
    assert turns >= 8
