from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from broker.cli.environment import (
    DEFAULT_SOCKET,
    UNSEEN,
    authorities_unseen,
    config_path,
    credentials_directory,
    environment,
    forget,
    socket_path,
)
from broker.cli.local_client import Address
from broker.errors import LocalError
from broker.sandbox.authority import make_authority, moment


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


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """Give a file with one certificate authority."""
    path = tmp_path / "ca.pem"
    path.write_bytes(make_authority(moment(1_700_000_000.0)).certificate_pem())
    return path


def trusted() -> int:
    return ssl.create_default_context().cert_store_stats()["x509_ca"]


def test_what_is_imported_sees_no_authorities_and_what_comes_later_does(
    authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The variables are as they were, also where one was not set."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    before = {name: environment().get(name) for name in UNSEEN}

    with authorities_unseen():
        meanwhile = trusted()

    assert meanwhile == 0
    assert trusted() >= 1
    assert {name: environment().get(name) for name in UNSEEN} == before


def test_the_daemon_has_aiohttp_load_no_authorities(authority: Path, tmp_path: Path):
    """Its own contexts are never used; they would take 35 ms and 1.6 MB."""
    script = (
        "import sys, broker.cli; broker.cli.main(['run', '--config', '/nowhere']); import aiohttp.connector as made; "
        "print(made._SSL_CONTEXT_VERIFIED.cert_store_stats()['x509_ca'])"
    )
    variables = {**os.environ, "SSL_CERT_FILE": str(authority)}

    done = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=True)

    assert done.stdout == "0\n", done.stderr
