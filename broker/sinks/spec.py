"""What a sink is: the token, the file, and the program that is told of it. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Format(StrEnum):
    """What the file holds."""

    TEXT = "text"
    """The token and nothing else, not even a newline."""
    JSON = "json"
    """The members of the local API's answer, but for what is true only at the moment of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A program with its arguments, run after each new token; killed after *timeout* seconds. Never a shell."""

    argv: tuple[str, ...]
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """
    A ``[sink.NAME]`` section.

    *uid* and *gid* own the file, None: whoever the broker runs as. *mode* are its permissions.
    """

    name: str
    token: str
    path: Path
    mode: int
    uid: int | None = None
    gid: int | None = None
    format: Format = Format.TEXT
    hook: Hook | None = None

    def makes_same_file(self, other: Sink) -> bool:
        """Say whether what *other* wrote is what this one would write: everything but the hook."""
        return (self.token, self.path, self.mode, self.uid, self.gid, self.format) == (
            other.token,
            other.path,
            other.mode,
            other.uid,
            other.gid,
            other.format,
        )
