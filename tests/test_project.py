"""The frame of the project: what is installed is locked, no machine shows in the tree, every module has its tests."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCKS = tuple(sorted((ROOT / "requirements").glob("*.txt")))
SERVER = ROOT / "tests" / "interop" / "server"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())

REGISTRY_HOSTS = (
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("npmjs", "org"),
    ("yarnpkg", "com"),
    ("deb", "debian", "org"),
)
"""In pieces, because this file is read by its own test."""

MACHINE_PATHS = re.compile(r"(?<![\w.}])/(?:root|work|home/\w+)/")
"""Homes and work trees of a person or a machine, which mean nothing on another one."""

UNMIRRORED = {
    "__main__.py": "one line, run by the tests of the daemon",
    **dict.fromkeys(("api/front.py", "consent/ports.py"), "a protocol, which mypy holds to what fills it"),
    **{
        f"events/{name}.py": "values, held to the catalogue by tests/unit/test_events.py and those of telemetry"
        for name in (
            "api",
            "audit",
            "consents",
            "daemon",
            "event",
            "grants",
            "issuers",
            "keys",
            "rotation",
            "sinks",
            "store",
            "tokens",
        )
    },
}
"""Source files without a test file of their own, and why. Not one more than needed."""


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_knows_each_package_by_version_and_hashes(lock: Path) -> None:
    """pip refuses whatever has another hash, wherever it was fetched from."""
    entries = entries_of(lock)

    assert entries
    for requirement, hashes in entries:
        assert re.fullmatch(r"==[^=*]+", str(requirement.specifier)), requirement
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in hashes), requirement


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_no_source(lock: Path) -> None:
    """Where packages come from is the business of who installs them."""
    text = lock.read_text()

    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=)", text, re.MULTILINE)


def test_the_locks_agree() -> None:
    """They are installed into one environment, one after the other."""
    versions: dict[str, set[str]] = {}
    for lock in LOCKS:
        for requirement, _ in entries_of(lock):
            versions.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))

    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_the_lock_satisfies_what_the_package_asks_for() -> None:
    """A floor that was raised for a security fix is not undercut by an old lock."""
    locked = versions_of(ROOT / "requirements" / "run.txt")

    for line in PROJECT["project"]["dependencies"]:
        asked = Requirement(line)
        assert locked[canonicalize_name(asked.name)] in asked.specifier, line


def test_the_build_lock_holds_the_build_back_end() -> None:
    """An installation from the tree fetches nothing that is not locked."""
    locked = versions_of(ROOT / "requirements" / "build.txt")

    assert {canonicalize_name(Requirement(line).name) for line in PROJECT["build-system"]["requires"]} <= set(locked)


def test_the_tools_of_the_tests_are_named_twice_alike() -> None:
    """pip-compile does not read dependency groups, so requirements/dev.in repeats one."""
    lines = (ROOT / "requirements" / "dev.in").read_text().splitlines()

    assert [line for line in lines if not line.startswith(("#", "-c"))] == PROJECT["dependency-groups"]["dev"]


def test_the_server_of_the_interop_tests_is_locked_without_addresses() -> None:
    """npm refuses whatever has another hash, and takes it from where it is configured to."""
    packages = json.loads((SERVER / "package-lock.json").read_text())["packages"]
    wanted = json.loads((SERVER / "package.json").read_text())["dependencies"]

    locked = {name: package for name, package in packages.items() if name}
    assert all("resolved" not in package for package in locked.values())
    assert all(package["integrity"].startswith("sha512-") for package in locked.values())
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted


def test_no_file_names_a_registry_or_a_machine() -> None:
    """The tree is the same for everybody, with a mirror or without."""
    hosts = re.compile("|".join(re.escape(".".join(parts)) for parts in REGISTRY_HOSTS))
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked_files()
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        if hosts.search(line) or MACHINE_PATHS.search(line)
    ]

    assert found == []


@pytest.mark.parametrize("path", ["root/.cache", "work/main", "home/someone/src"])
def test_a_path_of_a_machine_would_be_found(path: str) -> None:
    """The pattern is not so careful that it finds nothing."""
    assert MACHINE_PATHS.search(f"see /{path}")
    assert not MACHINE_PATHS.search(f"see /srv/{path}")


def test_every_module_has_a_test_file_that_mirrors_it() -> None:
    """Who changes a module knows where its tests are, and who adds one sees that there are none."""
    missing = [str(source) for source in sources() if not mirror_of(source).exists() and str(source) not in UNMIRRORED]

    assert missing == []


def test_the_exceptions_are_needed() -> None:
    """A reason that has become wrong is not left standing."""
    modules = {str(source): source for source in sources()}

    assert [name for name in UNMIRRORED if name not in modules or mirror_of(modules[name]).exists()] == []


def sources() -> list[Path]:
    """Give the modules of the broker, relative to it; an ``__init__`` counts where it defines something."""
    broker = ROOT / "broker"
    return [
        path.relative_to(broker)
        for path in sorted(broker.rglob("*.py"))
        if path.name != "__init__.py" or _defines_something(path)
    ]


def mirror_of(source: Path) -> Path:
    """Give the test file of *source*; an ``__init__`` is mirrored under the name of its package."""
    name = source.parent.name if source.name == "__init__.py" else source.stem
    return ROOT / "tests" / "unit" / source.parent / f"test_{name}.py"


def _defines_something(path: Path) -> bool:
    body = ast.parse(path.read_bytes()).body
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in body)


def entries_of(lock: Path) -> list[tuple[Requirement, list[str]]]:
    """Give the requirements of a lock file with their hashes."""
    logical = lock.read_text().replace("\\\n", " ")
    lines = [line.partition(" #")[0].strip() for line in logical.splitlines()]
    return [
        (Requirement(line.partition(" --hash=")[0]), re.findall(r"--hash=(\S+)", line))
        for line in lines
        if line and not line.startswith("#")
    ]


def versions_of(lock: Path) -> dict[str, Version]:
    """Give the locked version of each package."""
    return {
        canonicalize_name(requirement.name): Version(str(requirement.specifier).removeprefix("=="))
        for requirement, _ in entries_of(lock)
    }


def tracked_files() -> list[Path]:
    """Give the files that git knows and that are there."""
    listed = subprocess.run(
        ("git", "-c", "safe.directory=*", "ls-files", "-z"), cwd=ROOT, capture_output=True, check=True
    )
    paths = [ROOT / name.decode() for name in listed.stdout.split(b"\0") if name]
    return [path for path in paths if path.is_file()]


def text_of(path: Path) -> str:
    """Give the text of a file; a picture has none."""
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""
