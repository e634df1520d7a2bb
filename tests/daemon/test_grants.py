"""Grants in a real broker: kept through restarts, kills in the worst moment, full disks and wrong keys."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.keys.sealing import load_sealing_key
from broker.oauth.secret import RefreshToken
from broker.storage.vault import Place, open_vault
from broker.tokens.grant import Grant
from broker.tokens.storing import Put
from tests.daemon.harness import PATIENCE, BrokerProcess, found, get, wait_until
from tests.daemon.rotating_server import RotatingServer, rotating_server

CONFIG = """
[daemon]
state_dir = "state"
[store]
key = { file = "store.key" }
[audit]
file = "audit.log"
[ops]
listen = "127.0.0.1:0"
[issuer.server]
issuer = "ISSUER"
profile = "oauth2"
allow_insecure_loopback = true
refresh_rotation = "ROTATION"
[client.app]
issuer = "server"
client_id = "our-client"
client_auth_method = "none"
sender_constraint = "none"
redirect_uris = ["http://127.0.0.1/callback"]
[token.person]
client = "app"
grant_type = "authorization_code"
scope = ["read"]
[token.nobody]
client = "app"
grant_type = "authorization_code"
[listener.app]
path = "api.sock"
mode = "0600"
[workload.app]
listener = ["app"]
tokens = ["person", "nobody"]
may = ["get", "refresh", "authorize"]
"""

GRANT = "grant-1"

TOO_SMALL = 12_000
"""Bytes: less than a file of the store has at the least, and more than the log and the audit log of a test."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "broker", "keygen", "store", str(tmp_path / "store.key")],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    (tmp_path / "state").mkdir(mode=0o700)
    return tmp_path


@contextmanager
def broker_of(home: Path, server: RotatingServer, *, audited: bool = True) -> Iterator[BrokerProcess]:
    """Make a broker with one grant in its store, not started; nothing that the server gave may come out of it."""
    config = CONFIG.replace("ISSUER", server.issuer).replace("ROTATION", server.mode)
    config = config if audited else config.replace('file = "audit.log"', "enabled = false")
    (home / "config.toml").write_text(config)
    seed(home, server)
    broker = BrokerProcess(
        name="grants",
        directory=home,
        arguments=[],
        config=home / "config.toml",
        socket=home / "api.sock",
        audit=home / "audit.log",
    )
    try:
        yield broker
        broker.secrets |= server.secrets()
        broker.sweep()
    finally:
        server.release()
        broker.stop()
    broker.secrets |= server.secrets()
    broker.sweep()
    for path in (home / "state").iterdir():
        assert found(path.read_bytes().decode("latin-1"), server.secrets()) == set(), path


def place(home: Path) -> Place:
    return Place(directory=home / "state", sealer=load_sealing_key(home / "store.key"), anchor=None, wall=time.time)


def seed(home: Path, server: RotatingServer) -> None:
    grant = Grant(
        id=GRANT,
        token="person",
        owner="app",
        issuer=server.issuer,
        client_id="our-client",
        created_at=time.time(),
        scope=("read",),
        refresh_token=RefreshToken(server.grant()),
    )
    vault = open_vault(place(home))
    vault.commit([Put(name=f"grant/{GRANT}", value=grant.to_bytes())])
    vault.close()


def stored(home: Path) -> Grant:
    """Read the grant while no broker runs."""
    vault = open_vault(place(home))
    records = {record.name: record.value for record in vault.records()}
    vault.close()
    return Grant.from_bytes(records[f"grant/{GRANT}"])


def newest(home: Path) -> str:
    token = stored(home).refresh_token
    assert token is not None
    return token.reveal()


def metric(broker: BrokerProcess, series: str) -> float | None:
    lines = broker.ops("/metrics").body.decode().splitlines()
    values = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{series} ")]
    return float(values[0]) if values else None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_keeps_the_access_token_and_asks_nobody(home: Path, number: signal.Signals):
    """However the broker ended: what it had was sealed before it was served."""
    with rotating_server("strict") as server, broker_of(home, server) as broker:
        broker.up()
        before = broker.token("person", "?wait=20").json()
        broker.stop(number)
        broker.up()
        after = broker.token("person").json()

        assert after["access_token"] == before["access_token"] == server.access_tokens[0]
        assert after["expires_at"] == pytest.approx(before["expires_at"], abs=2)
        assert len(server.requests) == 1
        broker.stop()
        assert newest(home) == server.families[0].tokens[-1]


def test_a_grant_is_seen_in_metrics_lists_and_the_log(home: Path):
    """And so is the token to which nobody has consented yet, with what a person can do."""
    with rotating_server("grace") as server, broker_of(home, server) as broker:
        broker.up()
        expires_at = broker.token("person", "?wait=20").json()["expires_at"]
        listed = {one["name"]: one for one in get(broker.socket, "/v1/tokens").json()["tokens"]}

        assert metric(broker, 'token_broker_grants{state="fresh",token="person"}') == 1
        assert metric(broker, 'token_broker_grants{state="consent_required",token="person"}') == 0
        assert metric(broker, 'token_broker_refresh_total{outcome="success",token="person"}') == 1
        ends = metric(broker, 'token_broker_token_expires_timestamp_seconds{token="person"}')
        assert ends == pytest.approx(expires_at, abs=2)
        assert listed["person"]["state"] == "fresh"
        assert listed["nobody"]["state"] == "consent_required"
        assert broker.token("nobody").status == 409
        (refreshed,) = broker.records("token_refreshed")
        assert (refreshed["token"], refreshed["grant"]) == ("person", GRANT)


def test_a_kill_while_the_answer_is_on_its_way_costs_nothing_where_the_server_forgives(home: Path):
    """The intent was durable: the next start asks once more with the same refresh token."""
    with rotating_server("grace") as server, broker_of(home, server) as broker:
        server.hold()
        broker.up()
        assert server.processed.wait(PATIENCE)
        broker.stop(signal.SIGKILL)
        server.release()
        broker.up()

        assert broker.token("person", "?wait=20").status == 200
        first, second = (request["refresh_token"] for request in server.requests)
        assert first == second == server.families[0].tokens[0]
        broker.stop()
        assert newest(home) == server.families[0].tokens[-1]


def test_a_kill_while_the_answer_is_on_its_way_is_told_for_what_it_is_where_the_server_does_not(home: Path):
    """Nobody could know the new refresh token; it is a lost answer, and not a broker that never tried."""
    with rotating_server("strict") as server, broker_of(home, server) as broker:
        server.hold()
        broker.up()
        assert server.processed.wait(PATIENCE)
        broker.stop(signal.SIGKILL)
        server.release()
        broker.up()
        broker.wait_for("grant_ended", reason="lost_answer")
        refused = broker.token("person")

        assert (refused.status, refused.json()["reason"]) == (409, "lost_answer")
        assert metric(broker, 'token_broker_grants{state="consent_required",token="person"}') == 1
        broker.stop()
        assert newest(home) == server.families[0].tokens[0], "a verdict deletes nothing"


def test_an_orderly_stop_waits_for_an_answer_that_is_on_its_way(home: Path):
    """It may hold the only refresh token there is: whoever stops the broker loses nothing."""
    with rotating_server("strict") as server, broker_of(home, server) as broker:
        server.hold()
        broker.up()
        assert server.processed.wait(PATIENCE)
        os.kill(broker.pid, signal.SIGTERM)
        broker.wait_for("daemon_stopping")
        time.sleep(0.3)  # long enough to end, if it did not wait
        assert broker.running()
        server.release()

        assert broker.stop() == 0
        assert newest(home) == server.families[0].tokens[-1]
        broker.up()
        assert broker.token("person").json()["access_token"] == server.access_tokens[0]
        assert len(server.requests) == 1


def test_a_reload_while_an_answer_is_on_its_way_does_not_lose_it(home: Path):
    """Not even one that takes the token out: the refresh token in the answer is the only one there is."""
    with rotating_server("strict") as server, broker_of(home, server) as broker:
        whole = broker.config.read_text()
        server.hold()
        broker.up()
        assert server.processed.wait(PATIENCE)
        reload(broker, whole.replace("token.person", "token.elsewhere").replace('"person"', '"elsewhere"'))
        server.release()
        wait_until(lambda: server.answered == 1, "the answer is sent")
        assert broker.token("person").status == 403

        reload(broker, whole)

        assert broker.token("person", "?wait=20").status == 200
        assert not server.families[0].dead
        broker.stop()
        assert newest(home) == server.families[0].tokens[-1]


def test_what_only_a_start_can_change_of_a_store_is_said(home: Path):
    """The store that is open stays; grants go on."""
    with rotating_server("grace") as server, broker_of(home, server) as broker:
        broker.up()
        broker.token("person", "?wait=20")

        (home / "other.key").write_bytes((home / "store.key").read_bytes())
        (home / "other.key").chmod(0o600)
        loaded = reload(broker, broker.config.read_text().replace("store.key", "other.key"))

        assert loaded["restart"] == "store"
        assert metric(broker, "token_broker_configuration_restart_pending") == 1
        assert broker.token("person").status == 200


def reload(broker: BrokerProcess, config: str) -> dict[str, Any]:
    """Put another configuration in force; gives the event that says so."""
    before = len(broker.log("configuration_loaded"))
    broker.config.write_text(config)
    os.kill(broker.pid, signal.SIGHUP)
    wait_until(lambda: len(broker.log("configuration_loaded")) > before, "the reload")
    return broker.log("configuration_loaded")[-1]


def test_while_the_store_is_full_no_refresh_token_is_spent(home: Path):
    """What is in hand is served to its end, and then it is said why there is nothing; with room again all is well."""
    with rotating_server("strict", lifetime=6) as server, broker_of(home, server, audited=False) as broker:
        broker.up()
        broker.token("person", "?wait=20")
        limit(broker, TOO_SMALL)
        broker.wait_for("store_degraded")
        asked = len(server.requests)
        served = broker.token("person", "?min_valid=0").json()
        time.sleep(served["expires_in"] + 1)
        refused = broker.token("person", "?wait=0")
        (why,) = (one for one in get(broker.socket, "/v1/tokens").json()["tokens"] if one["name"] == "person")

        assert served["access_token"] == server.access_tokens[-1]
        assert (refused.status, refused.json()["error"]) == (503, "temporarily_unavailable")
        assert "retry-after" in refused.headers
        assert (why["state"], why["reason"]) == ("unavailable", "store_unavailable")
        assert len(server.requests) == asked
        assert metric(broker, "token_broker_store_degraded") == 1

        limit(broker, resource.RLIM_INFINITY)
        wait_until(lambda: broker.token("person", "?wait=5").status == 200, "there is room again")
        wait_until(lambda: metric(broker, "token_broker_store_degraded") == 0, "all is written")
        broker.stop()
        assert newest(home) == server.families[0].tokens[-1]
        assert not server.families[0].dead


@pytest.mark.parametrize("damage", ["bytes", "truncated"])
def test_a_damaged_store_is_moved_aside_and_its_grants_are_missed(home: Path, damage: str):
    """Nothing is written into it; what could not be read is a consent that is missing, and a person can give it."""
    with rotating_server("strict") as server, broker_of(home, server) as broker:
        (file,) = (home / "state").glob("store.*.db")
        whole = file.read_bytes()
        file.write_bytes(b"not a database" * 1_000 if damage == "bytes" else whole[: len(whole) // 3])
        before = file.read_bytes()

        broker.up()
        (moved,) = broker.log("store_moved_aside")

        assert Path(moved["path"]).read_bytes() == before
        assert broker.token("person").status == 409
        assert server.requests == []
        broker.stop()


def test_an_older_copy_of_the_store_spends_nothing_until_it_is_accepted(home: Path):
    """The anchor on another volume knows better, and somebody has to decide."""
    with rotating_server("grace", lifetime=3) as server, broker_of(home, server) as broker:
        (home / "elsewhere").mkdir(mode=0o700)
        key = 'key = { file = "store.key" }'
        broker.config.write_text(broker.config.read_text().replace(key, f'{key}\nanchor = "elsewhere/anchor"'))
        broker.up()
        assert broker.token("person", "?wait=20").status == 200
        broker.stop()
        shutil.copytree(home / "state", home / "copy")
        broker.up()
        wait_until(lambda: len(server.requests) >= 2, "another refresh")
        broker.stop()
        asked = len(server.requests)
        shutil.rmtree(home / "state")
        shutil.move(home / "copy", home / "state")

        broker.up()
        broker.wait_for("store_rolled_back")
        wait_until(lambda: broker.token("person", "?wait=0").status == 503, "the access token of the copy has ended")

        def why() -> dict[str, Any]:
            return next(one for one in get(broker.socket, "/v1/tokens").json()["tokens"] if one["name"] == "person")

        wait_until(lambda: "reason" in why(), "it is said why")
        assert why()["reason"] == "store_rolled_back"
        assert "store accept" in why()["hint"]
        assert len(server.requests) == asked
        broker.stop()

        assert command("store", "accept", "--config", str(broker.config)).returncode == 0
        broker.up()
        assert broker.token("person", "?wait=20").status == 200
        broker.stop()


def test_another_key_does_not_touch_the_grants(home: Path):
    """The broker does not start, and says why; with the right key it goes on where it was."""
    with rotating_server("strict") as server, broker_of(home, server) as broker:
        right = (home / "store.key").read_bytes()
        (home / "store.key").write_bytes(os.urandom(32))
        done = run(broker)
        assert (done.returncode, "store_key_wrong" in done.stderr) == (1, True)
        assert "Traceback" not in done.stderr

        (home / "store.key").write_bytes(right)
        broker.up()

        assert broker.token("person", "?wait=20").status == 200
        broker.stop()


def test_one_store_has_one_broker(home: Path):
    """A second one names the first, and has its exit code."""
    with rotating_server("strict") as server, broker_of(home, server) as broker:
        broker.up()

        done = run(broker)

        assert done.returncode == 3
        assert str(broker.pid) in done.stderr
        assert broker.token("person", "?wait=20").status == 200


def run(broker: BrokerProcess) -> subprocess.CompletedProcess[str]:
    return command("run", "--config", str(broker.config))


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def limit(broker: BrokerProcess, size: int) -> None:
    """Let no file of the broker grow beyond *size* bytes: to a process that is what a full disk is."""
    resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
