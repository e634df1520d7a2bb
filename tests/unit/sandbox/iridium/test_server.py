"""Tests of ``broker/sandbox/iridium/server.py``: two listeners, one state, and what is written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.sandbox.iridium.registry import CONFIDENTIAL, SINGLE_PAGE
from tests.unit.sandbox.iridium.talking import STATE, VERIFIER, parameters_of, query, visiting

pytestmark = pytest.mark.real_time


async def test_both_listeners_have_one_state(tmp_path: Path):
    """What begins over http ends over https, and is told apart in the journal."""
    async with visiting(tmp_path) as visitor:
        development = visitor.iridium.addresses.development
        form = {
            "response_type": "code",
            "state": STATE,
            "redirect_uri": visitor.iridium.redirect_uri,
            "client_id": SINGLE_PAGE,
            "provider": "github",
        }
        begun = await visitor.send("POST", f"{development}/oauth/external/authorize", data=form)
        code = parameters_of(await visitor.allow(begun.headers["Location"]))["code"]
        issued = await visitor.redeem(code)

        assert issued.status == 200
        assert [one.listener for one in visitor.iridium.journal.entries()] == ["development", "github", "issuer"]


async def test_over_http_a_person_comes_back_over_http(tmp_path: Path):
    """IRI-03 as documented: Iridium's own callback is where the request came to."""
    async with visiting(tmp_path, documented=("IRI-03",)) as visitor:
        development = visitor.iridium.addresses.development
        asked = query(response_type="code", state=STATE, redirect_uri="x", client_id=SINGLE_PAGE, provider="github")
        begun = await visitor.send("POST", f"{development}/oauth/external/authorize?{asked}")

        assert parameters_of(begun.headers["Location"])["redirect_uri"] == f"{development}/oauth/external/callback"
        await visitor.allow(begun.headers["Location"])


async def test_the_journal_says_which_parameters_came_where(tmp_path: Path):
    """So that a test can say that no secret stood in a URL."""
    async with visiting(tmp_path) as visitor:
        code = await visitor.code()
        await visitor.redeem(code)
        entry = visitor.iridium.journal.entries("token")[0]

        assert (entry.query, set(entry.form) >= {"code", "state", "code_verifier"}) == ((), True)
        assert {(one.endpoint, one.place) for one in visitor.iridium.journal.places_of(code)} == {("token", "form")}
        assert (entry.grant_type, entry.outcome, entry.accept) == ("authorization_code", "issued", "application/json")


async def test_a_secret_in_a_url_is_seen(tmp_path: Path):
    """It works, as with Spring; and the journal knows."""
    async with visiting(tmp_path) as visitor:
        code = await visitor.code()
        asked = query(
            grant_type="authorization_code", code=code, client_id=SINGLE_PAGE, state=STATE, code_verifier=VERIFIER
        )
        issued = await visitor.send("POST", f"/oauth/token?{asked}")

        assert issued.status == 200
        assert ("token", "query", "code") in {
            (one.endpoint, one.place, one.name) for one in visitor.iridium.journal.places_of(code)
        }


async def test_the_journal_knows_the_scheme_of_a_header_and_not_its_value(tmp_path: Path):
    """The secret is found where it is looked for."""
    async with visiting(tmp_path) as visitor:
        await visitor.for_itself()
        secret = visitor.iridium.registry.applications[CONFIDENTIAL].secret
        shown = str(visitor.iridium.journal.as_json())

        assert "'scheme': 'Basic'" in shown
        assert secret not in shown
        assert visitor.iridium.journal.places_of(secret)


async def test_what_is_not_there_is_404_and_written_down(tmp_path: Path):
    """There is no metadata, either, at Iridium or at a provider."""
    async with visiting(tmp_path) as visitor:
        for place in (visitor.iridium.addresses.issuer, visitor.iridium.addresses.github):
            assert (await visitor.send("GET", f"{place}/.well-known/openid-configuration")).status == 404
        assert (await visitor.send("GET", "/oauth/token")).status == 404

        assert visitor.iridium.journal.count("nothing.not_found") == 3


@pytest.mark.parametrize("body", [b"\xff\xff=&&&", b"code=%zz"])
async def test_a_body_that_is_no_form_is_only_a_bad_request(tmp_path: Path, body: bytes):
    """Nothing fails over it."""
    async with visiting(tmp_path) as visitor:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}

        assert (await visitor.send("POST", "/oauth/token", data=body, headers=headers)).status == 400
