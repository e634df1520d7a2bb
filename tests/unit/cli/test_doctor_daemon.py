"""Tests of ``broker/cli/doctor_daemon.py``: what is made of sockets, answers and metrics."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from broker import __version__, events
from broker.cli.doctor_case import Case
from broker.cli.doctor_daemon import Metrics, is_ours, of_alarms, of_metrics, of_sockets, of_tokens, parse_metrics
from broker.cli.findings import Finding, Level
from broker.config.load import load_settings
from broker.config.settings import OpsSettings, Settings
from broker.telemetry.sink_series import SinkSeries
from tests.unit.cli.canned import answer
from tests.unit.cli.test_status import LISTED, READY, daemon
from tests.unit.daemon.test_process import CONFIG

WALL = 1_790_000_000.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """With a Unix socket, ``api.sock``, and without an ops listener."""
    (tmp_path / "c").write_text(CONFIG)
    (tmp_path / "c").chmod(0o600)
    return load_settings(tmp_path / "c", credentials_directory=None)


def failure(sink: str) -> events.SinkWriteFailed:
    return events.SinkWriteFailed(sink=sink, token="t", path="/f", reason="enospc", retry_in=1.0, serving=False)


@contextmanager
def metrics_served(text: str) -> Iterator[OpsSettings]:
    """Answer one request at a free port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield OpsSettings(host="127.0.0.1", port=server.getsockname()[1])


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
    """One that is unavailable is a failure, required or not; reloads are told, too."""
    with daemon(tmp_path / "s", answers("1")):
        findings = list(of_tokens(case(tmp_path / "s")))

    bad = findings[1]
    assert (bad.place, bad.level, bad.advice) == ("token.ledger", Level.FAILED, "is it up?")
    assert bad.text == "unavailable (connect_failed); the next try is in 4 s"
    assert [one.place for one in findings if one.level is Level.FAILED] == ["token.ledger", "running configuration"]
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
    good = list(of_metrics(Metrics(plain={"token_broker_audit_healthy": 1.0}), WALL))
    bad = list(
        of_metrics(Metrics(plain={"token_broker_audit_healthy": 0.0, "token_broker_audit_gaps_total": 2.0}), WALL)
    )
    worse = list(of_metrics(Metrics(plain={"token_broker_store_degraded": 1.0}), WALL))

    assert levels(good) == [Level.OK]
    assert levels(bad)[:2] == [Level.FAILED, Level.WARNING]
    assert levels(worse)[0] is Level.FAILED


def test_without_an_ops_listener_the_alarms_are_not_known(settings: Settings, tmp_path: Path):
    """Which is said, and is no failure."""
    (found,) = of_alarms(case(tmp_path / "s"), settings)

    assert (found.level, found.text) == (Level.SKIPPED, "not read: there is no ops listener")


def test_an_ops_listener_without_a_daemon_is_somebody_else_s(settings: Settings, tmp_path: Path):
    """What it says would be taken for ours; while the daemon serves it is ours."""
    with metrics_served("token_broker_audit_healthy 1.0\n") as ops:
        (foreign,) = of_alarms(case(tmp_path / "api.sock"), replace(settings, ops=ops))
    with metrics_served("token_broker_audit_healthy 1.0\n") as ops, daemon(tmp_path / "api.sock", answers("1")):
        (own,) = of_alarms(case(tmp_path / "api.sock"), replace(settings, ops=ops))

    assert (foreign.level, "somebody else has" in foreign.text) == (Level.FAILED, True)
    assert own.level is Level.OK


def test_an_ops_listener_that_waits_for_a_restart_is_not_asked(settings: Settings, tmp_path: Path):
    """The daemon still has its old one; one that is not there for another reason is a failure."""
    waits = answers("1") | {"/readyz": answer({**READY, "restart": ["ops"]})}
    nowhere = replace(settings, ops=OpsSettings(host="127.0.0.1", port=1))
    with daemon(tmp_path / "api.sock", waits):
        (waiting,) = of_alarms(case(tmp_path / "api.sock"), nowhere)
    with daemon(tmp_path / "other", answers("1")):
        (tmp_path / "other").rename(tmp_path / "api.sock")
        (broken,) = of_alarms(case(tmp_path / "api.sock"), nowhere)

    assert (waiting.level, waiting.advice) == (Level.SKIPPED, "restart the daemon")
    assert broken.level is Level.FAILED


def test_token_files_that_are_not_written_are_told_from_the_metrics():
    """A failure while there is no good token in the file; a warning while there is one."""
    registry = CollectorRegistry()
    series = SinkSeries(registry)
    series.expect(["gone", "late", "lasting", "well"])
    for sink, end in (("late", WALL - 1), ("lasting", WALL + 61), ("well", WALL + 61)):
        series.handlers()[events.SinkWritten](events.SinkWritten(sink=sink, token="t", path="/f", expires_at=end))
    for sink in ("gone", "late", "lasting"):
        series.handlers()[events.SinkWriteFailed](failure(sink))

    found = {one.place: one for one in of_metrics(parse_metrics(generate_latest(registry).decode()), WALL)}

    assert {place: one.level for place, one in found.items()} == {
        "sink.gone": Level.FAILED,
        "sink.late": Level.FAILED,
        "sink.lasting": Level.WARNING,
        "alarms": Level.OK,
    }
    assert found["sink.lasting"].text.endswith("its token is good for 1 min 1 s")


def test_where_to_start_the_daemon_names_its_file(tmp_path: Path):
    """To be copied as it is, whatever the name of the file."""
    with daemon(tmp_path / "left", {}):
        pass

    for name in ("none", "left"):
        *_, found = of_sockets(Case(daemons=(tmp_path / name,), uid=0, config=Path("/etc/a b.toml")))
        assert "token-broker run --config '/etc/a b.toml'" in str(found.advice)


def test_times_are_as_status_has_them(tmp_path: Path):
    """Two commands say the same."""
    late = {"tokens": [{"name": "ledger", "state": "stale", "retry_in": 883}]}
    with daemon(tmp_path / "s", answers("1") | {"/v1/tokens": answer(late)}):
        found = next(iter(of_tokens(case(tmp_path / "s"))))

    assert (found.level, found.text) == (Level.WARNING, "stale; the next try is in 14 min 43 s")


@pytest.mark.parametrize(
    ("command", "ours"),
    [
        (b"/opt/venv/bin/python\0/opt/venv/bin/token-broker\0run\0", True),
        (b"python\0-m\0broker\0run\0--config\0c.toml\0", True),
        (b"/usr/lib/systemd/systemd\0--system\0", False),
        (b"sh\0-c\0token-broker run\0", False),
        (b"", False),
    ],
)
def test_the_first_process_of_a_container_is_known_as_a_broker(command: bytes, ours: bool):
    """And not taken for a service manager."""
    assert is_ours(command) is ours
