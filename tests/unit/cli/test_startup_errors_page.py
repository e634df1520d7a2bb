"""``docs/reference/startup-errors.md`` has every code that a command can end with, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]

SOURCES = (
    "broker/cli/*.py",
    "broker/config/*.py",
    "broker/hostenv/*.py",
    "broker/keys/*.py",
    "broker/oauth/metadata.py",
    "broker/sinks/*.py",
    "broker/storage/*.py",
    "broker/telemetry/audit*.py",
)

ERRORS = {"LocalError", "ConfigurationError", "StateDirInUseError"}
"""What takes a code as its first argument."""


def raised() -> Iterator[str]:
    """Give the code of every error that is made there."""
    for pattern in SOURCES:
        for file in ROOT.glob(pattern):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
                    assert isinstance(node.args[0], ast.Constant), f"{file}:{node.lineno}: a code has to be written out"
                    yield str(node.args[0].value)


def test_every_code_has_its_remedy_and_none_is_made_up():
    """Compared both ways with the source."""
    page = (ROOT / "docs" / "reference" / "startup-errors.md").read_text()

    assert set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE)) == set(raised())
