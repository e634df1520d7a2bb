"""Tests of ``broker/sandbox/person.py``: a script decides as a person would."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from broker.sandbox.person import NoAnswerError, decide
from tests.unit.sandbox.talking import REDIRECT_URI, Talker, request_parameters, talking

pytestmark = pytest.mark.real_time


def url_of(talker: Talker, **changes: str) -> str:
    return talker.authorization_url(**request_parameters(**changes))


async def test_a_script_allows_and_denies(prepared: Path, tmp_path: Path):
    """In one request; the answer is where a browser would go."""
    async with talking(prepared, tmp_path) as talker:
        ca_file = talker.sandbox.directory / "ca.pem"

        allowed = await asyncio.to_thread(decide, url_of(talker), ca_file=ca_file, user="bob")
        denied = await asyncio.to_thread(decide, url_of(talker), ca_file=ca_file, allow=False)

        said = [dict(parse_qsl(urlsplit(one.url).query)) for one in (allowed, denied)]
        assert allowed.url.startswith(f"{REDIRECT_URI}?")
        assert (await talker.redeem(said[0]["code"])).status == 200
        assert said[1]["error"] == "access_denied"
        assert allowed.form is denied.form is None


async def test_a_form_is_found_in_its_page(prepared: Path, tmp_path: Path):
    """With response_mode=form_post."""
    async with talking(prepared, tmp_path) as talker:
        url = url_of(talker, response_mode="form_post")

        callback = await asyncio.to_thread(decide, url, ca_file=talker.sandbox.directory / "ca.pem")

        assert callback.url == REDIRECT_URI
        assert {"code", "state", "iss"} == {name for name, _ in callback.form or ()}


async def test_no_way_back_is_an_error(prepared: Path, tmp_path: Path):
    """Nothing to take to the client, or nobody who answers."""
    async with talking(prepared, tmp_path) as talker:
        ca_file = talker.sandbox.directory / "ca.pem"
        for url in (url_of(talker, client_id="nobody"), "https://localhost:1/authorize?a=b"):
            with pytest.raises(NoAnswerError):
                await asyncio.to_thread(decide, url, ca_file=ca_file)


async def test_a_callback_is_not_printed(prepared: Path, tmp_path: Path):
    """It has a code in it."""
    async with talking(prepared, tmp_path) as talker:
        callback = await asyncio.to_thread(decide, url_of(talker), ca_file=talker.sandbox.directory / "ca.pem")

        assert "code" not in repr(callback)
