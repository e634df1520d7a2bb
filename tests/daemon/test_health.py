"""``token-broker health`` against a real broker: what a probe is told, whoever it runs as."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.harness import PATIENCE, BrokerProcess, SandboxProcess, broker_process, sandbox_process

REFUSED = '[token.refused]\nclient = "demo"\nscope = ["nobody:knows"]\nrequired = true\n'
"""The sandbox gives no such scope, and a required token is missing."""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("health"), lifetime=600) as process:
        yield process


@pytest.fixture(scope="module")
def broker(sandbox: SandboxProcess) -> Iterator[BrokerProcess]:
    """It serves, and is not ready: one of its required tokens is refused."""
    config = (sandbox.home / "config.toml").read_text() + REFUSED
    with broker_process(sandbox, config=config, ready=False, name="health") as process:
        process.wait_for("token_refreshed", token="demo")
        process.wait_for("token_refresh_failed", token="refused")
        yield process


def health(socket: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker", "health", "--socket", str(socket), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("arguments", [(), ("--ready", "demo")], ids=["live", "a token that is there"])
def test_a_broker_that_serves_passes_in_silence(broker: BrokerProcess, arguments: tuple[str, ...]):
    """A token that is refused makes nothing of this fail."""
    done = health(broker.socket, *arguments)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("arguments", [("--ready",), ("--ready", "refused")], ids=["all", "one"])
def test_a_token_that_is_missing_is_not_ready(broker: BrokerProcess, arguments: tuple[str, ...]):
    """One line, for the events of a cluster."""
    done = health(broker.socket, *arguments)

    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "[temporarily_unavailable]" in done.stderr


def test_a_name_that_nobody_knows_is_not_ready(broker: BrokerProcess):
    """A probe with a mistake fails, and does not pass for ever."""
    done = health(broker.socket, "--ready", "nonsense")

    assert done.returncode == 1
    assert done.stderr == "there is no token nonsense, or it is not for you [not_found]\n"


def test_the_reason_of_a_token_that_is_missing_is_told(broker: BrokerProcess):
    """It is known, and saves a look into the log."""
    done = health(broker.socket, "--ready", "refused")

    assert "not available: " in done.stderr
