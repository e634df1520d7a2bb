"""Tests of permissions that mean the same whether root runs them or somebody else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.keys.permissions import Reader

STRANGER = 54_321
"""A uid and gid that nobody has."""


def someone_else(path: Path) -> Reader:
    """Make *path* a file of neither root nor the reader given."""
    if os.geteuid() == 0:
        os.chown(path, STRANGER, -1)
    return Reader(uid=STRANGER + 1, groups=frozenset({path.stat().st_gid}))


@contextmanager
def without_privileges() -> Iterator[None]:
    """Let the kernel check permissions, which it does not do for root."""
    uid = os.geteuid()
    if uid == 0:
        os.seteuid(STRANGER)
    try:
        yield
    finally:
        os.seteuid(uid)
