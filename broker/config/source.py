"""
The file itself: who may write it, its bytes, and the syntax of TOML.

The file decides who gets tokens, so it must not be writable by those it decides about. Messages about
syntax say where, and what in words of ours: tomllib's own may repeat what stands in the file.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.config.problems import ConfigurationError, Findings
from broker.paths import weakness_above

MAX_BYTES = 1024 * 1024
"""A mebibyte: thousands of sections, and no device file or log that --config names by mistake."""

ROOT = 0
"""The user and the group that may do everything anyway."""

_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|(end of document))\)$")

_SYNTAX: Mapping[str, str] = {
    "Invalid statement": "no key, table or comment begins like this",
    "Expected newline or end of document after a statement": "something follows where the line should end "
    "(a number begins with no 0; a mode, like every string, stands in quotation marks)",
    "Cannot overwrite a value": "this key or table is there already",
    "Expected '=' after a key in a key/value pair": "a key is not followed by '='",
    "Expected ']' at the end of a table declaration": "a table name is not closed by ']'",
    "Expected ']]' at the end of an array declaration": "a table name is not closed by ']]'",
    "Invalid initial character for a key part": "a key is missing, or has characters that need quotation marks",
    "Unclosed array": "an array is not closed by ']', or a comma is missing",
    "Unclosed inline table": "an inline table is not closed by '}', or a comma is missing",
    "Unescaped '\\' in a string": "a '\\' in a string is written '\\\\'",
    "Unterminated string": "a string is not closed by a quotation mark",
    "Invalid value": "no value begins like this; strings stand in quotation marks",
    "Invalid date or datetime": "there is no such date",
}
"""What tomllib says without repeating anything, and how we say it. Whatever else it says is not passed on."""

_UNTERMINATED = ("Illegal character '\\n'", 'Expected "\'"')
"""What tomllib says of strings that end with their line, or never; it puts these sayings together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose a file is, and what others may do with it: a part of stat(2)."""

    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The bytes of a configuration file; *sha256* is theirs, in hexadecimal."""

    content: bytes
    sha256: str
    owner: Owner


def read_source(path: Path) -> Source:
    """Read the file *path*. Raises ConfigurationError ``configuration_unreadable``."""
    try:
        status, content = _status_and_content(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError("configuration_unreadable", f"{path} is not a file", hint="--config names a TOML file")
    if len(content) > MAX_BYTES:
        raise ConfigurationError("configuration_unreadable", f"{path} is longer than {MAX_BYTES} bytes")
    owner = Owner(mode=stat.S_IMODE(status.st_mode), uid=status.st_uid, gid=status.st_gid)
    return Source(content=content, sha256=hashlib.sha256(content).hexdigest(), owner=owner)


def _status_and_content(path: Path) -> tuple[os.stat_result, bytes]:
    """Open once, so that the file that is judged is the file that is read. Not blocking: it may be a FIFO."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return status, b""
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return status, file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)


def _unreadable(path: Path, error: OSError | ValueError) -> ConfigurationError:
    if isinstance(error, FileNotFoundError):
        message, hint = f"there is no configuration {path}", "name it with --config or TOKEN_BROKER_CONFIG"
    elif isinstance(error, PermissionError):
        message = f"the configuration {path} may not be read by uid {os.geteuid()}"
        hint = "give the file the group of the daemon and mode 0640, and its directories mode 0755"
    elif isinstance(error, OSError):
        message, hint = f"the configuration {path} cannot be read: {os.strerror(error.errno or 0)}", None
    else:
        message, hint = "the path of the configuration is not a path", "name it with --config or TOKEN_BROKER_CONFIG"
    return ConfigurationError("configuration_unreadable", message, hint=hint)


def check_way(path: Path, problems: Findings) -> None:
    """
    Refuse a file that somebody else could replace, because of a directory or a symlink on the way to it.

    It is refused and not only said, as the file itself is: whoever can replace it decides who gets tokens.
    Raises ConfigurationError ``configuration_unreadable``.
    """
    try:
        weakness = weakness_above(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if weakness is not None:
        problems.add("", f"on the way to this file, {weakness.path} {weakness.what}", weakness.fix)


def check_owner(owner: Owner, *, euid: int, egid: int, problems: Findings, warnings: Findings) -> None:
    """
    Refuse a file of another user, or one that anybody may write, or a group that is neither root's nor ours.

    It decides who gets tokens and where the audit log goes. That one's own primary group may write it (a umask
    of 002) is said and not refused.
    """
    if owner.mode & stat.S_IWOTH:
        problems.add("", "every user may write this file, and so decide who gets tokens", "chmod o-w")
    if owner.mode & stat.S_IWGRP and owner.gid != ROOT:
        if owner.gid == egid:
            warnings.add("", "the group of this file may write it, and so decide who gets tokens", "chmod g-w")
        else:
            problems.add("", f"group {owner.gid} may write this file, and so decide who gets tokens", "chmod g-w")
    if owner.uid not in (ROOT, euid):
        message = f"uid {owner.uid} owns this file, and so decides who gets tokens"
        problems.add("", message, f"chown it to root, or to uid {euid}")


def parse(content: bytes, findings: Findings) -> Mapping[str, Any] | None:
    """Parse TOML; None, with one finding, if it is not."""
    try:
        return _compact(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        findings.add("", f"line {line}: not UTF-8", "save the file as UTF-8")
    except tomllib.TOMLDecodeError as error:
        findings.add("", _syntax(str(error)))
    except RecursionError:
        findings.add("", "not valid TOML: nested too deeply")
    except ValueError:  # a number with thousands of digits
        findings.add("", "not valid TOML: a value has no meaning")
    return None


def _compact(text: str) -> Mapping[str, Any]:
    """
    Parse TOML, and give it without the gaps that parsing leaves.

    tomllib needs four times the memory of what it gives, and what it gives lies scattered in it, so that none goes
    back to the system: 20 MB for ten thousand tokens. Packed and unpacked it lies in one place. Raises as tomllib.
    """
    try:
        packed = marshal.dumps(tomllib.loads(text))
    except ValueError as error:
        if isinstance(error, tomllib.TOMLDecodeError):
            raise
        return tomllib.loads(text)  # there is a date in it, which marshal cannot pack: a mistake, and found later
    taken: Mapping[str, Any] = marshal.loads(packed)  # noqa: S302 - what was packed two lines above
    return taken


def _syntax(said: str) -> str:
    """Put what tomllib said into our words: where, and what if it is one of the known sayings."""
    position = _POSITION.search(said)
    if position is None:
        return "not valid TOML"
    line, column, end = position.groups()
    where = "end of file" if end else f"line {line}, column {column}"
    saying = said[: position.start()]
    if saying in _UNTERMINATED:
        saying = "Unterminated string"
    what = _SYNTAX.get("Cannot overwrite a value" if saying.startswith("Cannot ") else saying)
    return f"{where}: not valid TOML" + (f": {what}" if what else "")
