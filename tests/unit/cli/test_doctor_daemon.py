"""Tests of ``broker/cli/doctor_daemon.py``: what is made of sockets, answers and metrics."""

from __future__ import annotations

from pathlib import Path

from broker import __version__
from broker.cli.doctor_case import Case
from broker.cli.doctor_daemon import of_alarms, of_metrics, of_sockets, of_tokens
from broker.cli.findings import Finding, Level
from broker.config.load import load_settings
from tests.unit.cli.canned import answer
from tests.unit.cli.test_status import LISTED, READY, daemon
from tests.unit.daemon.test_process import CONFIG


def case(path: Path, *, uid: int = 0) -> Case:
    return Case(daemons=(path,), uid=uid)


def levels(findings: list[Finding]) -> list[Level]:
    return [one.level for one in findings]


def answers(version: str) -> dict[str, bytes]:
    return {
        "/livez": answer({"status": "ok"}),
        "/openapi.json": answer({"info": {"version": version}}),
        "/v1/tokens": answer(LISTED),
        "/readyz": answer({**READY, "restart": ["store"], "reload_refused": True}),
    }


def test_a_socket_that_answers_is_told_with_who_may_connect_and_who_answers(tmp_path: Path):
    """The mode in words, and the kernel's word for the process."""
    with daemon(tmp_path / "s", answers(__version__)):
        (tmp_path / "s").chmod(0o660)
        findings = list(of_sockets(case(tmp_path / "s")))

    assert levels(findings) == [Level.OK, Level.OK]
    assert "mode 0660" in findings[0].text
    assert "the group" in findings[0].text
    assert findings[1].text.endswith(f"version {__version__}")


def test_another_version_than_ours_is_a_warning(tmp_path: Path):
    """After an upgrade without a restart."""
    with daemon(tmp_path / "s", answers("0.0.1")):
        findings = list(of_sockets(case(tmp_path / "s")))

    assert levels(findings) == [Level.OK, Level.WARNING]
    assert "version 0.0.1" in findings[1].text


def test_no_socket_a_file_in_its_place_and_nobody_behind_it_are_told_apart(tmp_path: Path):
    """Each has another remedy."""
    (tmp_path / "file").touch()
    with daemon(tmp_path / "left", {}):
        pass

    texts = [list(of_sockets(case(tmp_path / name)))[-1].text for name in ("none", "file", "left")]

    assert texts[:2] == ["there is none", "is no socket"]
    assert texts[2].startswith("nobody listens")


def test_tokens_that_are_not_well_have_their_reason_and_hint(tmp_path: Path):
    """One that is not required is a warning; reloads are told, too."""
    with daemon(tmp_path / "s", answers("1")):
        findings = list(of_tokens(case(tmp_path / "s")))

    bad = findings[1]
    assert (bad.place, bad.level, bad.advice) == ("token.ledger", Level.WARNING, "is it up?")
    assert bad.text == "unavailable (connect_failed); the next try is in 4 s"
    assert [one.place for one in findings if one.level is Level.FAILED] == ["running configuration"]
    assert any("changes of store wait for a restart" in one.text for one in findings)


def test_a_daemon_that_is_not_there_or_says_no_leaves_the_tokens_unknown(tmp_path: Path):
    """That is told once, with the socket."""
    with daemon(tmp_path / "s", {"/v1/tokens": answer({"error": "access_denied"}, "403 Forbidden")}):
        refused = list(of_tokens(case(tmp_path / "s", uid=5)))
    away = list(of_tokens(case(tmp_path / "t")))

    assert levels(refused + away) == [Level.SKIPPED, Level.SKIPPED]
    assert "not for uid 5" in refused[0].text


def test_the_alarms_of_the_daemon_are_failures():
    """Audit log and store; a gap of the past is a warning."""
    good = list(of_metrics({"token_broker_audit_healthy": 1.0}))
    bad = list(of_metrics({"token_broker_audit_healthy": 0.0, "token_broker_audit_gaps_total": 2.0}))
    worse = list(of_metrics({"token_broker_store_degraded": 1.0}))

    assert levels(good) == [Level.OK]
    assert levels(bad)[:2] == [Level.FAILED, Level.WARNING]
    assert levels(worse)[0] is Level.FAILED


def test_without_an_ops_listener_the_alarms_are_not_known(tmp_path: Path):
    """Which is said, and is no failure."""
    (tmp_path / "c").write_text(CONFIG)
    (tmp_path / "c").chmod(0o600)
    settings = load_settings(tmp_path / "c", credentials_directory=None)

    (found,) = of_alarms(case(tmp_path / "s"), settings)

    assert (found.level, found.text) == (Level.SKIPPED, "not read: there is no ops listener")
