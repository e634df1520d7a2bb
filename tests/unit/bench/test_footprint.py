"""Tests of ``bench/footprint.py``: what it says of a figure, and where it finds no image."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.footprint import Figure, image_size, table

ENGINE = """\
#!/bin/sh
case "$3" in
  broker) echo '[{"Size": 207000000, "Config": {"Labels": {"org.opencontainers.image.base.name": "base"}}}]';;
  base) echo '[{"Size": 163000000, "Config": {}}]';;
  *) exit 125;;
esac
"""


@pytest.fixture
def engine(tmp_path: Path) -> tuple[str]:
    """A program that knows two images."""
    program = tmp_path / "podman"
    program.write_text(ENGINE)
    program.chmod(0o755)
    return (str(program),)


@pytest.mark.parametrize(
    ("measured", "verdict"), [(60.0, "met"), (60.1, "missed"), (None, "there was none")], ids=["met", "missed", "none"]
)
def test_a_figure_is_held_to_its_goal(measured: float | None, verdict: str):
    """At most the goal is met; what was not measured is neither."""
    figure = Figure(what="memory", unit="MB", goal=60, measured=measured, why="there was none")

    assert figure.verdict == verdict


def test_the_table_has_the_goals_beside():
    """One row for each figure."""
    figures = [
        Figure(what="memory", unit="MB", goal=60, measured=70.4),
        Figure(what="x", unit="s", goal=1, measured=None),
    ]

    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table(figures).splitlines()]

    assert rows[0] == ["figure", "measured", "goal", ""]
    assert rows[2] == ["memory", "70 MB", "60 MB", "missed"]
    assert rows[3] == ["x", "", "1 s", ""]


def test_an_image_is_measured_above_the_base_that_its_label_names(engine: tuple[str]):
    """In millions of bytes, as engines print sizes."""
    assert image_size(engine, "broker") == (44.0, "")


def test_an_image_that_is_not_there_is_said_so(engine: tuple[str]):
    """With what would make it."""
    size, why = image_size(engine, "another")

    assert size is None
    assert "make image" in why


def test_without_an_engine_nothing_is_measured():
    """Neither podman nor docker."""
    assert image_size((), "broker") == (None, "not measured: no podman and no docker")
