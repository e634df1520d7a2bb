"""
Volumes as the kubelet makes them for a pod with an ``fsGroup``, with the owners, modes and links that it gives them.

podman makes others. From pkg/volume/util/atomic_writer.go and pkg/volume/volume_linux.go of Kubernetes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

ROOT_MODE = 0o2777
"""Of the root of an emptyDir: for everybody, and handed on to the group."""

SECRET_ROOT_MODE = 0o3777
"""Of the root of a Secret or a ConfigMap: sticky as well."""

CLAIMED_MODE = 0o2775
"""Of the root of a persistent volume: what a new file system has, and the group's rights."""

VERSION_MODE = 0o2755
"""Of the directory in which the files of one version are."""


def make_empty_dir(path: Path, group: int) -> None:
    """Make the root of an emptyDir."""
    path.mkdir()
    _give(path, group, ROOT_MODE)


def make_claimed(path: Path, group: int) -> None:
    """Make the root of a persistent volume, as it is when a pod has it for the first time."""
    path.mkdir()
    _give(path, group, CLAIMED_MODE)


def open_to_group(path: Path, group: int) -> None:
    """Do what the kubelet does at each start where ``fsGroupChangePolicy`` is ``Always``: the default."""
    for entry in (path, *path.rglob("*")):
        more = 0o2770 if entry.is_dir() else 0o660
        os.chown(entry, -1, group)
        entry.chmod(entry.stat().st_mode | more)


class ProjectedFiles:
    """
    The files of a Secret or a ConfigMap: links through ``..data``, which is swapped when the object changes.

    *mode* is the ``defaultMode`` of the volume; the group may read in any case.
    """

    def __init__(self, path: Path, group: int, mode: int) -> None:
        self.path = path
        self.group = group
        self.mode = mode | 0o440
        self.count = 0
        path.mkdir()
        _give(path, group, SECRET_ROOT_MODE)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Put *files* in the place of what is there, all at once."""
        self.count += 1
        version = self.path / f"..2026_11_29_00_00_00.{self.count:09}"
        version.mkdir()
        _give(version, self.group, VERSION_MODE)
        for name, content in files.items():
            (version / name).write_bytes(content)
            _give(version / name, self.group, self.mode)
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")
        data = self.path / "..data"
        old = data.readlink() if data.is_symlink() else None
        (self.path / "..data_tmp").symlink_to(version.name)
        (self.path / "..data_tmp").replace(data)
        if old is not None:
            shutil.rmtree(self.path / old)


def _give(path: Path, group: int, mode: int) -> None:
    os.chown(path, 0, group)
    path.chmod(mode)
