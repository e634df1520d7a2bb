"""Tests of ``broker/cli/doctor.py``: groups that stand by themselves, a deadline, exit codes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.cli import main
from broker.cli.doctor import examine
from broker.cli.findings import Finding, Level, ok
from broker.errors import LocalError
from tests.unit.daemon.test_process import CONFIG


def good() -> Iterator[Finding]:
    yield ok("good", "it is")


def broken() -> Iterator[Finding]:
    yield ok("broken", "so far")
    raise RuntimeError("secret-in-a-message")


def refused() -> Iterator[Finding]:
    yield from ()
    raise LocalError("some_code", "it is so", hint="do so")


def test_a_group_that_breaks_is_a_finding_and_takes_no_other_along():
    """What it had found is kept; nothing of a message, which may hold anything."""
    findings, finished = examine([("broken", broken), ("refused", refused), ("good", good)], 30)

    assert finished
    assert [(one.place, one.level) for one in findings] == [
        ("broken", Level.OK),
        ("broken", Level.FAILED),
        ("refused", Level.FAILED),
        ("good", Level.OK),
    ]
    assert "RuntimeError at" in str(findings[1].advice)
    assert "secret" not in str(findings)


def test_a_group_that_hangs_is_a_finding_and_holds_no_other_up():
    """The deadline is for all of them together."""
    release = threading.Event()

    def hanging() -> Iterator[Finding]:
        yield ok("hanging", "so far")
        release.wait()

    findings, finished = examine([("hanging", hanging), ("good", good)], 0.05)
    release.set()

    assert not finished
    assert [one.level for one in findings] == [Level.OK, Level.FAILED, Level.OK]
    assert "not finished within" in findings[1].text


def test_a_configuration_with_mistakes_is_told_whole_and_the_socket_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """As when the daemon does not start any more."""
    config = tmp_path / "c.toml"
    config.write_text(CONFIG.replace("[token.t]", "[tokn.t]"))

    code = main(["doctor", "--config", str(config), "--socket", str(tmp_path / "s")])
    out = capsys.readouterr().out

    assert code == 1
    assert "FAILED  configuration tokn: " in out
    assert f"FAILED  socket {tmp_path}/s: there is none" in out
    assert "skipped alarms, keys, directories, audit, store, issuers, upstreams: not looked at" in out


def test_without_a_configuration_the_socket_alone_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """And JSON says the same."""
    monkeypatch.delenv("TOKEN_BROKER_CONFIG", raising=False)

    code = main(["doctor", "--json", "--socket", str(tmp_path / "s")])
    found = json.loads(capsys.readouterr().out)

    assert (code, found["ok"]) == (1, False)
    assert [one["level"] for one in found["findings"]] == ["skipped", "failed", "skipped", "skipped"]


def test_wrong_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]):
    """As everywhere."""
    with pytest.raises(SystemExit, match="2"):
        main(["doctor", "--nonsense"])
