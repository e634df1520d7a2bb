"""``docs/reference/commands.md`` and the parser know the same commands and the same arguments."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

from broker.cli import exits, parser
from broker.hostenv.supervision import VARIABLES

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "commands.md"

ARGUMENT = re.compile(r"^\| `((?:--)?[A-Za-z-]+)(?: [A-Z]+)?` \|", re.MULTILINE)
"""The first cell of a row about an argument."""


VARIABLE = re.compile(r"[A-Z][A-Z_]{2,}")

CLI = Path(parser.__code__.co_filename).parent


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


def variables() -> Iterator[str]:
    """Give the name of every variable that a command looks up in what ``environment()`` gives."""
    trees = [ast.parse(file.read_text()) for file in CLI.glob("*.py")]
    constants = {
        node.targets[0].id: node.value.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    for tree in trees:
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="variables"), attr="get"), args=[name, *_]):
                    pass
                case ast.Subscript(value=ast.Name(id="variables"), slice=name):
                    pass
                case _:
                    continue
            value = name.value if isinstance(name, ast.Constant) else constants[ast.unparse(name)]
            yield str(value)


def test_every_variable_of_the_environment_is_on_the_page():
    """And no other that the broker would not look at."""
    table = PAGE.read_text().partition("| variable | meaning |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]

    assert set(VARIABLE.findall(" ".join(rows))) == {*variables(), *VARIABLES}


def test_every_exit_code_is_on_the_page():
    """In the table for all commands."""
    table = PAGE.read_text().partition("| exit code | meaning |")[2].partition("\n\n")[0]
    codes = {value for name, value in vars(exits).items() if name.isupper()}

    assert set(map(int, re.findall(r"^\| (\d+) \|", table, re.MULTILINE))) == codes
