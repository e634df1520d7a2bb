"""The values that a configuration comes to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from broker.config import settings
from tests.unit.config.files import load

VALUES = [
    value
    for value in vars(settings).values()
    if dataclasses.is_dataclass(value) and value.__module__ == settings.__name__
]


@pytest.mark.parametrize("cls", VALUES)
def test_a_value_cannot_be_changed(cls: type) -> None:
    """A reload makes new ones; what runs keeps the old."""
    parameters = vars(cls)["__dataclass_params__"]

    assert parameters.frozen
    assert "__slots__" in vars(cls)


def test_the_mappings_of_the_whole_cannot_be_changed(tmp_path: Path) -> None:
    """A frozen value with a dictionary inside is not frozen."""
    loaded = load(tmp_path)

    with pytest.raises(TypeError):
        loaded.issuers["other"] = loaded.issuers["raidiam"]  # type: ignore[index]  # that is the point
