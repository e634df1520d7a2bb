"""Tests of ``broker/sandbox/iridium/control.py``: what may be commanded, and by whom."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from broker.sandbox.commands import CommandRefusedError
from broker.sandbox.control_client import ControlClient
from broker.sandbox.iridium.control import check_redirect_uri
from broker.sandbox.iridium.registry import CONFIDENTIAL
from tests.unit.sandbox.iridium.talking import visiting

pytestmark = pytest.mark.real_time


async def test_nobody_commands_without_the_token_or_for_another_host(tmp_path: Path):
    """As at the strict server."""
    async with visiting(tmp_path) as visitor:
        answers = [
            await visitor.command("GET", "settings", Authorization="Bearer wrong"),
            await visitor.command("GET", "settings", Host="evil.example"),
            await visitor.command("GET", "settings"),
        ]

        assert [one.status for one in answers] == [401, 403, 200]


async def test_switches_and_lifetimes_are_set_while_it_runs(tmp_path: Path):
    """The next request meets them."""
    async with visiting(tmp_path) as visitor:
        body = {"IRI-08": "documented", "lifetime_seconds": 9, "refresh_lifetime_seconds": 8}
        changed = await visitor.command("PUT", "settings", body)
        issued = await visitor.for_itself()

        assert (changed.body["IRI-08"], changed.body["IRI-09"]) == ("documented", "observed")
        assert (changed.body["lifetime_seconds"], changed.body["code_lifetime_seconds"]) == (9, 60)
        assert b'"expires_in":9,' in issued.raw


async def test_an_application_gets_another_redirect_uri_and_secret(tmp_path: Path):
    """The configuration follows, and no secret is shown."""
    async with visiting(tmp_path) as visitor:
        uri = "https://app.example/callback"
        changed = await visitor.command("PUT", f"applications/{CONFIDENTIAL}", {"redirect_uri": uri, "secret": "hush"})
        listed = await visitor.command("GET", "applications")

        assert changed.body["redirect_uri"] == uri
        assert "hush" not in str(changed.body) + str(listed.body)
        assert (await visitor.for_itself(secret="hush")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "settings", {"IRI-99": "documented"}),
        ("PUT", "settings", {"IRI-01": "documented", "lifetime_seconds": 0}),
        ("PUT", "settings", {"IRI-01": "documented", "lifetime_seconds": None}),
        ("PUT", "settings", {"lifetime_seconds": 5, "IRI-01": True}),
        ("PUT", "settings", b"[]"),
        ("PUT", "applications/nobody", {"secret": "x"}),
        ("PUT", f"applications/{CONFIDENTIAL}", {"redirect_uri": "callback"}),
        ("PUT", f"applications/{CONFIDENTIAL}", {"secret": ""}),
        ("PUT", f"applications/{CONFIDENTIAL}", {"type": "native"}),
        ("POST", "faults", {"where": "token"}),
        ("POST", "requests/places", {"value": ""}),
        ("POST", "requests/places", {}),
    ],
)
async def test_nonsense_is_400_and_changes_nothing(tmp_path: Path, method: str, path: str, body: Any):
    """With a description of what is wrong."""
    async with visiting(tmp_path) as visitor:
        before = visitor.iridium.settings()
        refused = await visitor.command(method, path, body)

        assert refused.status == 400
        assert refused.body["error_description"]
        assert visitor.iridium.settings() == before


async def test_a_fault_is_put_up_listed_met_and_cleared(tmp_path: Path):
    """The life of a fault, by command."""
    async with visiting(tmp_path) as visitor:
        put = await visitor.command("POST", "faults", {"where": "token", "kind": "status", "status": 500})
        failed = await visitor.for_itself()
        listed = await visitor.command("GET", "faults")
        cleared = await visitor.command("DELETE", "faults")

        assert (put.status, failed.status, cleared.status) == (201, 500, 204)
        assert [(one["kind"], one["met"]) for one in listed.body["faults"]] == [("status", 1)]
        assert (await visitor.for_itself()).status == 200


async def test_what_was_seen_is_shown_searched_and_forgotten(tmp_path: Path):
    """A process of its own can be asked where a secret was."""
    async with visiting(tmp_path) as visitor:
        code = await visitor.code()
        await visitor.redeem(code)
        shown = await visitor.command("GET", "requests")
        places = await visitor.command("POST", "requests/places", {"value": code})
        forgotten = await visitor.command("DELETE", "requests")

        assert shown.body["counters"]["token.issued"] == 1
        assert code not in shown.raw.decode()
        assert places.body["places"] == [{"endpoint": "token", "method": "POST", "place": "form", "name": "code"}]
        assert forgotten.status == 204
        assert visitor.iridium.journal.entries() == ()


async def test_tokens_are_listed_and_ended(tmp_path: Path):
    """As an operator does who empties a table."""
    async with visiting(tmp_path) as visitor:
        body = await visitor.granted()
        listed = await visitor.command("GET", "tokens")
        ended = await visitor.command("DELETE", "tokens")

        assert [one["subject"] for one in listed.body["tokens"]] == [visitor.iridium.subject_of("ada", "github")]
        assert body["access_token"] not in listed.raw.decode()
        assert ended.body == {"ended": 1}
        assert (await visitor.me(body["access_token"])).status == 401


async def test_the_control_client_of_the_sandbox_commands_it_too(tmp_path: Path):
    """With the same words."""
    async with visiting(tmp_path) as visitor:
        await visitor.granted()
        control = ControlClient.from_directory(visitor.iridium.directory)

        def command() -> tuple[int, int, str]:
            control.set(**{"IRI-01": "documented", "code_lifetime_seconds": 5})
            control.fault("token", "status", status=500, times=1)
            changed = control.set_application(CONFIDENTIAL, redirect_uri="https://app.example/")
            assert control.places_of(visitor.iridium.redirect_uri)
            return control.count("token"), len(control.requests("provider")), changed["redirect_uri"]

        assert await asyncio.to_thread(command) == (1, 1, "https://app.example/")
        assert visitor.iridium.settings()["IRI-01"] == "documented"


@pytest.mark.parametrize(
    "uri", ["", "callback", "ftp://h/", "https://h/#f", 'https://h/"', "https://h/a b", "http:///"]
)
def test_a_redirect_uri_is_a_url_that_needs_no_escapes(uri: str):
    """It is written to a configuration, a header and a page."""
    with pytest.raises(CommandRefusedError):
        check_redirect_uri(uri)
