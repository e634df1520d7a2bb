"""Tests of ``broker/cli/doctor.py``: groups that stand by themselves, a deadline, exit codes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.cli import main
from broker.cli.doctor import examine, in_order, summary
from broker.cli.doctor_case import Case
from broker.cli.doctor_daemon import started
from broker.cli.findings import Finding, Level, failed, ok, skipped, warning
from broker.errors import LocalError
from tests.unit.daemon.test_process import CONFIG

RUN = "token-broker run --config"


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
    assert f"-> mend what else is FAILED, then start the daemon: systemctl start token-broker, or {RUN} {config}" in out
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


def test_a_server_that_is_away_keeps_no_daemon_from_a_start():
    """Only what does is to be mended first."""
    case = Case(daemons=(), uid=0, config=Path("/c"))
    socket = failed("socket /s", "there is none", started(case))

    alone = in_order([socket, failed("issuer.a", "away", "is it up?")], case)
    after = in_order([socket, failed("directories", "unsafe", "chmod")], case)
    taken = in_order([socket, failed("alarms", "somebody else has the port", "stop it")], case)

    assert alone[0].advice == started(case)
    assert after[0].advice == f"mend what else is FAILED, then {started(case)}"
    assert after[1].advice == "chmod"
    assert str(taken[0].advice).startswith("mend what else is FAILED")


def test_that_nothing_could_be_judged_is_said_in_the_last_line():
    """A file of a socket that we may not use is not much; exit 0 must not be read as all is well."""
    blind = [skipped("configuration", "not ours"), ok("socket /s", "is there"), skipped("socket /s", "may not connect")]

    assert summary(blind) == "0 FAILED, 0 warning, 2 skipped, 1 ok: nothing could be judged"
    assert summary([*blind, ok("clock", "agrees")]) == "0 FAILED, 0 warning, 2 skipped, 2 ok"
    assert summary([*blind, warning("audit", "gone")]).endswith(" 1 ok")
