"""
A place for containers: podman with a storage of its own, a stand-in for the base image, and the image of the broker.

Nothing of it touches images, containers or settings of the machine, and all of it is gone in the end. The stand-in has
the name that the Dockerfile wants and no network behind it: a small Debian with Python and pip, without the bytecode
that the official image does not have either.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BASE = "docker.io/library/python:3.13-slim"

IMAGE = "localhost/token-broker:test"

PROGRAMS = {
    "podman": "podman",
    "runc": "runc",
    "conmon": "conmon",
    "catatonit": "catatonit",
    "mmdebstrap": "mmdebstrap",
}
"""What is needed, and the Debian packages that have it."""

PATIENCE = 300.0
"""Seconds that any command of podman may take on a busy machine; a build takes ten."""

SETTINGS = """\
# Limits below those that a container of a machine may set (it lacks CAP_SYS_RESOURCE), and a runtime that does with the
# cgroups of an older kind.
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""

SEARCH_PATH = "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
"""An imported image has none, and some callers then find no program in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlace:
    """Where containers are run: *image* names the broker's, *home* is a directory of the place's own."""

    home: Path
    image: str = IMAGE
    base: str = BASE

    def command(self, *arguments: str) -> tuple[str, ...]:
        """Give the whole command for podman with these arguments."""
        return (
            "podman",
            f"--root={self.home / 'root'}",
            f"--runroot={self.home / 'run'}",
            f"--tmpdir={self.home / 'tmp'}",
            *arguments,
        )

    def environment(self) -> dict[str, str]:
        """Give the environment of podman: that of the tests, and the settings of the place."""
        return {**os.environ, "CONTAINERS_CONF": str(self.home / "containers.conf")}

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run podman, whatever its exit code is."""
        return subprocess.run(
            self.command(*arguments),
            cwd=ROOT,
            env={**self.environment(), **variables},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def podman(self, *arguments: str) -> str:
        """Run podman, which has to succeed, and give what it prints."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()


def obstacle() -> str | None:
    """Say why there can be no place here, if that is so."""
    if os.geteuid() != 0:
        return "only root can run the containers of these tests"
    missing = sorted(package for program, package in PROGRAMS.items() if shutil.which(program) is None)
    return f"programs are missing (Debian: apt-get install {' '.join(missing)})" if missing else None


@contextmanager
def container_place() -> Iterator[ContainerPlace]:
    """Make a place with the image, and remove all of it; skips the test where it cannot be."""
    reason = obstacle()
    if reason is not None:
        pytest.skip(reason)
    home = Path(tempfile.mkdtemp(prefix="tb-"))  # short: sockets of podman lie below it
    place = ContainerPlace(home=home)
    try:
        (home / "containers.conf").write_text(SETTINGS)
        _make_base(place)
        _make_image(place)
        yield place
    finally:
        _remove(place)


def _make_base(place: ContainerPlace) -> None:
    archive = place.home / "base.tar"
    packages = "--include=python3,python3-pip,ca-certificates"
    without_bytecode = "--customize-hook=find \"$1/usr\" -name '*.pyc' -delete"
    made = subprocess.run(
        ("mmdebstrap", "--variant=minbase", packages, without_bytecode, "trixie", str(archive)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    place.podman("import", "--quiet", "--change", SEARCH_PATH, "--change", 'CMD ["python3"]', str(archive), place.base)
    archive.unlink()


def _make_image(place: ContainerPlace) -> None:
    """As a person does: it fetches what is locked, and builds without a network."""
    engine = " ".join(place.command())
    (ROOT / "dist").mkdir(exist_ok=True)
    with (ROOT / "dist" / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of the tests fetches into the same folder
        made = subprocess.run(
            ("make", "image", f"IMAGE={place.image}", f"PYTHON={sys.executable}", f"ENGINE={engine}"),
            cwd=ROOT,
            env=place.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert made.returncode == 0, made.stdout + made.stderr


def _remove(place: ContainerPlace) -> None:
    place.run("rm", "--all", "--force", "--time", "0")
    place.run("volume", "rm", "--all", "--force")
    place.run("rmi", "--all", "--force")
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in sorted((point for point in mounted if point.startswith(f"{place.home}/")), reverse=True):
        subprocess.run(("umount", "--lazy", point), check=False, capture_output=True)
    shutil.rmtree(place.home)
