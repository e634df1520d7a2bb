from __future__ import annotations

from dataclasses import replace

import pytest

from broker.errors import RemoteError
from broker.oauth.jwks import JwkSet, KeyNotFoundError
from broker.oauth.reasons import Reason
from broker.tokens.acquire import Registration
from broker.tokens.verifying import with_keys
from tests.unit.tokens.grant_world import GrantWorld, Keys, RotatingServer

OLD, NEW = JwkSet(keys=()), JwkSet(keys=())


def publishing(*sets: JwkSet) -> Registration:
    """Give a client of an issuer that publishes these, one after the other."""
    return replace(GrantWorld(RotatingServer()).registration(), keys=Keys(*sets))


def missing(_: JwkSet) -> str:
    raise KeyNotFoundError(Reason.KEYS_UNAVAILABLE)


async def test_keys_are_fetched_anew_once_where_one_is_missing():
    """An issuer may have a new one since (JWKS-03); what is found with the first set is enough."""
    seen: list[JwkSet] = []

    def with_the_second(keys: JwkSet) -> str:
        seen.append(keys)
        return "read" if len(seen) == 2 else missing(keys)

    assert await with_keys(publishing(OLD), lambda _: "at once") == "at once"
    assert await with_keys(publishing(OLD, NEW), with_the_second) == "read"
    assert [one is NEW for one in seen] == [False, True]


@pytest.mark.parametrize("sets", [(OLD,), (OLD, NEW)])
async def test_a_key_that_is_missing_from_the_newest_set_is_missing(sets: tuple[JwkSet, ...]):
    """However many there were before."""
    with pytest.raises(KeyNotFoundError):
        await with_keys(publishing(*sets), missing)


async def test_an_issuer_without_keys_can_have_nothing_checked():
    """Nothing is taken on trust."""
    with pytest.raises(RemoteError) as refused:
        await with_keys(GrantWorld(RotatingServer()).registration(), lambda _: "read")

    assert refused.value.code == Reason.KEYS_UNAVAILABLE
