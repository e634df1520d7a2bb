"""Listeners: a socket or an address, each with what belongs to it, each in a place of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.listener_combinations import check_listeners
from broker.config.problems import Findings
from broker.config.source import parse
from broker.config.structure import structure
from tests.unit.config.files import changed

SOCKET = 'path = "app.sock"'
ADDRESS = 'address = "127.0.0.1:8181"'
SECRET = 'secret_file = "secret"'
OTHER = "[workload.app]"


def found(*edits: tuple[str, str]) -> list[str]:
    """Give what is wrong with the listeners of a changed file."""
    raw = parse(changed(*edits).encode(), Findings())
    assert raw is not None
    findings = Findings()
    check_listeners(structure(raw, Findings()), Path("/etc/token-broker"), findings)
    return [str(problem) for problem in findings.problems()]


@pytest.mark.parametrize("keys", [SOCKET, f"{ADDRESS}\n{SECRET}", f"{ADDRESS}\n{SECRET}\ngroup = 1000"])
def test_a_socket_or_an_address_with_its_secret_is_good(keys: str) -> None:
    """Nothing is said."""
    assert found((SOCKET, keys)) == []


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ('mode = "0660"', "listener.app: must have exactly one of path and address"),
        (SECRET, "listener.app: must have exactly one of path and address"),
        (f"{SOCKET}\n{ADDRESS}\n{SECRET}", "listener.app: must have exactly one of path and address"),
        (f"{SOCKET}\n{SECRET}", "listener.app.secret_file: is for an address"),
        (ADDRESS, "listener.app.secret_file: is missing"),
        (f'{ADDRESS}\n{SECRET}\nmode = "0600"', "listener.app.mode: is for a socket"),
        (f"{ADDRESS.replace('8181', '9464')}\n{SECRET}", "listener.app.address: is that of [ops] too"),
    ],
)
def test_what_does_not_go_together_is_said(keys: str, problem: str) -> None:
    """One problem each, with what to write."""
    (said,) = found((SOCKET, keys))

    assert said.startswith(problem)
    assert "; " in said


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ('address = "127.0.0.1:8182"\nsecret_file = "./secret"', "secret_file"),
        (f'{ADDRESS}\nsecret_file = "other"', "address"),
        ('path = "secret"', "path"),
    ],
)
def test_each_listener_has_a_place_of_its_own(keys: str, key: str) -> None:
    """A socket and a secret included: one would remove the other."""
    (said,) = found((SOCKET, f"{ADDRESS}\n{SECRET}"), (OTHER, f"[listener.other]\n{keys}\n\n{OTHER}"))

    assert said.startswith(f'listener.other.{key}: is that of listener "app" too')
