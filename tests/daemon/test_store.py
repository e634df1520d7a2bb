"""A broker with a store: it opens it at the start, says what was wrong with it, and serves in any case but one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.harness import PATIENCE, BrokerProcess, SandboxProcess, broker_process, sandbox_process

STORED = """
[daemon]
state_dir = "state"
[store]
key = { file = "store.key" }
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("store")) as running:
        key = running.home / "store.key"
        command("keygen", "store", str(key))
        yield running


@pytest.fixture
def broker(sandbox: SandboxProcess) -> Iterator[BrokerProcess]:
    """Not started, with an empty state directory."""
    for path in (sandbox.home / "state").glob("*"):
        path.unlink()
    config = (sandbox.home / "config.toml").read_text() + STORED
    with broker_process(sandbox, config=config, start=False, name="stored") as made:
        yield made


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


def state(broker: BrokerProcess) -> Path:
    return broker.config.parent / "state"


def names(broker: BrokerProcess) -> set[str]:
    return {path.name for path in state(broker).iterdir()}


def test_a_store_is_made_kept_and_checked(broker: BrokerProcess):
    """Through an orderly stop and a kill; its commands wait until the broker has ended."""
    broker.up()
    during = command("store", "check", "--config", str(broker.config))
    broker.stop(signal.SIGKILL)
    broker.up()

    assert broker.token().status == 200
    assert broker.stop() == 0
    checked = command("store", "check", "--config", str(broker.config))

    assert (during.returncode, checked.returncode) == (3, 0), checked.stderr
    assert "store.1.db: 0 record(s)" in checked.stdout
    assert names(broker) == {"lock", "store.1.db", "store.reserve"}
    assert broker.log("store_degraded") == broker.log("store_moved_aside") == []


def test_a_damaged_store_is_kept_and_the_broker_starts(broker: BrokerProcess):
    """It says where it is; tokens that need no store are served."""
    broker.up()
    broker.stop()
    (state(broker) / "store.1.db").write_bytes(b"not a database" * 1_000)

    broker.up()

    (moved,) = broker.log("store_moved_aside")
    assert Path(moved["path"]).read_bytes() == b"not a database" * 1_000
    assert broker.token().status == 200
    assert "token_broker_store_degraded 0" in broker.ops("/metrics").body.decode()


def test_another_key_keeps_the_broker_from_starting(broker: BrokerProcess):
    """Nothing is changed; with the right key it starts again."""
    broker.up()
    broker.stop()
    before = {path.name: path.read_bytes() for path in state(broker).glob("store.*")}
    right = broker.config.read_text()
    command("keygen", "store", str(broker.config.parent / "other.key"))
    broker.config.write_text(right.replace("store.key", "other.key"))

    done = command("run", "--config", str(broker.config))

    assert done.returncode == 1
    assert "store_key_wrong" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in state(broker).glob("store.*")} == before
    broker.config.write_text(right)
    broker.up()
    assert broker.token().status == 200
