"""Tests of ``broker/sandbox/iridium/protected.py``: IRI-14 and IRI-15 in both settings, and the API."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from broker.sandbox.iridium.registry import CONFIDENTIAL, FOREIGN, NATIVE, SINGLE_PAGE
from tests.unit.sandbox.iridium.talking import IDENTITY, visiting

pytestmark = pytest.mark.real_time


@pytest.mark.parametrize(
    ("documented", "path", "other"), [((), "applications", "application"), (("IRI-14",), "application", "applications")]
)
async def test_logout_is_at_one_path_and_ends_the_token_and_its_refresh_token(
    tmp_path: Path, documented: tuple[str, ...], path: str, other: str
):
    """IRI-14: plural as observed, singular as documented; the other path is not there."""
    async with visiting(tmp_path, documented=(*documented, "IRI-13a", "IRI-13b")) as visitor:
        body, bystander = await visitor.granted(), await visitor.granted()
        missing = await visitor.logout(body["access_token"], path=other)
        done = await visitor.logout(body["access_token"], path=path)

        assert (missing.status, done.status, done.raw) == (404, 204, b"")
        assert (await visitor.me(body["access_token"])).status == 401
        assert (await visitor.refresh(body["refresh_token"], client_id=SINGLE_PAGE)).status == 400
        assert (await visitor.me(bystander["access_token"])).status == 200


async def test_observed_another_tenants_application_is_204_and_ends_nothing(tmp_path: Path):
    """IRI-14: while another application of the same tenant ends it."""
    async with visiting(tmp_path) as visitor:
        body = await visitor.granted()
        foreign = await visitor.logout(body["access_token"], FOREIGN)
        kept = await visitor.me(body["access_token"])
        own = await visitor.logout(body["access_token"], NATIVE)

        assert (foreign.status, kept.status, own.status) == (204, 200, 204)
        assert (await visitor.me(body["access_token"])).status == 401


async def test_documented_it_has_to_be_the_tokens_application(tmp_path: Path):
    """IRI-14."""
    async with visiting(tmp_path, documented=("IRI-14",)) as visitor:
        body = await visitor.granted()

        assert (await visitor.logout(body["access_token"], NATIVE, path="application")).status == 401
        assert (await visitor.me(body["access_token"])).status == 200


async def test_observed_logout_without_a_good_token_or_application_is_refused(tmp_path: Path):
    """IRI-14: none is 403; unknown, over and an unknown application are 401."""
    now = [time.clock_gettime(time.CLOCK_REALTIME)]
    async with visiting(tmp_path, lifetime=60, wall=lambda: now[0]) as visitor:
        body = await visitor.granted()
        answers = [
            await visitor.logout(None),
            await visitor.logout("guessed"),
            await visitor.logout(body["access_token"], "nobody"),
        ]
        now[0] += 60
        answers.append(await visitor.logout(body["access_token"]))

        assert [one.status for one in answers] == [403, 401, 401, 401]


async def test_observed_identities_say_whose_a_token_is(tmp_path: Path):
    """IRI-15: a person's, or an application's."""
    async with visiting(tmp_path) as visitor:
        person = await visitor.identity((await visitor.granted())["access_token"])
        application = await visitor.identity((await visitor.for_itself()).body["access_token"])

        assert person.headers["Content-Type"] == IDENTITY
        assert person.body == {
            "data": {
                "id": visitor.iridium.subject_of("ada", "github"),
                "username": "ada@github.sandbox.example",
                "profile": {"firstName": "Ada", "lastName": "Sandbox"},
                "roles": [],
                "tenantIds": [],
            }
        }
        registered = visitor.iridium.registry.applications[CONFIDENTIAL]
        assert (application.body["data"]["id"], application.body["data"]["profile"]) == (registered.subject, {})


@pytest.mark.parametrize(
    ("accept", "status"),
    [("application/json", 406), ("*/*", 200), (f"text/html, {IDENTITY};q=0.5", 200), ("application/*", 200)],
)
async def test_observed_identities_have_a_media_type_of_their_own(tmp_path: Path, accept: str, status: int):
    """IRI-15."""
    async with visiting(tmp_path) as visitor:
        token = (await visitor.granted())["access_token"]

        assert (await visitor.identity(token, Accept=accept)).status == status


@pytest.mark.parametrize("authorization", [None, "Bearer guessed", "Basic eDp5"])
async def test_observed_identities_are_for_who_has_a_token(tmp_path: Path, authorization: str | None):
    """IRI-15: 401 for everybody else."""
    async with visiting(tmp_path) as visitor:
        assert (await visitor.identity("", Authorization=authorization)).status == 401


async def test_documented_there_are_no_identities(tmp_path: Path):
    """IRI-15."""
    async with visiting(tmp_path, documented=("IRI-15",)) as visitor:
        assert (await visitor.identity((await visitor.granted())["access_token"])).status == 404


async def test_the_api_says_whose_a_token_is_and_sends_back_what_comes(tmp_path: Path):
    """For the tests of calls through the broker."""
    async with visiting(tmp_path) as visitor:
        token = (await visitor.granted(person="bob", provider="google"))["access_token"]
        me = await visitor.me(token)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "text/plain"}
        echo = await visitor.send("POST", "/api/echo", data=b"hello", headers=headers)

        assert me.body == {
            "subject": visitor.iridium.subject_of("bob", "google"),
            "username": "bob@google.sandbox.example",
            "kind": "person",
            "client_id": SINGLE_PAGE,
        }
        assert (echo.status, echo.raw, echo.headers["Content-Type"]) == (200, b"hello", "text/plain")


@pytest.mark.parametrize(
    ("method", "path", "headers", "challenge"),
    [
        ("GET", "/api/me", {}, 'Bearer realm="sandbox"'),
        ("GET", "/api/me", {"Authorization": "Bearer x"}, 'Bearer realm="sandbox", error="invalid_token"'),
        ("POST", "/api/echo", {}, 'Bearer realm="sandbox"'),
    ],
)
async def test_the_api_challenges_who_has_no_good_token(
    tmp_path: Path, method: str, path: str, headers: dict[str, Any], challenge: str
):
    """It is none of Iridium's, and follows RFC 6750."""
    async with visiting(tmp_path) as visitor:
        refused = await visitor.send(method, path, headers=headers)

        assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, challenge)
