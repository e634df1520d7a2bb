"""Tests of ``broker/sandbox/iridium/local_flow.py``: IRI-05 and IRI-07, in both settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from broker.sandbox.iridium.registry import SINGLE_PAGE
from tests.unit.sandbox.iridium.talking import CHALLENGE, HEX_CHALLENGE, STATE, parameters_of, query, visiting

pytestmark = pytest.mark.real_time


async def test_observed_a_client_of_the_standard_always_fails(tmp_path: Path):
    """IRI-05: with an empty body (IRI-06), while that of the digits gets a token."""
    async with visiting(tmp_path) as visitor:
        standard = await visitor.redeem(await visitor.local_code(code_challenge=CHALLENGE), state=None)
        digits = await visitor.redeem(await visitor.local_code(), state=None)

        assert (standard.status, standard.raw) == (200, b"")
        assert (digits.status, digits.body["token_type"]) == (200, "Bearer")


async def test_documented_a_client_of_the_standard_gets_a_token(tmp_path: Path):
    """IRI-05: and that of the digits does not."""
    async with visiting(tmp_path, documented=("IRI-05",)) as visitor:
        standard = await visitor.redeem(await visitor.local_code(code_challenge=CHALLENGE), state=None)
        digits = await visitor.redeem(await visitor.local_code(code_challenge=HEX_CHALLENGE), state=None)
        whose = await visitor.me(standard.body["access_token"])

        assert whose.body["subject"] == visitor.iridium.subject_of("ada", "iridium")
        assert digits.raw == b""


async def test_plain_is_400_as_observed_and_an_error_as_documented(tmp_path: Path):
    """IRI-05: the page has S256 only."""
    async with visiting(tmp_path, documented=("IRI-07",)) as visitor:
        observed = await visitor.local(code_challenge_method="plain")
        visitor.iridium.set_switch("IRI-05", "documented")
        documented = await visitor.local(code_challenge_method="plain")

        assert (observed.status, documented.status) == (400, 302)
        assert parameters_of(documented.headers["Location"])["error"] == "invalid_request"


ERRORS = [
    ({"state": None}, "invalid_request", "state parameter is blank"),
    (
        {"response_type": "token"},
        "unsupported_response_type",
        "authorization server does not support response type: token",
    ),
    ({"code_challenge_method": None}, "invalid_request", "code_challenge_method not supported: null"),
    ({"code_challenge": None}, "invalid_request", "code_challenge must not be blank"),
]


@pytest.mark.parametrize(("changes", "error", "text"), ERRORS)
async def test_observed_an_error_is_the_name_of_a_parameter(
    tmp_path: Path, changes: dict[str, Any], error: str, text: str
):
    """IRI-07: not encoded, and without the state."""
    async with visiting(tmp_path) as visitor:
        heard = await visitor.local(**changes)

        assert heard.status == 302
        assert heard.headers["Location"] == f"{visitor.iridium.redirect_uri}?{error}={text}"


@pytest.mark.parametrize(("changes", "error", "text"), ERRORS)
async def test_documented_an_error_is_called_one(tmp_path: Path, changes: dict[str, Any], error: str, text: str):
    """IRI-07: with the state, if there was one."""
    async with visiting(tmp_path, documented=("IRI-07",)) as visitor:
        heard = await visitor.local(**changes)

        state = "" if "state" in changes else STATE
        assert parameters_of(heard.headers["Location"]) == {"error": error, "error_description": text, "state": state}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"response_type": None}, 400),
        ({"client_id": None}, 400),
        ({"client_id": "nobody"}, 404),
        ({"redirect_uri": "https://evil.example/"}, 400),
        ({"userToken": "guessed"}, 401),
        ({"person": None}, 401),
    ],
)
async def test_nobody_is_sent_anywhere_before_the_request_is_known(
    tmp_path: Path, changes: dict[str, Any], status: int
):
    """The person sees the refusal."""
    async with visiting(tmp_path) as visitor:
        assert (await visitor.local(**changes)).status == status


async def test_a_browser_without_a_user_token_gets_the_form_that_sends_one(tmp_path: Path):
    """Everybody who can log in has one there."""
    async with visiting(tmp_path) as visitor:
        asked = query(
            response_type="code",
            state=STATE,
            client_id=SINGLE_PAGE,
            code_challenge=HEX_CHALLENGE,
            code_challenge_method="S256",
        )
        page = await visitor.send("GET", f"/oauth/authorize?{asked}", headers={"Accept": "text/html"})
        tokens = dict(
            reversed(pair) for pair in re.findall(r'name="userToken" value="([^"]+)"[^>]*> (\w+)', page.raw.decode())
        )
        ended = await visitor.send("POST", f"/oauth/authorize?{asked}", data={"userToken": tokens["bob"]})
        issued = await visitor.redeem(parameters_of(ended.headers["Location"])["code"], state=None)
        whose = await visitor.me(issued.body["access_token"])

        assert set(tokens) == {"ada", "bob", "carol"}
        assert whose.body["subject"] == visitor.iridium.subject_of("bob", "iridium")


async def test_a_user_token_may_come_in_the_query_of_a_get(tmp_path: Path):
    """Parameters are read from everywhere."""
    async with visiting(tmp_path) as visitor:
        asked = query(
            response_type="code",
            state=STATE,
            client_id=SINGLE_PAGE,
            code_challenge=HEX_CHALLENGE,
            code_challenge_method="S256",
            userToken=visitor.iridium.user_token("ada"),
        )

        assert (await visitor.send("GET", f"/oauth/authorize?{asked}")).status == 302
