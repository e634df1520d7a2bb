"""Tests of ``broker/sandbox/iridium/providers.py``: what people see there, and what comes back."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest

from broker.sandbox.person import decide
from tests.unit.sandbox.iridium.talking import STATE, parameters_of, visiting

pytestmark = pytest.mark.real_time


async def test_github_answers_with_a_short_code_and_the_state(tmp_path: Path):
    """And nothing else."""
    async with visiting(tmp_path) as visitor:
        ended = parameters_of(await visitor.allow((await visitor.external()).headers["Location"]))

        assert set(ended) == {"code", "state"}
        assert re.fullmatch("[0-9a-f]{20}", ended["code"])


async def test_google_answers_with_a_slash_in_the_code_and_parameters_of_its_own(tmp_path: Path):
    """The slash is encoded in the address."""
    async with visiting(tmp_path) as visitor:
        location = (await visitor.external(provider="google")).headers["Location"]
        address = await visitor.allow(location)
        ended = parameters_of(address)

        assert location.startswith(f"{visitor.iridium.addresses.google}/o/oauth2/v2/auth?")
        assert "code=4%2F0A" in address
        assert re.fullmatch(r"4/0A[\w-]{64}", ended.pop("code"))
        assert ended == {"state": STATE, "scope": "email", "authuser": "0", "prompt": "consent"}


@pytest.mark.parametrize(
    ("provider", "names"),
    [("github", {"error", "error_description", "error_uri", "state"}), ("google", {"error", "state"})],
)
async def test_who_denies_it_goes_back_with_an_error(tmp_path: Path, provider: str, names: set[str]):
    """In the words of the provider."""
    async with visiting(tmp_path) as visitor:
        location = (await visitor.external(provider=provider)).headers["Location"]
        ended = parameters_of(await visitor.allow(location, decision="deny"))

        assert set(ended) == names
        assert ended["error"] == "access_denied"


async def test_a_browser_sees_who_are_you_and_then_may_it(tmp_path: Path):
    """Pages without scripts, whose forms may lead to the application."""
    async with visiting(tmp_path) as visitor:
        location = (await visitor.external()).headers["Location"]
        login = await visitor.send("GET", location)
        consent = await visitor.send("POST", location, data={"user": "bob"})

        assert login.status == consent.status == 200
        assert login.headers["Content-Type"] == "text/html"
        assert all(f'value="{person}"' in login.raw.decode() for person in ("ada", "bob"))
        assert "user:email" in consent.raw.decode()
        assert "form-action 'self'" in consent.headers["Content-Security-Policy"]
        assert "http://127.0.0.1:8765" in consent.headers["Content-Security-Policy"]


async def test_the_scripted_person_of_the_sandbox_can_log_in(tmp_path: Path):
    """The same one that uses the strict server."""
    async with visiting(tmp_path) as visitor:
        location = (await visitor.external()).headers["Location"]

        callback = await asyncio.to_thread(decide, location, ca_file=visitor.iridium.ca_file, user="bob")

        assert (await visitor.redeem(parameters_of(callback.url)["code"])).status == 200


@pytest.mark.parametrize("change", [("client_id=", "client_id=x"), ("redirect_uri=", "redirect_uri=x")])
async def test_a_request_that_the_provider_does_not_know_is_an_error_page(tmp_path: Path, change: tuple[str, str]):
    """Nobody is sent to an address that is not registered."""
    async with visiting(tmp_path) as visitor:
        location = (await visitor.external()).headers["Location"]

        assert (await visitor.send("GET", location.replace(*change))).status == 400


async def test_google_wants_a_response_type(tmp_path: Path):
    """GitHub has none."""
    async with visiting(tmp_path) as visitor:
        location = (await visitor.external(provider="google")).headers["Location"]

        assert (await visitor.send("GET", location.replace("response_type=code", "response_type=token"))).status == 400


async def test_a_code_is_good_once_and_for_ten_minutes(tmp_path: Path):
    """Iridium fails with any other."""
    now = [time.clock_gettime(time.CLOCK_REALTIME)]
    async with visiting(tmp_path, wall=lambda: now[0]) as visitor:
        code = await visitor.code(state="first")
        first = await visitor.redeem(code, state="first")
        await visitor.external(state="second")
        again = await visitor.redeem(code, state="second")
        late = await visitor.code(state="third")
        now[0] += 601

        assert (first.status, again.status) == (200, 500)
        assert (await visitor.redeem(late, state="third")).status == 500
