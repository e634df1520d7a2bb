"""A sandbox and a broker whose workload calls the sandbox's API through it, on real sockets."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.sandbox.layout import read_addresses
from tests.daemon.harness import PATIENCE, BrokerProcess, SandboxProcess, broker_process, sandbox_process

UPSTREAM = """
[upstream.api]
base_url = "{origin}/api"
token = "demo"
ca_file = "ca.pem"
allow = [{allow}]
interaction_id = true
{more}

[listener.base]
path = "base.sock"
mode = "0600"
upstream = "api"
"""

ALLOW = ("GET /hello", "* /request", "* /request/**", "GET /bytes/*", "* /echo", "POST /count", "GET /leaks")


@dataclass(frozen=True)
class Reply:
    """A reply as a program sees it."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for given, value in self.fields if given.lower() == name.lower()]

    def json(self) -> Any:

        return json.loads(self.body)


class UnixConnection(http.client.HTTPConnection):
    """An ordinary HTTP client over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def ask(self, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        self.request(method, target, body=body, headers=dict(headers or {}), encode_chunked=False)
        answer = self.getresponse()
        return Reply(answer.status, tuple(answer.getheaders()), answer.read())


@dataclass(frozen=True)
class EgressPlace:
    """What such a test works with."""

    sandbox: SandboxProcess
    broker: BrokerProcess

    @property
    def base(self) -> Path:
        return self.sandbox.home / "base.sock"

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Call the API by the name of its upstream."""
        connection = UnixConnection(self.broker.socket)
        try:
            return connection.ask(method, f"/v1/egress/api{path}", body, headers)
        finally:
            connection.close()

    def reached(self) -> list[dict[str, Any]]:
        """Give the requests that came to the API since they were forgotten."""
        return [one for one in self.sandbox.control.requests() if one["endpoint"] == "resource"]


def config_with(sandbox: SandboxProcess, *, allow: tuple[str, ...] = ALLOW, more: str = "") -> str:
    """Give the sandbox's configuration, with its API as an upstream."""
    origin = read_addresses(sandbox.home)["resource"]
    text = (sandbox.home / "config.toml").read_text()
    text = text.replace('tokens = ["demo"]', 'tokens = ["demo"]\nupstreams = ["api"]')
    text = text.replace('may = ["get"]', 'may = ["get", "egress"]').replace(
        'listener = ["demo"]', 'listener = ["demo", "base"]'
    )
    rules = ", ".join(f'"{rule}"' for rule in allow)
    return text + UPSTREAM.format(origin=origin, allow=rules, more=more)


@contextmanager
def egress_place(directory: Path, *, allow: tuple[str, ...] = ALLOW, more: str = "") -> Iterator[EgressPlace]:
    with sandbox_process(directory) as sandbox:
        config = config_with(sandbox, allow=allow, more=more)
        with broker_process(sandbox, config=config) as broker:
            yield EgressPlace(sandbox, broker)
