"""A sandbox and a broker for the example clients: a token, one that nobody consented to, and an API to call."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.sandbox.layout import CONSENTS_CONFIG, read_addresses
from tests.daemon.harness import BrokerProcess, broker_process, sandbox_process

MORE = """
[upstream.accounts]
base_url = "{origin}/api"
token = "demo"
ca_file = "ca.pem"
allow = ["GET /hello"]

[listener.legacy]
address = "127.0.0.1:{port}"
secret_file = "legacy.secret"

[workload.legacy]
listener = ["legacy"]
upstreams = ["accounts"]
may = ["egress"]
"""


@contextmanager
def client_place(directory: Path, port: int) -> Iterator[BrokerProcess]:
    """Run both; *port* is for programs without Unix sockets."""
    with sandbox_process(directory) as sandbox:
        config = (sandbox.home / CONSENTS_CONFIG).read_text()
        config = config.replace('may = ["get"', 'upstreams = ["accounts"]\nmay = ["refresh", "egress", "get"')
        config += MORE.format(origin=read_addresses(sandbox.home)["resource"], port=port)
        with broker_process(sandbox, config=config) as process:
            yield process


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
