"""The commands of a newcomer: listed, repeatable, and where the machine lacks something, one line that says what."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BORROWED = ("make", "sh", "sed", "expand", "uname", "touch")
PUBLIC = (
    "help",
    "install",
    "demo",
    "bench",
    "test",
    "check",
    "test-crash",
    "test-plain-path",
    "test-deploy",
    "docs",
    "image",
    "sbom",
    "lock",
    "clean",
)

LOCKED, INSTALLED, LOCKED_AGAIN = 1_000, 2_000, 3_000
"""Unix seconds: what make compares."""

GOOD_PYTHON = "exit 0"
OLD_PYTHON = 'case "$*" in *version_info*) exit 1;; esac'
NO_VENV_PYTHON = 'case "$*" in *ensurepip*) echo "No module named ensurepip" >&2; exit 1;; esac'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with the Makefile and what it depends on, and nothing installed."""
    folder = tmp_path / "tree"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "requirements", folder / "requirements")
    return folder


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A search path with what a small system has, and a Python that is as it should be."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in BORROWED:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    script(folder / "python3", GOOD_PYTHON)
    return folder


def test_help_lists_every_target_with_one_line(tree: Path, commands: Path) -> None:
    """And it is what make does when it is not told anything."""
    done = make(tree, commands)

    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert [line.split()[1] for line in lines] == list(PUBLIC)
    assert all(re.fullmatch(r"  make [a-z-]+ +\S.{10,}", line) for line in lines)


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("python3", OLD_PYTHON, "Python 3.11"),
        ("python3", NO_VENV_PYTHON, "apt-get install python3-venv"),
        ("uname", "echo Darwin", "Linux only"),
    ],
    ids=["old Python", "no venv module", "another system"],
)
def test_an_obstacle_is_told_in_one_line(tree: Path, commands: Path, name: str, body: str, says: str) -> None:
    """Nothing is installed, nothing else is printed, and the exit code says so."""
    (commands / name).unlink()
    script(commands / name, body)

    done = make(tree, commands, "demo", "ONCE=1")

    assert done.returncode != 0
    assert says in done.stderr
    assert len((done.stdout + done.stderr).splitlines()) == 1
    assert not (tree / ".venv").exists()


def test_a_missing_python_is_told_in_one_line(tree: Path, commands: Path) -> None:
    """The line says how to name another one."""
    (commands / "python3").unlink()

    done = make(tree, commands, "demo")

    assert done.returncode != 0
    assert "install Python 3.11 or newer" in done.stderr
    assert "make PYTHON=" in done.stderr
    assert len((done.stdout + done.stderr).splitlines()) == 1


def test_a_python_that_is_named_is_used(tree: Path, commands: Path) -> None:
    """The default one may be as old as it likes."""
    (commands / "python3").unlink()
    script(commands / "python3.12", GOOD_PYTHON)

    done = make(tree, commands, "--dry-run", "demo", "PYTHON=python3.12")

    assert done.returncode == 0
    assert '"python3.12" -m venv' in done.stdout


def test_everything_installed_is_locked(tree: Path, commands: Path) -> None:
    """Each installation checks hashes; the package itself brings no dependency and builds with what is locked."""
    done = make(tree, commands, "--dry-run", "bigger-tests")

    installs = [line for line in done.stdout.splitlines() if " install " in line]
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-deps --no-build-isolation" in line for line in installs)


def test_nothing_is_installed_twice(tree: Path, commands: Path) -> None:
    """With the locks unchanged only the command itself is run; a changed lock installs again."""
    installed(tree)

    again = make(tree, commands, "--dry-run", "demo", "ONCE=1")
    date(tree / "requirements" / "run.txt", LOCKED_AGAIN)
    changed = make(tree, commands, "--dry-run", "demo", "ONCE=1")

    assert again.stdout.split() == [".venv/bin/token-broker", "demo", "--once"]
    assert "requirements/run.txt" in changed.stdout


@pytest.mark.parametrize("variables", [{"CI": "true"}, {"REQUIRE_ALL": "1"}], ids=["CI", "REQUIRE_ALL"])
def test_where_all_must_run_no_test_is_skipped(tree: Path, commands: Path, variables: Mapping[str, str]) -> None:
    """Every run of pytest gets the plugin, and the real server is required."""
    installed(tree)

    done = make(tree, commands, "--dry-run", "test", variables=variables)

    runs = [line for line in done.stdout.splitlines() if ".venv/bin/pytest" in line]
    assert len(runs) == 2
    assert all("-p tests.no_skips" in line for line in runs)
    assert "tests.interop.node --required" in done.stdout


def test_elsewhere_a_machine_may_lack_something(tree: Path, commands: Path) -> None:
    """Without a word, skips are allowed."""
    installed(tree)

    done = make(tree, commands, "--dry-run", "test")

    assert "no_skips" not in done.stdout
    assert "--required" not in done.stdout


def test_the_tests_run_in_order_of_their_cost(tree: Path, commands: Path) -> None:
    """What fails in a second is not waited for."""
    installed(tree)

    done = make(tree, commands, "--dry-run", "test")

    steps = ("ruff format", "ruff check", "mypy", "lint-imports", "--cov-fail-under=95", "--ignore=tests/unit")
    positions = [done.stdout.find(step) for step in steps]
    assert -1 not in positions
    assert positions == sorted(positions)


def test_what_is_deployed_is_run_by_a_command_of_its_own(tree: Path, commands: Path) -> None:
    """It needs root and the tools of containers, so that a newcomer's ``make test`` leaves its machines alone."""
    installed(tree)

    ordinary = make(tree, commands, "--dry-run", "test")
    done = make(tree, commands, "--dry-run", "test-deploy", variables={"REQUIRE_ALL": "1"})

    assert "--ignore=tests/machines" in ordinary.stdout
    assert "-p tests.no_skips tests/deploy tests/machines" in " ".join(done.stdout.split())


def test_the_site_has_an_environment_of_its_own(tree: Path, commands: Path) -> None:
    """Locked with hashes like the others, made once, and every warning of the site is an error."""
    installed(tree)

    first = make(tree, commands, "--dry-run", "docs")
    (tree / ".venv" / "docs.stamp").touch()
    date(tree / ".venv" / "docs.stamp", INSTALLED + 1)
    again = make(tree, commands, "--dry-run", "docs")

    assert "-m venv --clear .venv/docs" in first.stdout
    assert "--require-hashes --requirement requirements/docs.txt" in first.stdout
    assert " install " not in again.stdout
    assert "--fail-on-warning --keep-going --nitpicky" in again.stdout


def test_the_script_of_ci_is_sound() -> None:
    """It is executable, is bash, and stops at the first failure."""
    script_of_ci = ROOT / ".ci" / "run"

    done = subprocess.run(("bash", "-n", script_of_ci), capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(script_of_ci, os.X_OK)
    assert "set -euo pipefail" in script_of_ci.read_text()


def script(path: Path, body: str) -> None:
    """Write a program."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def installed(tree: Path) -> None:
    """Pretend that everything was installed after the locks were made."""
    (tree / ".venv").mkdir()
    for path in tree.rglob("*"):
        date(path, LOCKED)
    for name, at in (("run.stamp", INSTALLED), ("dev.stamp", INSTALLED + 1)):
        (tree / ".venv" / name).touch()
        date(tree / ".venv" / name, at)


def date(path: Path, at: int) -> None:
    """Date a file; *at* in Unix seconds."""
    os.utime(path, (at, at))


def make(
    tree: Path, commands: Path, *arguments: str, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run make with nothing of our own environment: these tests run under make, too."""
    return subprocess.run(
        (commands / "make", *arguments),
        cwd=tree,
        env={"PATH": str(commands), "LC_ALL": "C", **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
    )
