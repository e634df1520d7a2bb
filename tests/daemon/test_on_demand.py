"""A token on demand against a real server: nobody asking, no request; many asking at once, one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.daemon.harness import broker_process, get, sandbox_process, wait_until

LIFETIME = 4
"""Seconds: the token is refreshed from 2 s on, and a test sees it end."""

CALLERS = 50


def on_demand(home: Path) -> str:
    """Give the sandbox's configuration with its token on demand."""
    text = (home / "config.toml").read_text()
    assert text.count("required = true") == 1
    return text.replace("required = true", 'refresh = "on_demand"')


def test_the_server_hears_nothing_before_somebody_asks_and_one_request_however_many_do(tmp_path: Path):
    """Then the token ends with nobody asking: nothing is sent, no alarm is given, and the next caller gets another."""
    with (
        sandbox_process(tmp_path, lifetime=LIFETIME) as sandbox,
        broker_process(sandbox, config=on_demand(sandbox.home)) as broker,
        ThreadPoolExecutor(CALLERS) as callers,
    ):
        ready, listed, unasked = broker.ops("/readyz"), get(broker.socket, "/v1/tokens"), sandbox.control.count("token")
        answers = list(callers.map(lambda _: broker.token("demo"), range(CALLERS)))
        asked = sandbox.control.count("token")
        broker.wait_for("token_lapsed")
        lapsed, gone = sandbox.control.count("token"), broker.ops("/readyz/demo")
        again = broker.token()

        assert ready.status == gone.status == 200
        assert gone.json()["state"] == "idle"
        assert listed.json() == {"tokens": [{"name": "demo", "state": "idle"}]}
        assert [answer.status for answer in answers] == [200] * CALLERS
        assert len({answer.json()["access_token"] for answer in answers}) == 1
        assert (unasked, asked, lapsed) == (0, 1, 1)
        assert again.status == 200
        assert again.json()["access_token"] != answers[0].json()["access_token"]
        assert sandbox.control.count("token") == 2
        assert broker.log("token_expired") == []


def test_callers_of_a_server_that_is_down_keep_its_backoff_and_the_first_after_it_gets_a_token(tmp_path: Path):
    """Each is told when to come back; nobody asks in vain for longer than that."""
    with (
        sandbox_process(tmp_path, lifetime=60) as sandbox,
        broker_process(sandbox, config=on_demand(sandbox.home)) as broker,
        ThreadPoolExecutor(CALLERS) as callers,
    ):
        sandbox.control.fault("token", "status", status=503)
        first = broker.token()
        refused = list(callers.map(lambda _: broker.token("demo", "?wait=0"), range(CALLERS)))
        asked = sandbox.control.count("token")
        sandbox.control.clear_faults()
        wait_until(lambda: broker.token("demo", "?wait=0").status == 200, "the server is back")

        assert first.status == 503
        assert {answer.status for answer in refused} == {503}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert asked <= 2
        assert sandbox.control.count("token") <= 4
