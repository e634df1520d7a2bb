"""From the listeners of a configuration to those that are opened."""

from __future__ import annotations

from functools import partial

from broker.api import directories
from broker.api.listeners import UnixListener
from broker.api.server import Listener
from broker.api.tcp import TcpListener
from broker.config.settings import ListenerSettings, Settings, TcpListenerSettings
from broker.errors import LocalError
from broker.hostenv import state_dir


def listeners_of(settings: Settings) -> list[Listener]:
    """Give the listeners of the API, in the order of the configuration."""
    return [_listener(wanted) for wanted in settings.listeners]


def unsafe_places(settings: Settings) -> list[LocalError]:
    """Say what is wrong with the directories that a start would put something into, and put nothing there."""
    found: list[LocalError] = []
    looks = [partial(directories.examine, listener.spot) for listener in listeners_of(settings)]
    for look in (partial(state_dir.examine, settings.daemon.state_dir), *looks):
        try:
            look()
        except LocalError as error:
            found.append(error)
    return found


def _listener(wanted: ListenerSettings | TcpListenerSettings) -> Listener:
    if isinstance(wanted, ListenerSettings):
        return UnixListener(name=wanted.name, path=wanted.path, mode=wanted.mode, gid=wanted.gid)
    return TcpListener(
        name=wanted.name, host=wanted.host, port=wanted.port, secret_file=wanted.secret_file, gid=wanted.gid
    )
