"""The Dockerfile, by what hadolint knows of good practice, and what a build gets to see."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_hadolint_finds_nothing():
    """What is let pass is named beside the line, with the reason."""
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        pytest.skip("there is no hadolint (it is in requirements/dev.txt)")

    done = subprocess.run((program, "Dockerfile"), cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_a_build_sees_what_it_needs_and_no_more():
    """Keys, notes and environments of a person who builds do not get into a layer by accident."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    copied = re.findall(r"^COPY ((?!--from)[^\n]*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    admitted = {line.removeprefix("!").split("/")[0] for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    assert admitted == {"dist", *" ".join(copied).split()}
    assert "broker/sandbox" in lines


def test_only_what_the_locks_determine_is_mounted():
    """A cache of layers does not see that something mounted has changed, and would go on with an older broker."""
    used = set(re.findall(r"/context/([\w./-]+)", (ROOT / "Dockerfile").read_text()))

    assert used == {"dist/wheels"}


def test_the_image_runs_by_numbers_in_exec_form():
    """A cluster can see that it is not root, and signals reach the broker and no shell."""
    last_stage = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]

    assert re.findall(r"^USER (.*)$", last_stage, re.MULTILINE) == ["65532:65532"]
    assert 'ENTRYPOINT ["token-broker"]' in last_stage
    assert 'CMD ["run"]' in last_stage
