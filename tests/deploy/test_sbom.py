"""The bill of materials of the image (``deploy/image/sbom.py``): complete, or refused with every reason."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "deploy" / "image" / "sbom.py"

CONTENT = b"not really a wheel"

DIGEST = hashlib.sha256(CONTENT).hexdigest()

FLOOR = "aiohttp>=3.14.4"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One package, locked, fetched and listed as it should be."""
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "aiohttp-3.14.5-py3-none-any.whl").write_bytes(CONTENT)
    (tmp_path / "lock.txt").write_text(
        f"aiohttp==3.14.5 \\\n    --hash=sha256:{DIGEST} \\\n    --hash=sha256:{'0' * 64}\n"
    )
    (tmp_path / "pyproject.toml").write_text(f'[project]\ndependencies = ["{FLOOR}"]\n')
    write(tmp_path, component())
    return tmp_path


def component(**changes: Any) -> dict[str, Any]:
    """A component as the generator writes it."""
    licences = [{"license": {"id": "Apache-2.0"}}]
    return {"name": "aiohttp", "version": "3.14.5", "type": "library", "licenses": licences, **changes}


def write(folder: Path, *components: dict[str, Any]) -> None:
    bill = {"metadata": {"component": {"name": "token-broker"}}, "components": components}
    (folder / "bill.json").write_text(json.dumps(bill))


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    options = ("--version", "1.2.3", "--lock", "lock.txt", "--wheels", "wheels", "--project", "pyproject.toml")
    return subprocess.run(
        (sys.executable, PROGRAM, "bill.json", *options), cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_bill_gets_hashes_and_the_version_of_the_broker(folder: Path):
    """The hash is that of the wheel that was fetched, not of all that are locked."""
    done = run(folder)

    bill = json.loads((folder / "bill.json").read_text())
    assert (done.returncode, done.stderr) == (0, "")
    assert "token-broker 1.2.3 and 1 packages" in done.stdout
    assert bill["metadata"]["component"]["version"] == "1.2.3"
    assert bill["components"][0]["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]


@pytest.mark.parametrize(
    ("components", "says"),
    [
        ([], "aiohttp 3.14.5 is locked and not in the bill"),
        ([component(), component(name="left-pad", version="1")], "left-pad 1 is in the bill and not locked"),
        ([component(licenses=[])], "aiohttp 3.14.5 has no licence"),
    ],
    ids=["missing", "unknown", "no licence"],
)
def test_what_the_bill_lacks_is_told(folder: Path, components: list[dict[str, Any]], says: str):
    """And the file stays as it was."""
    write(folder, *components)
    before = (folder / "bill.json").read_text()

    done = run(folder)

    assert done.returncode == 1
    assert says in done.stderr.splitlines()
    assert (folder / "bill.json").read_text() == before


def test_a_wheel_that_is_not_locked_is_told(folder: Path):
    """It is not what pip would install."""
    (folder / "wheels" / "aiohttp-3.14.5-py3-none-any.whl").write_bytes(b"another")

    done = run(folder)

    assert (done.returncode, done.stderr) == (1, "aiohttp 3.14.5 has a hash that is not locked\n")


def test_a_wheel_that_is_not_there_is_told(folder: Path):
    """A hash that nobody has seen is none."""
    (folder / "wheels" / "aiohttp-3.14.5-py3-none-any.whl").unlink()

    done = run(folder)

    assert (done.returncode, done.stderr) == (1, "aiohttp 3.14.5 has no hash: there is no wheel of it\n")


def test_a_version_below_its_floor_is_told(folder: Path):
    """Floors keep out what has a known advisory; they are those of pyproject.toml."""
    (folder / "pyproject.toml").write_text('[project]\ndependencies = ["aiohttp>=3.15", "joserfc>=1.6.8"]\n')

    done = run(folder)

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "aiohttp 3.14.5 is not >=3.15, as pyproject.toml has it",
        "joserfc is asked for and not in the bill",
    ]
