"""What is wrong with a listener: keys that need each other or exclude each other, and places that are taken."""

from __future__ import annotations

import os.path
from pathlib import Path

from broker.config.names import place
from broker.config.problems import Findings
from broker.config.schema import ListenerSection
from broker.config.structure import Document
from broker.config.values import split_listen, split_loopback

MAX_SOCKET_PATH_BYTES = 107
"""``sun_path`` of unix(7) is 108 bytes, the last of them NUL."""

_WHERE = 'write path = "/run/token-broker/api.sock"; or address = "127.0.0.1:8181" and a secret_file'


def check_listeners(document: Document, base: Path, findings: Findings) -> None:
    """Report what does not go together; relative paths begin at *base*."""
    taken: dict[object, str] = {}
    if document.ops is not None and document.ops.enabled:
        taken[split_listen(document.ops.listen)] = "[ops]"
    for name, listener in document.listeners.items():
        if (listener.path is None) == (listener.address is None):
            findings.add(place("listener", name), "must have exactly one of path and address", _WHERE)
        elif listener.path is not None:
            _check_socket(name, listener, os.path.normpath(base / listener.path), findings)
        else:
            _check_address(name, document, findings)
        _check_places(name, listener, base, taken, findings)


def _check_socket(name: str, listener: ListenerSection, path: str, findings: Findings) -> None:
    if len(path.encode(errors="surrogateescape")) > MAX_SOCKET_PATH_BYTES:
        message = f"is longer than {MAX_SOCKET_PATH_BYTES} bytes, which is all that a Unix socket may have"
        hint = "choose a directory nearer to the root, such as /run/token-broker"
        findings.add(place("listener", name, "path"), message, hint)
    if listener.secret_file is not None:
        message = "is for an address: at a Unix socket the kernel says who calls"
        findings.add(place("listener", name, "secret_file"), message, "remove it")
    if listener.group is not None and not int(listener.mode, 8) & 0o020:
        message = "has no effect: the mode does not let a group connect"
        findings.add(place("listener", name, "group"), message, 'write mode = "0660", or remove the group')


def _check_address(name: str, document: Document, findings: Findings) -> None:
    if document.listeners[name].secret_file is None:
        message = "is missing: every program of this machine can call an address, and has to show something"
        hint = 'add secret_file = "/run/token-broker/NAME/secret", in a directory that only its callers can enter'
        findings.add(place("listener", name, "secret_file"), message, hint)
    if "mode" in document.declared("listener")[name]:
        message = "is for a socket: an address has no permissions"
        findings.add(place("listener", name, "mode"), message, "remove it; the group may read the secret_file")


def _check_places(
    name: str, listener: ListenerSection, base: Path, taken: dict[object, str], findings: Findings
) -> None:
    """Report what another listener has; *taken* are the paths and addresses so far, with whose they are."""
    for key, wanted in _places(listener, base):
        if wanted in taken:
            message = f"is that of {taken[wanted]} too"
            findings.add(place("listener", name, key), message, "give each listener a place of its own")
        taken.setdefault(wanted, f'listener "{name}"')


def _places(listener: ListenerSection, base: Path) -> list[tuple[str, object]]:
    places: list[tuple[str, object]] = [
        (key, os.path.normpath(base / path))
        for key, path in (("path", listener.path), ("secret_file", listener.secret_file))
        if path is not None
    ]
    if listener.address is not None:
        places.append(("address", split_loopback(listener.address)))
    return places
