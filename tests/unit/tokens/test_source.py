"""Tokens by name, wherever they are kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from broker.tokens.serving import ConsentRequiredError, GrantRequiredError, TokenState
from broker.tokens.source import NO_CONSENT, Tokens
from broker.tokens.spec import Consent, Grants, Refresh, TokenSpec
from tests.unit.consent.world import SPEC, ConsentWorld
from tests.unit.tokens.tokens import spec
from tests.unit.tokens.world import running

PEOPLE = replace(SPEC, name="people", consent=Consent(grants=Grants.MANY))
PLAIN = spec()


def ignore() -> None:
    """Take in that an attempt begins."""


class Both:
    """A registry and grants, running."""

    def __init__(self, person: TokenSpec = SPEC) -> None:
        self.person = person
        self.consents = ConsentWorld(specs=(person, PEOPLE))

    async def tokens(self, test: Any) -> None:
        async with running(PLAIN) as world, self.consents.running() as consents:
            await test(Tokens(world.registry, consents.grants, (PEOPLE, PLAIN, self.person)), consents)


async def test_all_names_are_there_in_the_order_of_the_configuration():
    """That of the moment: after a reload those of the new one."""

    async def test(tokens: Tokens, _: ConsentWorld) -> None:
        before = tokens.names()
        assert list(before) == ["people", PLAIN.name, "person"]
        tokens.replace((SPEC,))
        assert list(tokens.names()) == ["person"]
        assert list(before) == ["people", PLAIN.name, "person"]
        assert list(tokens.required()) == [one.name for one in (SPEC,) if one.required]
        tokens.replace((replace(SPEC, required=True), replace(PLAIN, required=False)))
        assert list(tokens.required()) == ["person"]
        tokens.replace((SPEC,))
        with pytest.raises(KeyError):
            tokens.status("people")

    await Both().tokens(test)


async def test_a_token_that_nobody_consents_to_is_the_registrys():
    """Got, refreshed, watched, described."""

    async def test(tokens: Tokens, _: ConsentWorld) -> None:
        serving = await tokens.get(PLAIN.name, min_valid=None, wait=10.0)
        again = await tokens.refresh(PLAIN.name, rejected=None, wait=10.0, begun=ignore)
        with tokens.watch(PLAIN.name) as watch:
            assert watch.standing().etag == again.token.etag
        assert serving.token.issuer == "https://as.example"
        assert tokens.status(PLAIN.name).state is TokenState.FRESH
        assert tokens.grant_of(PLAIN.name) is None

    await Both().tokens(test)


async def test_a_token_with_one_grant_is_that_grants():
    """Got, refreshed, watched, described."""

    async def test(tokens: Tokens, consents: ConsentWorld) -> None:
        redeemed = await consents.consent()
        serving = await tokens.get("person", min_valid=None, wait=0.0)
        again = await tokens.refresh("person", rejected=None, wait=10.0, begun=ignore)
        with tokens.watch("person") as watch:
            assert watch.standing().etag == again.token.etag
        status = tokens.status("person")
        assert serving.token == redeemed.token
        assert (status.state, status.hint) == (TokenState.FRESH, None)
        assert status.expires_in is not None
        assert tokens.grant_of("person") == redeemed.grant.id

    await Both().tokens(test)


async def test_a_token_whose_one_grant_is_fetched_on_demand_is_idle_while_nobody_asks():
    """As one without a person is: a metric and an alert would otherwise miss it."""

    async def test(tokens: Tokens, consents: ConsentWorld) -> None:
        await consents.consent()
        before = tokens.status("person").state
        await asyncio.sleep(5_000.0)
        assert (before, tokens.status("person").state) == (TokenState.FRESH, TokenState.IDLE)

    await Both(replace(SPEC, refresh=Refresh.ON_DEMAND)).tokens(test)


async def test_a_token_without_a_consent_says_so():
    """In its state, and to who wants it."""

    async def test(tokens: Tokens, _: ConsentWorld) -> None:
        for name in ("person", "people"):
            status = tokens.status(name)
            assert (status.state, status.reason) == (TokenState.CONSENT_REQUIRED, NO_CONSENT)
            assert status.hint is not None
            assert f"token-broker login {name}" in status.hint
            assert tokens.grant_of(name) is None
        with pytest.raises(ConsentRequiredError) as refused:
            await tokens.get("person", min_valid=None, wait=10.0)
        assert refused.value.reason == NO_CONSENT
        with pytest.raises(ConsentRequiredError):
            await tokens.refresh("person", rejected=None, wait=10.0, begun=ignore)
        with pytest.raises(ConsentRequiredError):
            tokens.watch("person")

    await Both().tokens(test)


async def test_a_token_with_many_grants_stands_for_none_of_them():
    """One has to be named; that one can be served is what its state says."""

    async def test(tokens: Tokens, consents: ConsentWorld) -> None:
        redeemed = await consents.consent(token="people")
        with pytest.raises(GrantRequiredError):
            await tokens.get("people", min_valid=None, wait=10.0)
        assert tokens.grant_of("people") is None
        assert tokens.status("people").state is TokenState.FRESH
        await consents.grants.revoke(redeemed.grant.id)
        assert tokens.status("people").state is TokenState.CONSENT_REQUIRED

    await Both().tokens(test)


async def test_unknown_names_are_unknown():
    """Before and after a reload."""

    async def test(tokens: Tokens, _: ConsentWorld) -> None:
        assert tokens.grant_of("unknown") is None
        with pytest.raises(KeyError):
            await tokens.get("unknown", min_valid=None, wait=0.0)
        with pytest.raises(KeyError):
            tokens.status("unknown")

    await Both().tokens(test)


async def test_a_token_at_once_comes_from_where_it_is_kept():
    """Where there is no grant, or one for each person, there is nothing at once."""

    async def test(tokens: Tokens, consents: ConsentWorld) -> None:
        assert tokens.at_once("nobody", min_valid=None) is None
        assert tokens.at_once("person", min_valid=None) is None
        assert tokens.at_once("people", min_valid=None) is None
        got = await tokens.get(PLAIN.name, min_valid=None, wait=10.0)
        assert tokens.at_once(PLAIN.name, min_valid=None) == got
        await consents.consent()
        assert tokens.at_once("person", min_valid=None) == await tokens.get("person", min_valid=None, wait=0.0)

    await Both().tokens(test)
