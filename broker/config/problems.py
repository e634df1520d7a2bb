"""
What is wrong with a configuration: every problem with its place, collected before anything is raised.

Messages are constants, or made of names that stand in the file. They must never hold a value that could be
a secret: a value is shown only where it is a name, and then only if it looks like one (``names.shown``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from broker.errors import LocalError


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    One thing that is wrong, or in a list of warnings one that looks wrong.

    *path* is the place in the file (``token.directory.client``), or empty for the file as a whole; *hint*
    says how to mend it.
    """

    path: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path else ""
        return f"{place}{self.message}" + (f"; {self.hint}" if self.hint else "")


class ConfigurationError(LocalError):
    """
    A configuration cannot be used.

    *code* is ``configuration_unreadable`` (the file could not be read at all; *problems* is empty) or
    ``configuration_invalid`` (*problems* lists everything that is wrong with it). *is_toml*: the file was read and
    is TOML, so that what is wrong with it as a whole is only whose it is.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        problems: Iterable[Problem] = (),
        hint: str | None = None,
        is_toml: bool = False,
    ) -> None:
        super().__init__(code, message, hint=hint)
        self.is_toml = is_toml
        self.problems = tuple(problems)


class Findings:
    """Collects problems in the order in which they are found."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []

    def add(self, path: str, message: str, hint: str | None = None) -> None:
        """Note that *message* is true of the place *path*."""
        self._problems.append(Problem(path=path, message=message, hint=hint))

    def problems(self) -> tuple[Problem, ...]:
        """Give what was found so far."""
        return tuple(self._problems)
