"""A proxy per issuer: a real broker, a real CONNECT proxy, a real server with mutual TLS behind it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.daemon.harness import (
    CANARY,
    PATIENCE,
    BrokerProcess,
    SandboxProcess,
    broker_process,
    sandbox_process,
    wait_until,
)
from tests.daemon.test_reload import SECOND, access_token, reload

CREDENTIALS = f"broker:{CANARY}"
ENCODED = base64.b64encode(CREDENTIALS.encode()).decode()
OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"
PLAIN = "issuer.sandbox: no connection to the server"


@dataclass
class ConnectProxy:
    """
    A forward proxy in a thread, which does CONNECT and nothing else.

    *demands* are credentials without which it answers 407. *answer* is given instead of a tunnel. *ports* is where
    on 127.0.0.1 it leads to, by host; without it anywhere. *tunnels* counts those that it made, *heads* are all
    requests.
    """

    demands: str | None = None
    answer: bytes | None = None
    ports: Mapping[str, int] | None = None
    port: int = 0
    heads: list[str] = field(default_factory=list)
    tunnels: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, up: threading.Event, stop: asyncio.Event) -> None:
        tasks: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                    await self._handle(reader, writer)
            finally:
                tasks.discard(task)
                writer.transport.abort()

        listener = await asyncio.start_server(accept, "127.0.0.1", self.port)
        self.port = listener.sockets[0].getsockname()[1]
        up.set()
        await stop.wait()
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.heads.append(head)
        method, authority = head.split()[:2]
        if method != "CONNECT":
            answer: bytes | None = b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"
        elif self.demands is not None and f"Basic {self.demands}" not in head:
            answer = b'HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'
        elif self.ports is not None and authority.rpartition(":")[0] not in self.ports:
            answer = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
        else:
            answer = self.answer
        if answer is not None:
            writer.write(answer)
            await writer.drain()
            return
        host, _, port = authority.rpartition(":")
        if self.ports is not None:
            host, port = "127.0.0.1", str(self.ports[host])
        there = await asyncio.open_connection(host, int(port))
        self.tunnels += 1
        writer.write(OPEN)
        await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.transport.abort()


@contextmanager
def connect_proxy(**options: object) -> Iterator[ConnectProxy]:
    """Run a proxy for the length of a test."""
    proxy = ConnectProxy(**options)  # type: ignore[arg-type]  # its fields
    up, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await proxy.serve(up, stop)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert up.wait(PATIENCE)
        yield proxy
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("proxy"), lifetime=600) as process:
        secret = process.home / "proxy.secret"
        secret.write_text(CREDENTIALS + "\n")
        secret.chmod(0o600)
        yield process


def proxied(sandbox: SandboxProcess, url: str, *, credentials: bool = False) -> str:
    """Give the sandbox's configuration with a proxy."""
    text = (sandbox.home / "config.toml").read_text()
    more = f'proxy = "{url}"\n' + ('proxy_credentials = { file = "proxy.secret" }\n' if credentials else "")
    return text.replace("[issuer.sandbox]\n", f"[issuer.sandbox]\n{more}", 1)


@contextmanager
def behind(
    sandbox: SandboxProcess, text: str, *, ready: bool = True, environment: dict[str, str] | None = None
) -> Iterator[BrokerProcess]:
    """Run a broker with the configuration *text*; the sandbox has seen nothing yet."""
    sandbox.control.clear_requests()
    for old in (*sandbox.directory.glob("proxied.*"), sandbox.home / "audit.log"):
        old.unlink(missing_ok=True)
    with broker_process(sandbox, config=text, start=False, name="proxied") as broker:
        broker.environment = environment or {}
        broker.up(ready=ready)
        yield broker
        assert ENCODED not in broker.said()


def online(sandbox: SandboxProcess, text: str) -> subprocess.CompletedProcess[str]:
    """Run ``check --online`` with the configuration *text*."""
    config = sandbox.home / "online.toml"
    config.write_text(text)
    command = [sys.executable, "-m", "broker", "check", "--online", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert CANARY not in done.stdout + done.stderr
    assert ENCODED not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_token_comes_through_the_proxy_with_the_brokers_certificate(sandbox: SandboxProcess):
    """Everything is a tunnel, with credentials that the server never sees; the server saw our certificate."""
    with connect_proxy(demands=ENCODED) as proxy:
        with behind(sandbox, proxied(sandbox, proxy.url, credentials=True)) as broker:
            token = broker.token().json()

        (issued,) = sandbox.control.requests("token")
        assert (issued["outcome"], issued["certificate"]) == ("issued", token["cnf"]["x5t#S256"])
        assert {head.split()[0] for head in proxy.heads} == {"CONNECT"}
        assert all(f"Proxy-Authorization: Basic {ENCODED}".lower() in head.lower() for head in proxy.heads)
        assert proxy.tunnels == len(proxy.heads) == 2  # one for the metadata, one with the certificate


def test_nothing_goes_past_a_proxy_that_is_down(sandbox: SandboxProcess):
    """The server is up and could be dialed: nobody does. The proxy comes back, and so does the token."""
    with connect_proxy() as gone:
        url, port = gone.url, gone.port

    with behind(sandbox, proxied(sandbox, url), ready=False) as broker:
        broker.wait_for("metadata_refused", reason="proxy_unreachable")

        assert broker.token(query="?wait=0").status == 503
        assert sandbox.control.requests() == []
        with connect_proxy(port=port) as proxy:
            wait_until(lambda: broker.token().status == 200, "the token comes through the proxy")

            assert proxy.tunnels == 2


def test_the_environment_neither_names_a_proxy_nor_an_exception_from_one(sandbox: SandboxProcess):
    """HTTPS_PROXY and NO_PROXY are somebody else's."""
    with connect_proxy() as named, connect_proxy() as configured:
        environment = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"), named.url)
        with behind(sandbox, (sandbox.home / "config.toml").read_text(), environment=environment) as broker:
            assert broker.token().status == 200
        environment |= {"NO_PROXY": "*", "no_proxy": "localhost,127.0.0.1"}
        with behind(sandbox, proxied(sandbox, configured.url), environment=environment) as broker:
            assert broker.token().status == 200

        assert named.heads == []
        assert configured.tunnels == 2


def test_another_proxy_takes_effect_at_a_reload_and_costs_no_token(sandbox: SandboxProcess):
    """The next request goes through the new one; the token that is there stays the very same."""
    with connect_proxy() as first, connect_proxy() as second:
        with behind(sandbox, proxied(sandbox, first.url)) as broker:
            before = access_token(broker)
            seen = len(first.heads)

            reload(broker, (first.url, second.url), more=SECOND)
            wait_until(lambda: broker.token("second").status == 200, "a new token comes")

            assert access_token(broker) == before
        assert len(first.heads) == seen
        assert second.tunnels == 2


def test_the_check_goes_through_the_proxy_too(sandbox: SandboxProcess):
    """It would else say good of what the daemon cannot reach, or the other way round."""
    with connect_proxy(demands=ENCODED) as proxy:
        done = online(sandbox, proxied(sandbox, proxy.url, credentials=True))

        assert done.returncode == 0, done.stderr
        assert proxy.tunnels == 1


FAULTS = {
    "it wants credentials": ({"demands": ENCODED}, "proxy_credentials_refused", "proxy_credentials"),
    "it forbids the host": (
        {"answer": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"},
        "proxy_refused",
        "403: have the server's host and port allowed",
    ),
    "it cannot resolve the name": (
        {"answer": b"HTTP/1.1 503 No such host\r\nContent-Length: 0\r\n\r\n"},
        "proxy_failed",
        "503: the proxy may not be able to resolve the server's name",
    ),
}


@pytest.mark.parametrize(("options", "reason", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_each_failure_of_a_proxy_is_named_with_a_remedy(
    sandbox: SandboxProcess, options: dict[str, object], reason: str, said: str
):
    """In one line, and never as a failure of the server."""
    with connect_proxy(**options) as proxy:
        done = online(sandbox, proxied(sandbox, proxy.url))

    assert done.returncode == 2
    assert f"[{reason}]" in done.stderr
    assert said in done.stderr
    assert PLAIN not in done.stderr


def test_a_password_in_the_url_is_refused_and_not_repeated(sandbox: SandboxProcess):
    """With the place where it belongs."""
    done = online(sandbox, proxied(sandbox, f"http://broker:{CANARY}@127.0.0.1:3128"))

    assert done.returncode == 2
    assert "issuer.sandbox.proxy: holds a user or a password" in done.stderr
    assert "proxy_credentials = { file" in done.stderr
