"""
Loopback TCP, for callers that can open no Unix socket: off by default, and never without its secret.

The kernel does not say who is at the other end, so that every process of the machine (of the pod, where the
network namespace is shared) could call. Who can read the secret file is who may. It is bound first and the
secret written last: a broker that finds its address taken leaves the other one's secret alone.
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from broker.api.directories import Spot
from broker.api.listeners import BACKLOG
from broker.api.secret_file import SecretFile, write_secret
from broker.errors import LocalError
from broker.policy.peer import Peer

HTTP_PORT = 80
"""The port that clients leave out of ``Host`` (RFC 9110 section 4.2.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpListener:
    """A ``[listener.NAME]`` with an address: *host* has no brackets, *gid* is the group that may read the secret."""

    name: str
    host: str
    port: int
    secret_file: Path
    gid: int | None = None

    @property
    def spot(self) -> Spot:
        """Where its file is."""
        return Spot(listener=self.name, path=self.secret_file, what="secret", gid=self.gid)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTcp:
    """A listening socket with its *port* and its secret."""

    listener: TcpListener
    socket: socket.socket
    port: int
    secret: SecretFile

    @property
    def address(self) -> str:
        """The beginning of every URL of the listener."""
        return f"http://{_authority(self.listener.host, self.port)}"

    @property
    def hosts(self) -> frozenset[str]:
        """The values of ``Host`` that mean this listener and no name: names can be made to lead here."""
        host = _authority(self.listener.host, self.port)
        return frozenset({host, host.removesuffix(f":{HTTP_PORT}") if self.port == HTTP_PORT else host})

    def unlink(self) -> None:
        """Remove the secret file, if it is still ours."""
        self.secret.unlink()

    def close(self) -> None:
        """Remove the secret file, if it is still ours, and stop listening."""
        try:
            self.unlink()
        finally:
            self.socket.close()


def open_tcp(listener: TcpListener, secret: str) -> OpenTcp:
    """
    Listen on *listener* and write *secret* for its callers.

    Raises LocalError: ``listener_in_use``, ``listener_failed``, those of ``secret_file.write_secret``.
    """
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    where = _authority(listener.host, listener.port)
    try:
        listening = socket.create_server((listener.host, listener.port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "unknown error"
        message = f"listener {listener.name}: {where} cannot be listened on: {reason}"
        if error.errno == errno.EADDRINUSE:
            hint = "stop whoever listens there, or choose another address"
            raise LocalError("listener_in_use", message, hint=hint) from error
        raise LocalError("listener_failed", message) from error
    try:
        listening.setblocking(False)
        written = write_secret(listener.spot, secret)
    except BaseException:
        listening.close()
        raise
    return OpenTcp(listener=listener, socket=listening, port=listening.getsockname()[1], secret=written)


def tcp_peer(_connection: socket.socket, listener: str) -> Peer:
    """Give the peer of a TCP connection: the kernel says nothing about it, so it has no uid, no gid and no groups."""
    return Peer(listener=listener)


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
