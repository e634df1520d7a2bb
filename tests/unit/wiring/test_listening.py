"""From the listeners of a configuration to those that are opened."""

from __future__ import annotations

from pathlib import Path

from broker.api.listeners import UnixListener
from broker.api.tcp import TcpListener
from broker.wiring.listening import listeners_of, socket_paths, unsafe_places
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


def test_every_directory_that_a_start_would_use_is_looked_at(tmp_path: Path):
    """All that is wrong at once, and nothing is made."""
    text = CONFIG.replace("api.sock", "open/a/api.sock") + TCP.replace('"secret"', '"open/secret"')
    settings = settings_of(tmp_path, text.replace("[daemon]", '[daemon]\nstate_dir = "open/state"'))
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)

    found = unsafe_places(settings)

    assert [error.code for error in found] == ["state_dir_unsafe", *["listener_directory_unsafe"] * 2]
    assert list((tmp_path / "open").iterdir()) == []


def test_directories_that_are_good_or_not_there_yet_are_nothing_to_say(tmp_path: Path):
    """A service manager may make them."""
    settings = settings_of(tmp_path, CONFIG.replace("api.sock", "a/api.sock") + TCP)

    assert unsafe_places(settings) == []


def test_what_a_start_would_refuse_for_want_of_a_directory_is_said(tmp_path: Path):
    """One level is made for sockets and state, none for the audit log; and nothing is made by looking."""
    text = CONFIG.replace("api.sock", "a/b/api.sock").replace("audit.log", "d/audit.log")
    settings = settings_of(tmp_path, text.replace("[daemon]", '[daemon]\nstate_dir = "c/state"'))

    found = unsafe_places(settings)

    assert [error.code for error in found] == ["state_dir_failed", "listener_failed", "audit_unopened"]
    assert all(error.hint for error in found)
    assert not any((tmp_path / name).exists() for name in "acd")


def test_a_file_in_the_place_of_a_socket_is_said(tmp_path: Path):
    """It would not be removed."""
    (tmp_path / "api.sock").write_bytes(b"")

    found = unsafe_places(settings_of(tmp_path, CONFIG))

    assert [error.code for error in found] == ["listener_occupied"]


def test_only_unix_listeners_can_be_handed_over(tmp_path: Path):
    """By their names, with the paths that their sockets have to be bound to."""
    assert socket_paths(settings_of(tmp_path, CONFIG + TCP)) == {"l": tmp_path / "api.sock"}
