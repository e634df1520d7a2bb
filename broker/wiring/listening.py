"""From the listeners of a configuration to those that are opened."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from broker.api import directories
from broker.api.listeners import UnixListener, examine_unix
from broker.api.server import Listener
from broker.api.tcp import TcpListener
from broker.config.settings import ListenerSettings, Settings, TcpListenerSettings
from broker.errors import LocalError
from broker.hostenv import state_dir
from broker.telemetry import audit_file


def listeners_of(settings: Settings) -> list[Listener]:
    """Give the listeners of the API, in the order of the configuration."""
    return [_listener(wanted) for wanted in settings.listeners]


def socket_paths(settings: Settings) -> dict[str, Path]:
    """Give the paths of the Unix listeners, by name."""
    return {one.name: one.path for one in settings.listeners if isinstance(one, ListenerSettings)}


def unsafe_places(settings: Settings) -> list[LocalError]:
    """Say what is wrong with the directories that a start would put something into, and put nothing there."""
    found: list[LocalError] = []
    looks: list[Callable[[], None]] = [partial(state_dir.examine, settings.daemon.state_dir)]
    for listener in listeners_of(settings):
        if isinstance(listener, UnixListener):
            looks.append(partial(examine_unix, listener))
        else:
            looks.append(partial(directories.examine, listener.spot))
    if settings.audit is not None:
        looks.append(partial(audit_file.examine, settings.audit.file))
    for look in looks:
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
