"""
The directory that a sandbox lives in: which files it writes, with which rights, and how it finds them again.

A new start makes everything anew (rules.md R10). Only ``keep`` takes up what an earlier start left, ports
included, as a server does that was restarted. The directory is 0700 and private files 0600; a directory
that holds anything which is not ours is refused, never tidied up. Blocking: call it in a thread.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from broker.sandbox.authority import (
    Credential,
    issue_client,
    issue_server,
    make_authority,
    moment,
    read_credential,
    self_sign_server,
)
from broker.sandbox.jose import JsonWebKey, SigningAlg, generate_private_key_pem, read_private
from broker.sandbox.keyring import ALGS as IDENTITY_ALGS

CA = "ca.pem"
CONFIG = "config.toml"
CONSENTS_CONFIG = "consents.toml"
CONTROL_TOKEN = "control-token"  # noqa: S105 (the name of a file)
AUDIT_KEY = "audit.key"
STORE_KEY = "store.key"
ADDRESSES = "sandbox.json"
LOCK = "sandbox.lock"
SERVER = "server"
"""A directory for what belongs to the server's side only."""
CLIENTS_CA = "clients-ca.pem"
"""In that: the authorities whose client certificates are believed."""

CLIENT, OTHER = "client", "other"
"""Two client certificates: the demo client's, and one to see a bound token refused with."""

EXPIRED = timedelta(days=-1)


class DirectoryRefusedError(Exception):
    """The directory cannot be a sandbox's; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """
    What a sandbox has made: keys and certificates, loaded.

    *signing_keys* are the demo client's, *access_token_key* and *identity_keys* the authorization server's.
    """

    directory: Path
    authority: Credential = field(repr=False)
    signing_keys: dict[SigningAlg, JsonWebKey]
    access_token_key: JsonWebKey
    identity_keys: dict[SigningAlg, JsonWebKey]
    control_token: str = field(repr=False)


def signing_key_file(alg: SigningAlg) -> str:
    """Give the name of the file with the demo client's key for *alg*."""
    return f"signing-{alg.lower()}.pem"


@contextmanager
def claim(directory: Path) -> Iterator[None]:
    """
    Hold *directory*, making it if need be, so that no second sandbox writes to it.

    Raises DirectoryRefusedError.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        strangers = {entry.name for entry in directory.iterdir()}
        owner = directory.stat().st_uid
    except OSError as error:
        raise DirectoryRefusedError(f"{directory}: {error.strerror}") from error
    if strangers and LOCK not in strangers:
        raise DirectoryRefusedError(f"{directory} holds other files: name a directory that is empty or not there yet")
    if owner != os.geteuid():
        raise DirectoryRefusedError(f"{directory} belongs to another user")
    directory.chmod(0o700)
    with (directory / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryRefusedError(f"another sandbox runs in {directory}") from None
        yield


def make(directory: Path, *, now: float) -> Material:
    """Make new keys and certificates in *directory*, replacing those of an earlier run; *now* in Unix seconds."""
    today = moment(now)
    server = directory / SERVER
    server.mkdir(mode=0o700, exist_ok=True)
    authority = make_authority(today)
    write_public(directory / CA, authority.certificate_pem())
    write_public(server / CLIENTS_CA, authority.certificate_pem())
    write_credential(server / "ca", authority)
    certify_server(server, authority, now=now)
    write_credential(server / "self_signed", self_sign_server(now=today))
    for name in (CLIENT, OTHER):
        write_credential(directory / name, issue_client(authority, now=today, common_name=name))
    for alg in SigningAlg:
        write_private(directory / signing_key_file(alg), generate_private_key_pem(alg))
    write_private(server / "access-tokens.key", generate_private_key_pem(SigningAlg.ES256))
    for alg in IDENTITY_ALGS:
        write_private(server / f"identity-{alg.lower()}.key", generate_private_key_pem(alg))
    write_private(directory / CONTROL_TOKEN, secrets.token_urlsafe(32).encode())
    write_private(directory / AUDIT_KEY, secrets.token_bytes(32))
    write_private(directory / STORE_KEY, secrets.token_bytes(32))
    return load(directory)


def certify_server(server: Path, authority: Credential, *, now: float) -> None:
    """Issue the server's certificates, good and bad, and write them to the directory *server*."""
    today = moment(now)
    write_credential(server / "good", issue_server(authority, now=today))
    write_credential(server / "expired", issue_server(authority, now=today, lifetime=EXPIRED))
    wrong = issue_server(authority, now=today, names=("wrong.localhost",), addresses=())
    write_credential(server / "wrong_name", wrong)


def load(directory: Path) -> Material:
    """Load what ``make`` left in *directory*. Raises DirectoryRefusedError."""
    server = directory / SERVER
    try:
        return Material(
            directory=directory,
            authority=read_credential((server / "ca.pem").read_bytes(), (server / "ca.key").read_bytes()),
            signing_keys={
                alg: read_private(alg, (directory / signing_key_file(alg)).read_bytes()) for alg in SigningAlg
            },
            access_token_key=read_private(SigningAlg.ES256, (server / "access-tokens.key").read_bytes()),
            identity_keys={
                alg: read_private(alg, (server / f"identity-{alg.lower()}.key").read_bytes()) for alg in IDENTITY_ALGS
            },
            control_token=(directory / CONTROL_TOKEN).read_text(),
        )
    except (OSError, ValueError, TypeError) as error:
        hint = "start without --keep to make it anew"
        raise DirectoryRefusedError(f"{directory} holds no whole sandbox to go on with: {hint}") from error


def read_addresses(directory: Path) -> dict[str, Any]:
    """Read where the sandbox of *directory* listens, or did. Raises DirectoryRefusedError."""
    try:
        addresses = json.loads((directory / ADDRESSES).read_bytes())
    except (OSError, ValueError) as error:
        raise DirectoryRefusedError(f"{directory / ADDRESSES}: there is no sandbox to find") from error
    if not isinstance(addresses, dict):
        raise DirectoryRefusedError(f"{directory / ADDRESSES}: not written by a sandbox")
    return addresses


def write_credential(stem: Path, credential: Credential) -> None:
    """Write ``STEM.pem`` and ``STEM.key``."""
    write_public(stem.with_name(f"{stem.name}.pem"), credential.certificate_pem())
    write_private(stem.with_name(f"{stem.name}.key"), credential.private_key_pem())


def write_private(path: Path, content: bytes) -> None:
    """Replace *path* at once with a file that only its owner reads."""
    _write(path, content, stat.S_IRUSR | stat.S_IWUSR)


def write_public(path: Path, content: bytes) -> None:
    """Replace *path* at once with a file that anybody may read who gets into the directory."""
    _write(path, content, stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)


def _write(path: Path, content: bytes, mode: int) -> None:
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask says, and whatever an interrupted run left
        file.write(content)
    fresh.replace(path)
