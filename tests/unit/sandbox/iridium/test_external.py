"""Tests of ``broker/sandbox/iridium/external.py``: IRI-01 to IRI-03, in both settings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from broker.sandbox.iridium.registry import SINGLE_PAGE
from tests.unit.sandbox.iridium.talking import STATE, VERIFIER, parameters_of, query, visiting

pytestmark = pytest.mark.real_time

CODE_EXPIRED = 61


async def test_observed_only_five_parameters_are_looked_at(tmp_path: Path):
    """IRI-01: what the page calls required need not be there, and the provider may be in capitals."""
    async with visiting(tmp_path) as visitor:
        heard = await visitor.external(scope=None, code_challenge=None, code_challenge_method=None, provider="GitHub")

        assert heard.status == 302
        assert heard.headers["Location"].startswith(f"{visitor.iridium.addresses.github}/login/oauth/authorize?")


@pytest.mark.parametrize("missing", ["response_type", "state", "redirect_uri", "client_id", "provider"])
async def test_observed_a_missing_parameter_is_an_illegal_argument(tmp_path: Path, missing: str):
    """IRI-01: a blank one is missing, too."""
    async with visiting(tmp_path) as visitor:
        heard = [await visitor.external(**{missing: value}) for value in (None, " ")]

        assert [(one.status, one.body) for one in heard] == [(400, {"code": "400 BAD_REQUEST", "message": None})] * 2


async def test_observed_an_unknown_client_is_404_and_an_unknown_provider_500(tmp_path: Path):
    """IRI-01."""
    async with visiting(tmp_path) as visitor:
        client = await visitor.external(client_id="nobody")
        provider = await visitor.external(provider="gitlab")

        assert (client.status, client.body["code"]) == (404, "404 NOT_FOUND")
        assert (provider.status, provider.body["status"]) == (500, 500)


async def test_observed_any_active_provider_will_do(tmp_path: Path):
    """IRI-01: not only the two that the page names."""
    async with visiting(tmp_path) as visitor:
        visitor.iridium.providers["intranet"] = visitor.iridium.providers["github"]
        observed = await visitor.external(provider="Intranet")
        visitor.iridium.set_switch("IRI-01", "documented")
        documented = await visitor.external(provider="intranet")

        assert (observed.status, documented.status) == (302, 400)


async def test_documented_the_redirect_uri_is_optional(tmp_path: Path):
    """IRI-01: another one than the registered is refused."""
    async with visiting(tmp_path, documented=("IRI-01",)) as visitor:
        without = await visitor.external(redirect_uri=None)
        another = await visitor.external(redirect_uri="http://127.0.0.1:1/callback")

        assert (without.status, another.status) == (302, 400)


@pytest.mark.parametrize(
    "changes",
    [
        {"scope": None},
        {"state": None},
        {"code_challenge": None},
        {"code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"provider": "GitHub"},
        {"provider": None},
        {"response_type": "token"},
        {"client_id": "nobody"},
    ],
)
async def test_documented_what_the_page_calls_required_is(tmp_path: Path, changes: dict[str, Any]):
    """IRI-01: with the exact name of a provider."""
    async with visiting(tmp_path, documented=("IRI-01",)) as visitor:
        assert (await visitor.external(**changes)).status == 400


async def test_observed_the_way_to_the_provider_is_not_encoded(tmp_path: Path):
    """IRI-02: the provider's scope and the registered redirect URI, whatever was sent."""
    async with visiting(tmp_path) as visitor:
        visitor.iridium.providers["google"].scope = "email"
        heard = await visitor.external(
            provider="google", scope="everything", redirect_uri="https://evil.example/", state="a b&c=d"
        )

        assert urlsplit(heard.headers["Location"]).query == (
            "client_id=iridium-at-google&state=a b&c=d"
            f"&redirect_uri={visitor.iridium.redirect_uri}&scope=email&response_type=code"
        )


@pytest.mark.parametrize("state", ["a{b", "}", "a\nb"])
async def test_observed_a_state_that_cannot_be_in_a_template_is_500(tmp_path: Path, state: str):
    """IRI-02: nothing gets into the header that would be another one."""
    async with visiting(tmp_path) as visitor:
        assert (await visitor.external(state=state)).status == 500


async def test_documented_the_way_to_the_provider_is_encoded(tmp_path: Path):
    """IRI-02: with what was asked for."""
    async with visiting(tmp_path, documented=("IRI-02",)) as visitor:
        heard = await visitor.external(
            scope="user:email read:user", state="a b&c", redirect_uri="https://app.example/c?x=1"
        )

        assert "redirect_uri=https%3A%2F%2Fapp.example%2Fc%3Fx%3D1&" in heard.headers["Location"]
        asked = parameters_of(heard.headers["Location"])
        assert (asked["scope"], asked["state"]) == ("user:email read:user", "a b&c")


async def test_observed_the_code_of_the_provider_goes_to_the_application(tmp_path: Path):
    """IRI-03: Iridium is not on the way back, and any verifier will do."""
    async with visiting(tmp_path) as visitor:
        heard = await visitor.external(code_challenge="of-another-verifier")
        ended = await visitor.allow(heard.headers["Location"])
        code = parameters_of(ended)["code"]
        issued = await visitor.redeem(code, code_verifier="anything")

        assert ended == f"{visitor.iridium.redirect_uri}?code={code}&state={STATE}"
        assert issued.status == 200
        assert visitor.iridium.journal.count("callback") == 0


async def test_documented_iridium_has_a_code_of_its_own(tmp_path: Path):
    """IRI-03: the person comes by, and the provider never sees the application's state."""
    async with visiting(tmp_path, documented=("IRI-03",)) as visitor:
        location = (await visitor.external()).headers["Location"]
        ended = await visitor.allow(location, person="bob")
        code = parameters_of(ended)["code"]
        issued = await visitor.redeem(code)
        whose = await visitor.me(issued.body["access_token"])

        assert parameters_of(location)["redirect_uri"].startswith(visitor.iridium.addresses.issuer)
        assert parameters_of(location)["state"] != STATE == parameters_of(ended)["state"]
        assert visitor.iridium.journal.count("callback.granted") == 1
        assert whose.body["subject"] == visitor.iridium.subject_of("bob", "github")


async def test_documented_a_code_of_iridium_is_bound_to_its_verifier(tmp_path: Path):
    """IRI-03: and spent by a wrong one (IRI-06)."""
    async with visiting(tmp_path, documented=("IRI-03", "IRI-06")) as visitor:
        code = await visitor.code()
        wrong = await visitor.redeem(code, code_verifier=VERIFIER[::-1])
        late = await visitor.redeem(code)

        assert [(one.status, one.body["error"]) for one in (wrong, late)] == [
            (400, "code_verifier does not fit"),
            (400, "invalid authorization code"),
        ]


@pytest.mark.parametrize("changes", [{"client_id": "sandbox-native"}, {"code": "guessed"}, {}])
async def test_documented_a_code_of_iridium_is_for_its_application_and_a_minute(
    tmp_path: Path, changes: dict[str, Any]
):
    """IRI-03: another application, another code, and, last, another minute."""
    now = [time.clock_gettime(time.CLOCK_REALTIME)]
    async with visiting(tmp_path, documented=("IRI-03",), wall=lambda: now[0]) as visitor:
        code = await visitor.code()
        now[0] += 0 if changes else CODE_EXPIRED
        refused = await visitor.redeem(changes.pop("code", code), **changes)

        assert (refused.status, refused.body["error"]) == (400, "invalid authorization code")


async def test_documented_who_denies_it_goes_back_with_the_error(tmp_path: Path):
    """IRI-03: from the provider over Iridium."""
    async with visiting(tmp_path, documented=("IRI-03",)) as visitor:
        ended = await visitor.allow((await visitor.external()).headers["Location"], decision="deny")

        assert parameters_of(ended) == {"error": "access_denied", "state": STATE}


async def test_documented_the_code_goes_where_the_request_said(tmp_path: Path):
    """IRI-03 together with IRI-02; an address that breaks the header is 500."""
    async with visiting(tmp_path, documented=("IRI-02", "IRI-03")) as visitor:
        ended = []
        for uri in ("https://app.example/other", "https://app.example/a\r\nb"):
            location = (await visitor.external(redirect_uri=uri, state=uri)).headers["Location"]
            heard = await visitor.send("POST", location, data={"user": "ada", "decision": "allow"})
            ended.append(await visitor.send("GET", heard.headers["Location"]))

        assert ended[0].headers["Location"].startswith("https://app.example/other?code=")
        assert ended[1].status == 500


async def test_a_callback_that_nobody_waits_for_is_refused(tmp_path: Path):
    """Nor is one that came before."""
    async with visiting(tmp_path, documented=("IRI-03",)) as visitor:
        assert (await visitor.send("GET", "/oauth/external/callback?state=guessed&code=x")).status == 400
        assert (await visitor.send("GET", "/oauth/external/callback?code=x")).status == 400


async def test_parameters_are_read_from_the_query_as_well(tmp_path: Path):
    """As Spring does, and as Iridium's own clients send them: with an empty body."""
    async with visiting(tmp_path) as visitor:
        asked = query(
            response_type="code",
            state=STATE,
            redirect_uri=visitor.iridium.redirect_uri,
            client_id=SINGLE_PAGE,
            provider="google",
        )

        heard = await visitor.send("POST", f"/oauth/external/authorize?{asked}")

        assert heard.status == 302
        assert visitor.iridium.journal.entries("external")[0].query[0] == "response_type"
