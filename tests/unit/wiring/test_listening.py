"""From the listeners of a configuration to those that are opened."""

from __future__ import annotations

from pathlib import Path

from broker.api.listeners import UnixListener
from broker.api.tcp import TcpListener
from broker.wiring.listening import listeners_of
from tests.unit.daemon.test_process import CONFIG
from tests.unit.wiring.configurations import settings_of

TCP = """
[listener.tcp]
address = "[::1]:8181"
secret_file = "secret"
group = 1234
"""


def test_each_listener_is_of_its_kind(tmp_path: Path):
    """In the order of the file, nothing lost on the way."""
    unix, tcp = listeners_of(settings_of(tmp_path, CONFIG + TCP))

    assert isinstance(unix, UnixListener)
    assert unix.path.is_absolute()
    assert tcp == TcpListener(name="tcp", host="::1", port=8181, secret_file=tmp_path / "secret", gid=1234)
