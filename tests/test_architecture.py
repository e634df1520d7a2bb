"""
The rules of the structure hold, and each of them would be noticed if it did not.

A contract that never fails may be one that checks nothing (a misspelled module is enough), so every one of
them is broken here on purpose, in a copy of the tree.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = frozenset(contract["name"] for contract in PROJECT["tool"]["importlinter"]["contracts"])
BANNED = tuple(PROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"])

LAYERS = "Imports point down only"
PROTOCOL = "The protocol does no I/O, reads no clock, logs nothing"
POLICY = "The policy is pure"
LIFECYCLE = "The token lifecycle reaches the world only through its ports"
CONSENT = "A consent reaches the world only through the ports of the lifecycle"
CHOICE = "What a caller may choose is decided without waiting"
PURE_HALF = "The pure half of the lifecycle never awaits"
SANDBOX = "The sandbox shares no code with the broker"
LOCAL_CLIENT = "The command-line client imports nothing of the server"
JOSERFC = "joserfc is spoken in few places"
CRYPTOGRAPHY = "Private keys stay in broker.keys"
HTTP = "HTTP is spoken at the edges"
LOGGING = "Only telemetry logs and counts"
SQLITE = "SQLite is spoken in the store"
TENACITY = "Only idempotent GETs are retried by tenacity"
CYCLES = "No cycles between siblings"

VIOLATIONS: tuple[tuple[str, str, frozenset[str]], ...] = (
    ("utils.py", "", frozenset({LAYERS})),
    ("helpers/__init__.py", "", frozenset({LAYERS})),
    ("errors.py", "import broker.events", frozenset({LAYERS, CYCLES, LOCAL_CLIENT})),
    ("oauth/grants.py", "from broker.policy.rules import decide", frozenset({LAYERS})),
    ("tokens/keeper.py", "from broker.transport.session import Session", frozenset({LAYERS, CYCLES})),
    ("transport/session.py", "from broker.config.settings import Settings", frozenset({LAYERS})),
    ("api/__init__.py", "import broker.transport", frozenset({LAYERS})),
    ("keys/__init__.py", "import broker.telemetry", frozenset({LAYERS})),
    ("oauth/grants.py", "import time", frozenset({PROTOCOL})),
    ("oauth/grants.py", "from time import time", frozenset({PROTOCOL})),
    ("oauth/answers.py", "import asyncio", frozenset({PROTOCOL})),
    ("oauth/jose.py", "from secrets import token_urlsafe", frozenset({PROTOCOL})),
    ("oauth/metadata.py", "def later():\n    import logging", frozenset({PROTOCOL})),
    ("policy/rules.py", "import pwd", frozenset({POLICY})),
    ("policy/rules.py", "import aiohttp", frozenset({POLICY, HTTP})),
    ("tokens/exchange.py", "import secrets", frozenset({LIFECYCLE})),
    ("tokens/registry.py", "import structlog", frozenset({LIFECYCLE, LOGGING})),
    ("consent/shelf.py", "import time", frozenset({CONSENT})),
    ("consent/redemption.py", "from broker.transport.session import Session", frozenset({LAYERS})),
    ("consent/asking.py", "import asyncio", frozenset({CHOICE})),
    ("tokens/state.py", "import asyncio", frozenset({PURE_HALF})),
    ("tokens/schedule.py", "import datetime", frozenset({PURE_HALF})),
    ("sandbox/server.py", "from broker.oauth import strict_json", frozenset({SANDBOX})),
    ("sandbox/server.py", "import broker.errors", frozenset({SANDBOX})),
    ("cli/local_client.py", "from broker.oauth import secret", frozenset({LOCAL_CLIENT})),
    ("cli/local_client.py", "import asyncio", frozenset({LOCAL_CLIENT})),
    ("oauth/grants.py", "from joserfc import jwt", frozenset({JOSERFC})),
    ("transport/session.py", "from cryptography import x509", frozenset({CRYPTOGRAPHY})),
    ("config/load.py", "import aiohttp", frozenset({HTTP})),
    ("transport/session.py", "import prometheus_client", frozenset({LOGGING})),
    ("tokens/keeper.py", "import tenacity", frozenset({TENACITY})),
    ("storage/vault.py", "from broker.keys.sealing import SealingKey", frozenset({LAYERS})),
    ("storage/vault.py", "import cryptography", frozenset({CRYPTOGRAPHY})),
    ("keys/sealing.py", "import sqlite3", frozenset({SQLITE})),
    ("oauth/reasons.py", "import broker.oauth.answers", frozenset({CYCLES})),
)
"""A file under ``broker/``, what is written into it, and which contracts break: those, and no other."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree; each test leaves it as it was."""
    folder = tmp_path_factory.mktemp("architecture")
    shutil.copytree(ROOT / "broker", folder / "broker", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_the_tree_keeps_every_contract(copy: Path) -> None:
    """The tree as it is breaks none, and all that are written down were checked."""
    kept, broken = check_contracts(copy)

    assert broken == set()
    assert kept == CONTRACTS


@pytest.mark.parametrize(
    ("file", "text", "expected"), VIOLATIONS, ids=[f"{file}: {text[:40]}" for file, text, _ in VIOLATIONS]
)
def test_a_violation_breaks_its_contract(copy: Path, file: str, text: str, expected: frozenset[str]) -> None:
    """One forbidden import, or one module that has no place in the layers, is found."""
    with planted(copy / "broker" / file, text):
        kept, broken = check_contracts(copy)

    assert broken == expected
    assert kept == CONTRACTS - expected


def test_each_contract_is_broken_by_a_violation_here() -> None:
    """A contract that is added gets a violation that breaks it, alone."""
    alone = {next(iter(expected)) for _, _, expected in VIOLATIONS if len(expected) == 1}

    assert alone == CONTRACTS


@pytest.mark.parametrize("package", ["tokens", "daemon", "transport", "telemetry"])
def test_what_imports_cannot_show_is_banned_by_name(package: str) -> None:
    """Every call on the list is found where it is not allowed: tasks that nobody owns, clocks, the environment."""
    calls = [f"import {name.split('.')[0]}\n{name}()\n" for name in BANNED]
    assert {"asyncio.create_task", "time.time", "os.environ", "os.getenv"} <= set(BANNED)

    found = lint("".join(calls), f"broker/{package}/planted.py", "TID251")

    assert found == {line * 2 for line in range(1, len(BANNED) + 1)}


def test_only_the_command_line_prints() -> None:
    """The daemon's standard output may be the audit log: a stray print would break its chain."""
    line = 'print("found")\n'

    assert lint(line, "broker/daemon/planted.py", "T201") == {1}
    assert lint(line, "broker/cli/planted.py", "T201") == set()


class planted:  # noqa: N801 - reads as the statement that it is
    """Adds *text* to a file, or makes the file; takes it back in the end."""

    def __init__(self, file: Path, text: str) -> None:
        self._file = file
        self._text = text
        self._before = file.read_bytes() if file.exists() else None

    def __enter__(self) -> None:
        self._file.parent.mkdir(exist_ok=True)
        self._file.write_bytes((self._before or b"") + f"\n\n{self._text}\n".encode())

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            self._file.write_bytes(self._before)
        elif self._file.name == "__init__.py":
            shutil.rmtree(self._file.parent)
        else:
            self._file.unlink()


def check_contracts(tree: Path) -> tuple[set[str], set[str]]:
    """Give the contracts that *tree* keeps, and those that it breaks."""
    done = subprocess.run(
        (BIN / "lint-imports", "--cache-dir", str(tree / ".cache"), "--no-logo"),
        cwd=tree,
        env={"PYTHONPATH": str(tree), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    verdicts = dict(_verdicts(done.stdout))
    assert verdicts, done.stdout + done.stderr
    broken = {name for name, verdict in verdicts.items() if verdict == "BROKEN"}
    assert (done.returncode == 0) == (not broken)
    return set(verdicts) - broken, broken


def _verdicts(report: str) -> Iterator[tuple[str, str]]:
    for line in report.splitlines():
        if match := re.fullmatch(r"(.+) (KEPT|BROKEN)", line.strip()):
            yield match[1], match[2]


def lint(source: str, path: str, rule: str) -> set[int]:
    """Give the lines of *source* that break *rule* under the project's own configuration, if it stood at *path*."""
    done = subprocess.run(
        (BIN / "ruff", "check", "--no-cache", "--output-format=json", "--stdin-filename", path, "-"),
        cwd=ROOT,
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    return {finding["location"]["row"] for finding in json.loads(done.stdout) if finding["code"] == rule}
