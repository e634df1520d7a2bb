"""Names of users and groups to numbers: by the host's own database, or by whatever a test hands in."""

from __future__ import annotations

import grp
import pwd
from typing import Protocol

NOBODY = 65_533
"""A number that distributions give to nobody; the one above it is the kernel's for the unknown."""


class Accounts(Protocol):
    """Knows the users and groups of a host."""

    def uid(self, name: str) -> int | None:
        """Give the number of the user *name*, or None if there is none."""

    def gid(self, name: str) -> int | None:
        """Give the number of the group *name*, or None if there is none."""


class AnyAccounts:
    """Knows every name, as a stand-in: for looking at a file on another host than the one that it is for."""

    def uid(self, _name: str) -> int | None:
        """Give the number of nobody."""
        return NOBODY

    def gid(self, _name: str) -> int | None:
        """Give the number of nobody."""
        return NOBODY


class HostAccounts:
    """The users and groups that NSS knows; it may block while it asks a directory server."""

    def uid(self, name: str) -> int | None:
        """Look *name* up with getpwnam(3)."""
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            return None

    def gid(self, name: str) -> int | None:
        """Look *name* up with getgrnam(3)."""
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            return None
