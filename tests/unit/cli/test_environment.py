from __future__ import annotations

from pathlib import Path

import pytest

from broker.cli.environment import (
    DEFAULT_SOCKET,
    config_path,
    credentials_directory,
    environment,
    forget,
    socket_path,
)
from broker.cli.local_client import Address
from broker.errors import LocalError


def test_an_argument_wins_over_the_environment():
    """What was typed is what is meant."""
    assert config_path(Path("/a"), {"TOKEN_BROKER_CONFIG": "/b"}) == Path("/a")
    assert socket_path("/a", {"TOKEN_BROKER_SOCKET": "unix:///b"}) == Path("/a")


def test_the_environment_names_file_and_socket():
    """As the design has it: TOKEN_BROKER_CONFIG, TOKEN_BROKER_SOCKET=unix:///path."""
    assert config_path(None, {"TOKEN_BROKER_CONFIG": "/b"}) == Path("/b")
    assert socket_path(None, {"TOKEN_BROKER_SOCKET": "unix:///b/api.sock"}) == Path("/b/api.sock")
    assert credentials_directory({"CREDENTIALS_DIRECTORY": "/run/c"}) == Path("/run/c")


def test_without_anything_the_socket_is_the_usual_one_and_a_configuration_is_missing():
    """There is a default for the one and none for the other."""
    assert socket_path(None, {}) == DEFAULT_SOCKET
    assert credentials_directory({}) is None
    with pytest.raises(LocalError) as caught:
        config_path(None, {})
    assert caught.value.code == "configuration_missing"


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost",
        "http://localhost:8181",
        "http://10.0.0.1:8181",
        "https://127.0.0.1:8181",
        "http://127.0.0.1",
        "http://127.0.0.1:8181/x",
        "http://user@127.0.0.1:8181",
        "tcp://127.0.0.1:80",
        "unix://relative",
    ],
)
def test_other_kinds_of_address_are_refused(address: str):
    """Unix sockets are spoken, and http to a loopback address itself."""
    with pytest.raises(LocalError) as caught:
        socket_path(address, {"TOKEN_BROKER_SECRET_FILE": "/s"})

    assert caught.value.code == "socket_invalid"


@pytest.mark.parametrize(("address", "host"), [("http://127.0.0.1:8181", "127.0.0.1"), ("http://[::1]:8181/", "::1")])
def test_a_loopback_address_comes_with_a_secret_file(address: str, host: str):
    """The path of the file is in the environment, never the secret."""
    variables = {"TOKEN_BROKER_SOCKET": address, "TOKEN_BROKER_SECRET_FILE": "/run/secret"}

    found = socket_path(None, variables)

    assert found == Address(host=host, port=8181, secret_file=Path("/run/secret"))
    assert str(found) == address.rstrip("/")
    with pytest.raises(LocalError) as caught:
        socket_path(address, {})
    assert caught.value.code == "secret_unreadable"


def test_the_environment_is_the_process_s():
    """One place reads it."""
    assert "PATH" in environment()


def test_what_was_meant_for_this_process_is_not_handed_on(monkeypatch: pytest.MonkeyPatch):
    """A child that had the notify socket would speak in our name."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")

    forget(["NOTIFY_SOCKET", "NOT_THERE_AT_ALL"])

    assert "NOTIFY_SOCKET" not in environment()
