"""
``login --paste`` and ``grants`` against a real broker, and a scripted person at the sandbox: a consent from its
first line in the terminal to its end.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from broker.sandbox.person import decide
from tests.daemon.harness import (
    PATIENCE,
    BrokerProcess,
    SandboxProcess,
    broker_process,
    get,
    sandbox_process,
    wait_until,
)

TOKEN = "person"
HERE = ("--port", "8765")
"""Nobody listens there: the browser would end at an error page, with the address above it."""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture(scope="module")
def broker(sandbox: SandboxProcess) -> Iterator[BrokerProcess]:
    config = (sandbox.home / "consents.toml").read_text()
    second = '\n[workload.second]\nlistener = ["demo"]\nuid = [4242]\ntokens = ["person"]\nmay = ["get"]\n'
    with broker_process(sandbox, config=config + second, name="commands") as running:
        yield running


@dataclass(frozen=True, slots=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str


def command(broker: BrokerProcess, *arguments: str) -> Result:
    done = subprocess.run(
        [sys.executable, "-m", "broker", *arguments, "--socket", str(broker.socket)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def paste(sandbox: SandboxProcess, broker: BrokerProcess, user: str, *arguments: str, allow: bool = True) -> Result:
    """Log in as *user*, by the address where the browser ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", "login", TOKEN, "--paste", *arguments, "--socket", str(broker.socket)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    try:
        for line in process.stderr:
            said += line
            if "or theirs to you" in line:
                break
        address = re.search(r"https://\S+", said)
        assert address is not None, said
        back = decide(address[0], ca_file=sandbox.home / "ca.pem", user=user, allow=allow)
        out, err = process.communicate(back.url + "\n", timeout=PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return Result(process.returncode, out, said + err)


def listed(broker: BrokerProcess) -> list[dict[str, object]]:
    result = command(broker, "grants", "list", "--json")
    assert result.code == 0, result.err
    grants: list[dict[str, object]] = json.loads(result.out)["grants"]
    return grants


def grant_id(result: Result) -> str:
    found = re.search(r"^  grant  (\S+)$", result.out, re.MULTILINE)
    assert found is not None, result.err
    return found[1]


def test_a_consent_is_given_renewed_seen_and_given_up(sandbox: SandboxProcess, broker: BrokerProcess):
    """All of it from a terminal; another person can neither take the grant over nor harm it."""
    given = paste(sandbox, broker, "alice", *HERE, "--label", "my laptop")
    grant = grant_id(given)
    other = paste(sandbox, broker, "bob", *HERE)
    renewed = paste(sandbox, broker, "alice", "--grant", grant, *HERE)
    [seen] = listed(broker)
    tried = command(broker, "grants", "retry", grant)
    moved = command(broker, "grants", "reassign", grant, "second")
    [after] = listed(broker)
    revoked = command(broker, "grants", "revoke", grant)

    assert (given.code, given.out.splitlines()[:4]) == (
        0,
        ["Consent given.", "  token  person", "  scope  openid hello:read", "  person alice"],
    )
    assert (other.code, "This was another account." in other.err) == (1, True)
    assert (renewed.code, grant_id(renewed)) == (0, grant)
    assert {name: seen[name] for name in ("token", "owner", "state", "subject", "subject_verified", "scope")} == {
        "token": "person",
        "owner": "demo",
        "state": "fresh",
        "subject": "alice",
        "subject_verified": True,
        "scope": "openid hello:read",
    }
    assert (tried.code, moved.code, after["owner"]) == (0, 0, "second")
    assert (revoked.code, "served no more" in revoked.err) == (0, True)
    wait_until(lambda: listed(broker) == [], "the grant is gone")
    assert get(broker.socket, f"/v1/tokens/{TOKEN}").status == 409


def test_a_consent_that_is_denied_leaves_nothing(sandbox: SandboxProcess, broker: BrokerProcess):
    """The terminal says so, and the list is as it was."""
    before = listed(broker)

    result = paste(sandbox, broker, "alice", *HERE, allow=False)

    assert (result.code, result.out) == (1, "")
    assert "Consent was refused." in result.err
    assert listed(broker) == before


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("login", "nobody-s", "--paste"), "access_denied"),
        (("login", "demo", "--paste"), "invalid_request"),
        (("login", "person", "--paste", "--redirect-uri", "https://mallory.example/"), "one of: "),
        (("login", "person", "--paste", "--grant", "unknown"), "not_found"),
        (("grants", "retry", "unknown"), "not_found"),
        (("grants", "revoke", "unknown"), "not_found"),
        (("grants", "reassign", "unknown", "demo"), "not_found"),
    ],
)
def test_what_the_broker_refuses_is_said(broker: BrokerProcess, arguments: tuple[str, ...], word: str):
    """With its code, and what could be done."""
    result = command(broker, *arguments)

    assert (result.code, result.out) == (1, "")
    assert word in result.err
