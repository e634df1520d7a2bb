"""Tests of ``broker/sandbox/iridium/refreshing.py``: IRI-10 and the parts of IRI-13, in both settings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from broker.sandbox.iridium.registry import CONFIDENTIAL, NATIVE, SINGLE_PAGE
from tests.unit.sandbox.iridium.talking import visiting

pytestmark = pytest.mark.real_time


async def test_observed_only_a_confidential_application_with_a_good_access_token_can_refresh(tmp_path: Path):
    """IRI-13, as a whole: the token is the application's afterwards."""
    async with visiting(tmp_path) as visitor:
        body = await visitor.granted()
        refreshed = await visitor.refresh(body["refresh_token"], bearer=body["access_token"])
        whose = await visitor.me(refreshed.body["access_token"])

        assert refreshed.status == 200
        assert whose.body["kind"] == "application"


async def test_documented_the_application_refreshes_for_its_person(tmp_path: Path):
    """IRI-13, as a whole: as on the page."""
    async with visiting(tmp_path) as visitor:
        body = await visitor.granted(person="bob")
        visitor.iridium.set_switch("IRI-13", "documented")
        refreshed = await visitor.refresh(body["refresh_token"], client_id=SINGLE_PAGE)
        whose = await visitor.me(refreshed.body["access_token"])

        assert refreshed.body["refresh_token"] == body["refresh_token"]
        assert whose.body["subject"] == visitor.iridium.subject_of("bob", "github")


async def test_observed_a_refresh_wants_an_access_token_that_is_good(tmp_path: Path):
    """IRI-13a: none is 403, one that is over or unknown is 401; it may be anybody's."""
    now = [time.clock_gettime(time.CLOCK_REALTIME)]
    async with visiting(tmp_path, lifetime=60, wall=lambda: now[0]) as visitor:
        body = await visitor.granted()
        none = await visitor.refresh(body["refresh_token"])
        unknown = await visitor.refresh(body["refresh_token"], bearer="guessed")
        now[0] += 30
        others = await visitor.granted(person="bob")
        now[0] += 30
        over = await visitor.refresh(body["refresh_token"], bearer=body["access_token"])
        good = await visitor.refresh(body["refresh_token"], bearer=others["access_token"])

        assert [one.status for one in (none, unknown, over, good)] == [403, 401, 401, 200]
        assert unknown.body == {"code": "401", "message": "NOT AUTHORIZED"}


async def test_documented_a_refresh_wants_no_access_token(tmp_path: Path):
    """IRI-13a: and does not look at one."""
    async with visiting(tmp_path, documented=("IRI-13a",)) as visitor:
        body = await visitor.granted()
        answers = [await visitor.refresh(body["refresh_token"], bearer=bearer) for bearer in (None, "guessed")]

        assert [one.status for one in answers] == [200, 200]


@pytest.mark.parametrize("client_id", [SINGLE_PAGE, NATIVE])
async def test_public_applications_refresh_as_documented_and_not_as_observed(tmp_path: Path, client_id: str):
    """IRI-13b."""
    async with visiting(tmp_path, documented=("IRI-13a",)) as visitor:
        body = await visitor.granted()
        observed = await visitor.refresh(body["refresh_token"], client_id=client_id)
        visitor.iridium.set_switch("IRI-13b", "documented")
        documented = await visitor.refresh(body["refresh_token"], client_id=client_id)

        assert observed.status == 401
        assert observed.body["message"] == "Only confidential clients are allowed to refresh tokens."
        assert documented.status == 200


async def test_a_refresh_token_is_its_applications_as_documented_and_anybodys_as_observed(tmp_path: Path):
    """IRI-13c."""
    async with visiting(tmp_path, documented=("IRI-13a",)) as visitor:
        body = await visitor.granted()
        observed = await visitor.refresh(body["refresh_token"], client_id=CONFIDENTIAL)
        visitor.iridium.set_switch("IRI-13c", "documented")
        documented = await visitor.refresh(body["refresh_token"], client_id=CONFIDENTIAL)

        assert (observed.status, documented.status) == (200, 400)


async def test_observed_the_old_refresh_token_stays_good_beside_the_new_one(tmp_path: Path):
    """IRI-13d."""
    async with visiting(tmp_path, documented=("IRI-13a",)) as visitor:
        body = await visitor.granted()
        first = await visitor.refresh(body["refresh_token"])
        answers = [await visitor.refresh(value) for value in (body["refresh_token"], first.body["refresh_token"])]

        assert first.body["refresh_token"] != body["refresh_token"]
        assert [one.status for one in answers] == [200, 200]


async def test_documented_there_is_one_refresh_token(tmp_path: Path):
    """IRI-13d: it comes back each time."""
    async with visiting(tmp_path, documented=("IRI-13a", "IRI-13d")) as visitor:
        body = await visitor.granted()
        answers = [await visitor.refresh(body["refresh_token"]) for _ in range(2)]

        assert {one.body["refresh_token"] for one in answers} == {body["refresh_token"]}


@pytest.mark.parametrize(("documented", "kind"), [((), "application"), (("IRI-13e",), "person")])
async def test_the_refreshed_token_is_the_applications_or_the_persons(
    tmp_path: Path, documented: tuple[str, ...], kind: str
):
    """IRI-13e."""
    async with visiting(tmp_path, documented=("IRI-13a", *documented)) as visitor:
        refreshed = await visitor.refresh((await visitor.granted())["refresh_token"])

        assert (await visitor.me(refreshed.body["access_token"])).body["kind"] == kind


@pytest.mark.parametrize(("documented", "echoed"), [((), ": guessed-token"), (("IRI-10",), "")])
async def test_the_refusal_repeats_the_refresh_token_only_as_observed(
    tmp_path: Path, documented: tuple[str, ...], echoed: str
):
    """IRI-10."""
    async with visiting(tmp_path, documented=("IRI-13a", *documented)) as visitor:
        refused = await visitor.refresh("guessed-token")

        assert (refused.status, refused.body["error"]) == (400, f"invalid refresh token{echoed}")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"grant_type": None}, "grant_type must not be blank"),
        ({"client_id": " "}, "client_id must not be blank"),
        ({"refresh_token": None}, "refresh_token must not be blank"),
        ({"grant_type": "password"}, 'grant_type value must be set to "refresh_token"'),
        ({"client_id": "nobody"}, "application not found for clientId: nobody"),
    ],
)
async def test_what_is_wrong_is_400(tmp_path: Path, changes: dict[str, Any], says: str):
    """In one of two shapes."""
    async with visiting(tmp_path, documented=("IRI-13a",)) as visitor:
        refused = await visitor.refresh(changes.pop("refresh_token", "any"), **changes)

        assert refused.status == 400
        assert says in refused.body.values()


async def test_a_refresh_token_that_is_over_is_not_known(tmp_path: Path):
    """Lifetimes may be set; by default there is none."""
    now = [time.clock_gettime(time.CLOCK_REALTIME)]
    async with visiting(tmp_path, documented=("IRI-13a",), wall=lambda: now[0]) as visitor:
        visitor.iridium.set_lifetimes(refresh_lifetime_seconds=5)
        body = await visitor.granted()
        now[0] += 5

        assert (await visitor.refresh(body["refresh_token"])).status == 400
