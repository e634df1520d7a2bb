"""The audit log of a running broker whose disk is full, whose file cannot be opened, or whose key is another."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.telemetry.audit_verify import Report, verify
from tests.daemon.harness import BrokerProcess, SandboxProcess, broker_process, sandbox_process, wait_until
from tests.daemon.test_reload import hang_up, reload

WITHIN = 3.0
"""Seconds: a checkpoint is due each second, on a machine that may be busy."""

ROOM = 12
"""Bytes more than a record: for a number that has a digit more, and far too few for a checkpoint."""

FILLING = 40
"""Requests that make the audit log longer than the broker's other file, which the same limit holds for."""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("disk"), lifetime=600) as process:
        yield process


@pytest.fixture
def broker(sandbox: SandboxProcess) -> Iterator[BrokerProcess]:
    for old in (*sandbox.home.glob("audit.log*"), *sandbox.directory.glob("disk.*")):
        old.unlink()
    config = (sandbox.home / "config.toml").read_text()
    with broker_process(sandbox, config=config, name="disk") as process:
        yield process


def sealed(broker: BrokerProcess) -> None:
    wait_until(lambda: broker.records()[-1]["event"] == "checkpoint", "a checkpoint")


def check(broker: BrokerProcess, *paths: Path, key: bytes | None = None) -> Report:
    key = key or (broker.config.parent / "audit.key").read_bytes()
    return verify(((str(path), [path.read_bytes()]) for path in paths), key=key)


def allow(broker: BrokerProcess, size: int) -> None:
    """Let no file of the broker grow beyond *size* bytes: to a process that is what a full disk is."""
    resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def fill(broker: BrokerProcess) -> None:
    """Leave room for one record, and for no checkpoint after it."""
    for _ in range(FILLING):
        assert broker.token().status == 200
    sealed(broker)
    (*_, record, _checkpoint) = broker.audit.read_bytes().splitlines(keepends=True)
    size = broker.audit.stat().st_size
    assert broker.err.stat().st_size < size
    allow(broker, size + len(record) + ROOM)


def test_a_checkpoint_is_written_as_soon_as_there_is_room_for_it(broker: BrokerProcess):
    """What was served on a nearly full disk is in the log, named as unprotected, and sealed when that is possible."""
    fill(broker)
    assert broker.token().status == 200
    broker.wait_for("audit_gap", closed=False)
    full = check(broker, broker.audit)
    refused = broker.token()

    allow(broker, resource.RLIM_INFINITY)
    began = time.monotonic()
    sealed(broker)
    took = time.monotonic() - began

    after = check(broker, broker.audit)
    assert (full.intact, full.tail_records) == (True, 1)
    assert (refused.status, refused.json()["error"]) == (503, "temporarily_unavailable")
    assert [record["event"] for record in broker.records()[-3:]] == ["token_served", "gap", "checkpoint"]
    assert took < WITHIN
    assert (after.intact, after.tail_records) == (True, 0)
    assert {name: broker.records("gap")[0][name] for name in ("lost", "refused")} == {"lost": 1, "refused": 1}
    assert broker.wait_for("audit_gap", closed=True)["lost"] == 1  # that the request was refused
    assert broker.token().status == 200
    assert b"token_broker_audit_healthy 1.0" in broker.ops("/metrics").body


def test_who_chose_to_serve_is_served_and_the_missing_records_are_counted(sandbox: SandboxProcess):
    """``on_failure = "serve"``: the gap says how many."""
    for old in (*sandbox.home.glob("audit.log*"), *sandbox.directory.glob("serving.*")):
        old.unlink()
    config = (sandbox.home / "config.toml").read_text()
    config = config.replace('file = "audit.log"', 'file = "audit.log"\non_failure = "serve"')
    with broker_process(sandbox, config=config, name="serving") as broker:
        fill(broker)
        served = [broker.token().status for _ in range(6)]
        broker.wait_for("audit_gap", closed=False)

        allow(broker, resource.RLIM_INFINITY)
        sealed(broker)

        after = check(broker, broker.audit)
        assert served == [200] * 6
        assert after.intact
        assert after.lost == 5
        assert broker.wait_for("audit_gap", closed=True)["lost"] == 5


def test_a_rotation_that_fails_is_told_and_the_reload_goes_on(broker: BrokerProcess):
    """The log goes on in the old file; the policy of the new configuration is in force; mended, all is one chain."""
    old = broker.audit.rename(broker.audit.with_suffix(".log.1"))
    broker.audit.touch()
    broker.audit.chmod(0o666)

    reload(broker, ('tokens = ["demo"]', "tokens = []"))
    told = broker.wait_for("audit_reopen_failed")
    status = broker.token().status
    wait_until(lambda: b'"reason":"not_granted"' in old.read_bytes(), "the record is in the old file")
    broker.audit.chmod(0o600)
    reload(broker, ("tokens = []", 'tokens = ["demo"]'))

    assert status == 403
    assert (told["reason"], told["level"]) == ("audit_permissions", "error")
    assert told["hint"].startswith("chmod go-w ")
    assert broker.token().status == 200
    sealed(broker)
    assert check(broker, old, broker.audit).intact
    assert broker.log("audit_gap") == []
    assert broker.log("unexpected_failure") == []


def test_another_key_in_the_same_file_waits_for_a_restart_and_says_so(broker: BrokerProcess):
    """Until then the log is sealed with the key that it was opened with; after it, with the other."""
    key_file = broker.config.parent / "audit.key"
    first = key_file.read_bytes()
    try:
        key_file.write_bytes(b"\x07" * len(first))
        reload(broker)
        assert broker.token().status == 200
        sealed(broker)

        assert broker.log("configuration_loaded")[-1]["restart"] == "audit"
        assert check(broker, broker.audit, key=first).intact
        assert broker.stop() == 0
        before = len(broker.records())
        broker.up()
        sealed(broker)
        later = check(broker, broker.audit, key=key_file.read_bytes())
    finally:
        key_file.write_bytes(first)

    assert later.covered_seq is not None
    assert later.covered_seq > before


def test_a_key_that_is_gone_or_too_short_is_refused_at_a_reload(broker: BrokerProcess):
    """Nothing changes: what the next start would fail with is found now."""
    key_file = broker.config.parent / "audit.key"
    first = key_file.read_bytes()
    try:
        key_file.unlink()
        hang_up(broker)
        gone = broker.wait_for("configuration_refused")
        key_file.write_bytes(b"short")
        key_file.chmod(0o600)
        hang_up(broker)
        wait_until(lambda: len(broker.log("configuration_refused")) == 2, "the second reload is refused")
    finally:
        key_file.write_bytes(first)
        key_file.chmod(0o600)

    assert "file_missing" in gone["problems"]
    assert "audit_key_short" in broker.log("configuration_refused")[1]["problems"]
    assert broker.token().status == 200


def test_a_killed_broker_seals_at_its_next_start_what_the_kill_left(broker: BrokerProcess):
    """And says how much it took over on trust."""
    sealed(broker)
    assert broker.token().status == 200
    broker.stop(signal.SIGKILL)
    left = check(broker, broker.audit).tail_records

    broker.up()
    sealed(broker)

    assert [record["unprotected"] for record in broker.records("recovered")] == ([left] if left else [])
    assert check(broker, broker.audit).intact
