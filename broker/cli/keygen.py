"""
``token-broker keygen``: a file of random bytes that nobody else can read, as the broker wants its keys.

It never replaces a file: a key that is gone is a log that nobody can check any more.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from broker.cli.exits import DONE
from broker.errors import LocalError

KEY_BYTES = 32
"""As many as SHA-256 gives: more would not make an HMAC stronger."""

KEY_MODE = 0o600

NEXT = {
    "audit": 'in the configuration, under [audit]:  key = {{ file = "{path}" }}\n'
    "keep a copy where the log is checked:  token-broker audit verify --key FILE LOG",
    "store": 'in the configuration, under [store]:  key = {{ file = "{path}" }}\n'
    "keep a copy in a safe place: without it every grant is lost",
    None: 'name it in the configuration where a secret is asked for:  {{ file = "{path}" }}',
}
"""What to do with the file, for each kind."""

EPILOG = """\
The file has 32 bytes from the kernel's generator and mode 0600. An existing file is never replaced. The
directory has to be there, and must not be one in which others could replace the file.

The user of the broker has to own the file: run this as that user, or chown it afterwards.

exit codes: 0 written   1 nothing was written

examples:
  token-broker keygen audit /etc/token-broker/audit.key
  token-broker keygen store /etc/token-broker/store.key
  token-broker keygen ./random.key
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "keygen",
        help="make a file with a random key",
        description="Write a new random key to a file that only its owner can read.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "kind", nargs="?", choices=["audit", "store"], metavar="KIND", help="what it is for: audit, store"
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the file to make")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the file, and say what to do with it."""
    write_new(arguments.file, secrets.token_bytes(KEY_BYTES))
    path = arguments.file.absolute()
    print(f"{path}: {KEY_BYTES} random bytes, mode {KEY_MODE:04o}, owned by uid {os.geteuid()}")
    print(NEXT[arguments.kind].format(path=path))
    return DONE


def write_new(path: Path, content: bytes, *, mode: int = KEY_MODE) -> None:
    """
    Make a file with *mode* and *content*, or nothing at all.

    Raises LocalError ``directory_missing``, ``directory_unsafe``, ``file_exists`` or ``file_unwritable``.
    """
    directory = _open_directory(path.parent)
    try:
        _check_directory(path.parent, os.fstat(directory))
        _write(directory, path, content, mode)
    finally:
        os.close(directory)


def _open_directory(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise LocalError("directory_missing", f"{path}: there is no such directory", hint="make it first") from error
    except OSError as error:
        raise _unwritable(path, error) from error


def _check_directory(path: Path, status: os.stat_result) -> None:
    """Refuse a directory in which others could put another file in the place of ours."""
    if status.st_uid not in {0, os.geteuid()}:
        who = f"belongs to uid {status.st_uid}"
    elif _can_be_changed(status) and not status.st_mode & stat.S_ISVTX:
        who = f"can be changed by others (mode {stat.S_IMODE(status.st_mode):04o})"
    else:
        return
    raise LocalError(
        "directory_unsafe", f"{path}: the directory {who}", hint="choose one that only root or you can write to"
    )


def _can_be_changed(status: os.stat_result) -> bool:
    """Say whether others can write a directory; root's group and our own are no others, as for ``broker.paths``."""
    is_of_others = status.st_gid not in {0, os.getegid()}
    return bool(status.st_mode & stat.S_IWOTH) or (bool(status.st_mode & stat.S_IWGRP) and is_of_others)


def _write(directory: int, path: Path, content: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path.name, flags, mode, dir_fd=directory)
    except FileExistsError as error:
        raise LocalError(
            "file_exists", f"{path}: is there already, and is never replaced", hint="move it away, or name another"
        ) from error
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask took away
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.fsync(directory)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            os.unlink(path.name, dir_fd=directory)
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> LocalError:
    return LocalError("file_unwritable", f"{path}: cannot be written: {error.strerror or type(error).__name__}")
