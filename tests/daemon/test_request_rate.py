"""A caller that asks without end: it is slowed, others are not, and the audit log stays small."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from tests.daemon.harness import UID_A, BrokerProcess, broker_process, get_as, sandbox_process

RATE = 20

ASKED = 600
"""Requests, far more than the rate lets through while they are sent."""

REQUEST = b"GET /v1/tokens/none HTTP/1.1\r\nHost: localhost\r\n\r\n"

MORE = """
[daemon]
max_requests_per_second_per_uid = {rate}
[listener.open]
path = "{directory}/open.sock"
mode = "0666"
"""


def hammered(broker: BrokerProcess) -> list[bytes]:
    """Ask for what there is not, on one connection, again and again; give the status lines."""
    lines = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(broker.socket))
        stream = connection.makefile("rb")
        for _ in range(ASKED):
            connection.sendall(REQUEST)
            lines.append(stream.readline().strip())
            length = 0
            while header := stream.readline().strip():
                name, _, value = header.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            stream.read(length)
        stream.close()
    return lines


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can call as other users")
def test_a_caller_that_asks_without_end_is_slowed_alone_and_recorded_in_few_lines(tmp_path: Path):
    """Refusals count as requests; each is in the metrics, and the records say how many there were."""
    with sandbox_process(tmp_path) as sandbox, tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        config = (sandbox.home / "config.toml").read_text() + MORE.format(rate=RATE, directory=directory)
        with broker_process(sandbox, config=config) as broker:
            lines = hammered(broker)
            other = get_as(UID_A, Path(directory) / "open.sock", "/livez")
            metrics = broker.ops("/metrics").body.decode()
        refused = [record for record in broker.records("request_refused") if record["uid"] == os.geteuid()]

    assert set(lines) == {b"HTTP/1.1 403 Forbidden", b"HTTP/1.1 429 Too Many Requests"}
    slowed = lines.count(b"HTTP/1.1 429 Too Many Requests")
    assert slowed > ASKED / 2
    assert other is not None
    assert other.status == 200
    assert f'token_broker_requests_total{{outcome="slow_down",route="unrouted"}} {slowed:.1f}' in metrics
    assert sum(record.get("count", 1) for record in refused) >= ASKED
    assert len(refused) < 100
