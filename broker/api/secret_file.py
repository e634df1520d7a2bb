"""
The file with the secret of a TCP listener: made anew at each start, for whoever may read it to show it.

The secret is in no configuration, has no printable form here, and is kept as a digest. A file in the way is
replaced only if it holds what such a file holds, so that a path that was written by mistake costs nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass, field

from broker.api.directories import Spot, failed, give_to_group, open_directory
from broker.errors import LocalError

SECRET_BYTES = 32
"""256 random bits: there is nothing to gain by guessing."""

CONTENT = re.compile(rb"[A-Za-z0-9_-]{43}")
"""What such a file holds: SECRET_BYTES as base64url, and no newline, so that the content is the secret."""

CONTENT_BYTES = 43

MODE = 0o640
"""Ours to write, its group's to read."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def digest_of(secret: str) -> bytes:
    """Give what is kept and compared of a secret; of any text, so that comparing tells nothing of its length."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFile:
    """A file that was written, with the *digest* of the secret in it."""

    spot: Spot
    digest: bytes = field(repr=False)

    def unlink(self) -> None:
        """Remove the file if it still holds our secret: a broker that came after us may have written another."""
        path = self.spot.path
        try:
            directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                content = _content(path.name, directory)
                if content is not None and hashlib.sha256(content).digest() == self.digest:
                    os.unlink(path.name, dir_fd=directory)
            finally:
                os.close(directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise failed(self.spot, "its secret cannot be removed", error) from error


def write_secret(spot: Spot, secret: str) -> SecretFile:
    """
    Write *secret*, whole or not at all, never through a symbolic link.

    Raises LocalError: ``listener_secret_occupied``, those of ``directories.open_directory``.
    """
    directory = open_directory(spot)
    try:
        _check_way(spot, directory)
        _write(spot, directory, secret.encode("ascii"))
    except OSError as error:
        raise failed(spot, f"its secret {spot.path} cannot be written", error) from error
    finally:
        os.close(directory)
    return SecretFile(spot=spot, digest=digest_of(secret))


def _check_way(spot: Spot, directory: int) -> None:
    """Refuse to replace anything but the secret of a broker that ran before."""
    try:
        content = _content(spot.path.name, directory)
    except FileNotFoundError:
        return
    if content is None or not CONTENT.fullmatch(content):
        raise LocalError(
            "listener_secret_occupied",
            f"listener {spot.listener}: {spot.path} exists and is not the secret of a listener",
            hint="remove it, or choose another path; the broker writes a new secret there at each start",
        )


def _content(name: str, directory: int) -> bytes | None:
    """Read a file that may be such a secret; None for one that is none. Raises OSError."""
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_size != CONTENT_BYTES:
        return None
    descriptor = os.open(name, _READ, dir_fd=directory)
    try:
        return os.read(descriptor, CONTENT_BYTES + 1)
    finally:
        os.close(descriptor)


def _write(spot: Spot, directory: int, secret: bytes) -> None:
    """Write beside the file, then rename; what an earlier process left half-written goes first."""
    name, new = spot.path.name, f".{spot.path.name}.new"
    with suppress(FileNotFoundError):
        os.unlink(new, dir_fd=directory)
    descriptor = os.open(new, _CREATE, 0o600, dir_fd=directory)
    try:
        os.write(descriptor, secret)
        give_to_group(spot, descriptor)
        os.fchmod(descriptor, MODE)  # after the group: until then nobody else reads it
        os.fsync(descriptor)
        os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(new, dir_fd=directory)
        raise
    finally:
        os.close(descriptor)
