"""
What a fake Iridium keeps in its directory: an authority, a certificate, and secrets.

Less than ``layout`` makes for the strict server, whose keys take a while: Iridium signs nothing.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from broker.sandbox.authority import Credential, issue_server, make_authority, moment, read_credential
from broker.sandbox.layout import (
    AUDIT_KEY,
    CA,
    CONTROL_TOKEN,
    SERVER,
    STORE_KEY,
    DirectoryRefusedError,
    write_credential,
    write_private,
    write_public,
)

CLIENT_SECRET = "client-secret"  # noqa: S105 (the name of a file)
"""The confidential application's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What was made, loaded."""

    directory: Path
    authority: Credential = field(repr=False)
    control_token: str = field(repr=False)
    client_secret: str = field(repr=False)


def make(directory: Path, *, now: float) -> Material:
    """Make everything anew in *directory*; *now* in Unix seconds."""
    server = directory / SERVER
    server.mkdir(mode=0o700, exist_ok=True)
    authority = make_authority(moment(now))
    write_public(directory / CA, authority.certificate_pem())
    write_credential(server / "ca", authority)
    write_credential(server / "good", issue_server(authority, now=moment(now)))
    for name in (CONTROL_TOKEN, CLIENT_SECRET):
        write_private(directory / name, secrets.token_urlsafe(32).encode())
    for name in (AUDIT_KEY, STORE_KEY):
        write_private(directory / name, secrets.token_bytes(32))
    return load(directory)


def load(directory: Path) -> Material:
    """Load what ``make`` left in *directory*. Raises DirectoryRefusedError."""
    server = directory / SERVER
    try:
        return Material(
            directory=directory,
            authority=read_credential((server / "ca.pem").read_bytes(), (server / "ca.key").read_bytes()),
            control_token=(directory / CONTROL_TOKEN).read_text(),
            client_secret=(directory / CLIENT_SECRET).read_text(),
        )
    except (OSError, ValueError, TypeError) as error:
        hint = "start without --keep to make it anew"
        raise DirectoryRefusedError(f"{directory} holds no whole Iridium to go on with: {hint}") from error
