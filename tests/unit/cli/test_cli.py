"""Tests of the command line as a whole (``broker/cli/__init__.py``)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from broker.cli import main, parser

COMMANDS = (
    "init", "run", "check", "token", "status", "health", "doctor", "login", "grants", "rotate", "key", "csr", "audit",
    "store", "keygen", "version", "sandbox", "demo",
)  # fmt: skip

HEAVY = ("aiohttp", "asyncio", "cryptography", "joserfc", "structlog", "prometheus_client", "cattrs", "tenacity")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_worth_reading(command: str, capsys: pytest.CaptureFixture[str]):
    """A description and an explanation of each option."""
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])

    assert caught.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) >= 6


def test_a_command_starts_without_the_server_s_packages():
    """Making the parser of all commands imports nothing heavy: ``token`` starts in tens of milliseconds."""
    script = f"import sys, broker.cli; broker.cli.parser(); print([m for m in {HEAVY!r} if m in sys.modules])"

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert result.stdout == "[]\n"


def test_a_command_imports_none_of_the_others():
    """A probe runs every few seconds: what it does not need is not looked at."""
    script = "import sys, broker.cli; broker.cli.main(['health', '--socket', '/nowhere']); print(*sys.modules)"

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    imported = set(result.stdout.split())
    assert "broker.cli.health" in imported
    assert not imported & {f"broker.cli.{command}" for command in COMMANDS if command != "health"}
    assert not imported & set(HEAVY)


@pytest.mark.parametrize("arguments", [["unknown"], ["token"], ["run", "--nonsense"], ["tok", "a"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    """As argparse has it, with one line that says what is wrong."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_the_parser_knows_all_commands():
    """The list above is complete."""
    actions = [action for action in parser()._actions if action.choices]

    assert set(actions[0].choices or ()) == set(COMMANDS)


def test_without_a_command_all_of_them_are_shown(capsys: pytest.CaptureFixture[str]):
    """Who does not know what to type is told, and a script that forgot it fails."""
    code = main([])

    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert "first steps:" in captured.err
    assert all(f"    {command} " in captured.err for command in COMMANDS)
