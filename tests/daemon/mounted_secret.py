"""Files as an orchestrator mounts them, and replaces them: all at once, behind symbolic links."""

from __future__ import annotations

import shutil
from pathlib import Path


class Secret:
    """A directory as Kubernetes mounts a secret: every file is a link through ``..data``, which is swapped."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.count = 0
        directory.mkdir(mode=0o700)

    def swap(self, **files: Path) -> None:
        """Put copies of *files* in the place of what is there, all at once."""
        self.count += 1
        version = self.directory / f"..version-{self.count}"
        version.mkdir(mode=0o700)
        for name, source in files.items():
            shutil.copy(source, version / name)
            (version / name).chmod(0o600)
        fresh = self.directory / "..data.new"
        fresh.symlink_to(version.name)
        fresh.replace(self.directory / "..data")
        for name in files:
            link = self.directory / name
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}")
