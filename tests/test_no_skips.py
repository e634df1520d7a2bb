"""Where every test must run, one that was skipped fails the run and is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PASSES = "def test_passes():\n    pass\n"
SKIPS = "import pytest\n\ndef test_skips():\n    pytest.skip('no Node.js')\n"
SKIPS_WHOLLY = "import pytest\n\npytest.skip('no Node.js', allow_module_level=True)\n"
FAILS_AS_EXPECTED = "import pytest\n\n@pytest.mark.xfail\ndef test_fails():\n    assert False\n"


@pytest.mark.parametrize("workers", ["0", "2"], ids=["alone", "under xdist"])
@pytest.mark.parametrize("text", [SKIPS, SKIPS_WHOLLY], ids=["a test", "a file"])
def test_a_skip_fails_the_run_and_is_named(tmp_path: Path, text: str, workers: str) -> None:
    """Exit code 1, the file and the reason; with workers it is the controller that knows."""
    done = run(tmp_path, {"test_good.py": PASSES, "test_skipping.py": text}, workers, "-p", "tests.no_skips")

    assert done.returncode == 1
    assert "test_skipping.py" in done.stdout
    assert "no Node.js" in done.stdout
    assert "skipped, though every test must run here" in done.stdout


@pytest.mark.parametrize("workers", ["0", "2"], ids=["alone", "under xdist"])
def test_a_run_without_skips_passes(tmp_path: Path, workers: str) -> None:
    """An expected failure has run: it is no skip."""
    files = {"test_good.py": PASSES, "test_expected.py": FAILS_AS_EXPECTED}

    done = run(tmp_path, files, workers, "-p", "tests.no_skips")

    assert done.returncode == 0
    assert "must run here" not in done.stdout


def test_elsewhere_a_skip_is_a_skip(tmp_path: Path) -> None:
    """Without the plugin the run passes."""
    assert run(tmp_path, {"test_good.py": PASSES, "test_skipping.py": SKIPS}, "0").returncode == 0


def run(folder: Path, files: dict[str, str], workers: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on *files*, apart from this project's configuration."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    for name, text in files.items():
        (folder / name).write_text(text)
    return subprocess.run(
        (sys.executable, "-m", "pytest", "-c", "pytest.ini", "-p", "no:cacheprovider", "-n", workers, *options),
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
