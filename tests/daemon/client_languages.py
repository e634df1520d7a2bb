"""How the example clients (``deploy/examples/clients``) are built and run, each with its language's own tools."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CLIENTS = ROOT / "deploy" / "examples" / "clients"

BUILD_SECONDS = 300.0
"""For a compiler that has to compile its standard library first, on a busy machine."""


@dataclass(frozen=True)
class Language:
    """A client: its *file*, the *tools* that it takes, what *builds* it and what *runs* it, in a directory."""

    file: str
    tools: tuple[str, ...]
    runs: Callable[[Path], list[str]]
    builds: Callable[[Path], list[str]] | None = None
    formats: tuple[str, ...] = ()
    """A command that prints something or fails if the file is not in the form that its language has for all."""

    @property
    def path(self) -> Path:
        return CLIENTS / self.file


LANGUAGES: Mapping[str, Language] = {
    "shell": Language(
        "token.sh", ("sh", "curl"), lambda _: [str(CLIENTS / "token.sh")], formats=("shellcheck", "--shell=sh")
    ),
    "python": Language("token_broker.py", (), lambda _: [sys.executable, "-I", str(CLIENTS / "token_broker.py")]),
    "node": Language(
        "token-broker.mjs",
        ("node",),
        lambda _: ["node", str(CLIENTS / "token-broker.mjs")],
        formats=("node", "--check"),
    ),
    "go": Language(
        "token_broker.go",
        ("go",),
        lambda made: [str(made / "client")],
        lambda made: ["go", "build", "-o", str(made / "client"), str(CLIENTS / "token_broker.go")],
        formats=("gofmt", "-l"),
    ),
    "java": Language(
        "TokenBroker.java",
        ("javac", "java"),
        lambda made: ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", str(made), "TokenBroker"],
        lambda made: [
            *("javac", "--release", "17", "-Xlint:all", "-Werror"),
            *("-d", str(made), str(CLIENTS / "TokenBroker.java")),
        ],
    ),
    "rust": Language(
        "token_broker.rs",
        ("rustc", "cc"),
        lambda made: [str(made / "client")],
        lambda made: [
            *("rustc", "--edition", "2021", "-D", "warnings"),
            *("-o", str(made / "client"), str(CLIENTS / "token_broker.rs")),
        ],
        formats=("rustfmt", "--check", "--edition", "2021"),
    ),
}


def needs(*tools: str) -> None:
    """Skip a test for which this machine lacks a tool."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool} here")


def building(home: Path) -> dict[str, str]:
    """Give the environment of a compiler: what it keeps goes to *home*, and it asks the network for nothing."""
    rustup = os.environ.get("RUSTUP_HOME", str(Path.home() / ".rustup"))
    go = {"GOCACHE": str(_of_the_run(home) / "go"), "GOPATH": str(home / "gopath"), "GOFLAGS": "-mod=mod"}
    return {**os.environ, "HOME": str(home), "RUSTUP_HOME": rustup, **go, "GOTOOLCHAIN": "local", "GOPROXY": "off"}


def _of_the_run(home: Path) -> Path:
    """Give the directory that all workers of a run of pytest share, or *home*: a standard library is compiled once."""
    return next((one for one in home.parents if re.fullmatch(r"pytest-[0-9]+", one.name)), home)


class Programs:
    """The clients, each made when it is first wanted."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._commands: dict[str, list[str]] = {}

    def command(self, name: str) -> list[str]:
        """Give what runs the client, or skip the test."""
        language = LANGUAGES[name]
        needs(*language.tools)
        if name not in self._commands:
            made = self._home / name
            made.mkdir()
            if language.builds is not None:
                build(language.builds(made), self._home)
            self._commands[name] = language.runs(made)
        return self._commands[name]


def build(command: list[str], home: Path) -> str:
    """Run a compiler or a formatter, and give what it printed; fail the test where it fails."""
    with (_of_the_run(home) / "building").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # who comes second finds the cache of the first
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False, env=building(home), cwd=home
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
