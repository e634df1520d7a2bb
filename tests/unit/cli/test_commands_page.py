"""``docs/reference/commands.md`` and the parser know the same commands and the same arguments."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from broker.cli import parser

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "commands.md"

ARGUMENT = re.compile(r"^\| `((?:--)?[A-Za-z-]+)(?: [A-Z]+)?` \|", re.MULTILINE)
"""The first cell of a row about an argument."""


def leaves(command: str, of: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Give every command that can be run, with its parser."""
    below = [action for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield command, of
    for action in below:
        for name, child in action.choices.items():
            yield from leaves(f"{command} {name}", child)


def arguments(of: argparse.ArgumentParser) -> set[str]:
    """Give the options of a command, and the placeholders of its other arguments."""
    options = {option for action in of._actions for option in action.option_strings}
    others = {str(action.metavar or action.dest) for action in of._actions if not action.option_strings}
    return options - {"-h", "--help"} | others


def documented() -> dict[str, set[str]]:
    """Give the commands of the page, each with its arguments."""
    _, *sections = PAGE.read_text().split("\n## ")
    return {section.split("`")[1]: set(ARGUMENT.findall(section)) for section in sections}


def test_the_page_has_every_command_and_every_argument_and_no_other():
    """Compared both ways with the parser that really runs."""
    known = {command: arguments(of) for command, of in leaves("token-broker", parser())}

    assert documented() == known
