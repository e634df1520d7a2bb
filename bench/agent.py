"""
oidc-agent, where it is installed: the program that does most of what the broker does for a desktop, to compare with.

It gets a token from a server of our own that says the same to everybody, and hands it out over a Unix socket: one
connection for each request, JSON without HTTP. It has one account, and a home of its own that goes with the run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.rig import PATIENCE, POLL, GaveUpError, pin

ACCOUNT = "bench"

WORDS = json.dumps({"request": "access_token", "account": ACCOUNT, "min_valid_period": 60}).encode()
"""What a program sends to get a token."""

LIFETIME = 36_000
"""Seconds: nothing is refreshed while something is measured."""


def is_installed() -> bool:
    """Say whether it is there."""
    return all(shutil.which(name) for name in ("oidc-agent", "oidc-gen"))


def _program(name: str) -> str:
    """Find it. Raises GaveUpError."""
    found = shutil.which(name)
    if found is None:
        raise GaveUpError(f"there is no {name}")
    return found


class _Handler(BaseHTTPRequestHandler):
    """The metadata, and a token."""

    protocol_version = "HTTP/1.1"
    token = ""

    def do_GET(self) -> None:
        issuer = f"http://{self.headers['Host']}"
        self._say(
            {
                "issuer": issuer,
                "token_endpoint": f"{issuer}/token",
                "authorization_endpoint": f"{issuer}/authorize",
                "jwks_uri": f"{issuer}/jwks",
                "scopes_supported": ["openid", "offline_access"],
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
            }
        )

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say({"access_token": self.token, "token_type": "Bearer", "expires_in": LIFETIME})

    def _say(self, document: dict[str, object]) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def agent(directory: Path, token: str, *, core: int | None) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """Run it with one account that has *token*; gives its socket and its processes. Raises GaveUpError."""
    handler = type("Handler", (_Handler,), {"token": token})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with _running(directory, server.server_address[1], core) as running:
                yield running
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _running(directory: Path, port: int, core: int | None) -> Iterator[tuple[Path, tuple[int, ...]]]:
    socket = directory / "agent.sock"
    (directory / "home" / ".oidc-agent").mkdir(parents=True, mode=0o700)
    (directory / "password").write_text("for one run\n")
    environment = {**os.environ, "HOME": str(directory / "home"), "OIDC_SOCK": str(socket)}
    with (directory / "agent.log").open("wb") as log:
        process = subprocess.Popen(
            [_program("oidc-agent"), "--console", "--socket-path", str(socket)], stdout=log, stderr=log, env=environment
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise GaveUpError(f"oidc-agent does not start:\n{(directory / 'agent.log').read_text()[-2_000:]}")
            time.sleep(POLL)
        _add_account(directory, port, environment)
        processes = (process.pid, *_children(process.pid))
        for one in processes:
            pin(one, core)
        yield socket, processes
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _add_account(directory: Path, port: int, environment: dict[str, str]) -> None:
    """Make the account, which is loaded then."""
    options = ["--manual", "--client-id=bench", "--client-secret=bench", f"--issuer=http://localhost:{port}"]
    options += ["--rt=bench", "--scope=openid offline_access", "--redirect-uri=http://localhost:4242"]
    options += [f"--pw-file={directory / 'password'}", "--confirm-default", "--prompt=none", ACCOUNT]
    done = subprocess.run(
        [_program("oidc-gen"), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        raise GaveUpError(f"oidc-gen does not make an account:\n{done.stdout.decode()}{done.stderr.decode()}")


def _children(pid: int) -> tuple[int, ...]:
    return tuple(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
