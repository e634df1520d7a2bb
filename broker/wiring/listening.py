"""From the listeners of a configuration to those that are opened."""

from __future__ import annotations

from broker.api.listeners import UnixListener
from broker.api.server import Listener
from broker.api.tcp import TcpListener
from broker.config.settings import ListenerSettings, Settings, TcpListenerSettings


def listeners_of(settings: Settings) -> list[Listener]:
    """Give the listeners of the API, in the order of the configuration."""
    return [_listener(wanted) for wanted in settings.listeners]


def _listener(wanted: ListenerSettings | TcpListenerSettings) -> Listener:
    if isinstance(wanted, ListenerSettings):
        return UnixListener(name=wanted.name, path=wanted.path, mode=wanted.mode, gid=wanted.gid)
    return TcpListener(
        name=wanted.name, host=wanted.host, port=wanted.port, secret_file=wanted.secret_file, gid=wanted.gid
    )
