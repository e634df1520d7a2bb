"""Tests of ``broker/sandbox/iridium/switches.py``: what may be set, and what it is at first."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from broker.sandbox.commands import CommandRefusedError
from broker.sandbox.iridium import switches
from broker.sandbox.iridium.switches import Switch, Switches


def test_at_first_everything_is_as_it_was_observed():
    """Every number of the table has a switch, those of IRI-13 by their letters."""
    settings = Switches().as_json()

    assert set(settings.values()) == {"observed"}
    assert {name.rstrip("abcde") for name in settings} == {f"IRI-{number:02}" for number in range(1, 16)}


def test_one_switch_is_set_and_the_others_stay():
    """By the name of its number."""
    own = Switches()
    own.set("IRI-08", "documented")

    assert own.documented(Switch.TOKEN_BODY)
    assert list(own.as_json().values()).count("documented") == 1


@pytest.mark.parametrize(("name", "expected"), [("IRI-13", 5), ("IRI", 19)])
def test_a_name_may_mean_several(name: str, expected: int):
    """All parts of one number, or everything; and back again."""
    own = Switches()
    own.set(name, "documented")
    count = list(own.as_json().values()).count("documented")
    own.set(name, "observed")

    assert count == expected
    assert set(own.as_json().values()) == {"observed"}


@pytest.mark.parametrize(("name", "setting"), [("IRI-16", "observed"), ("IRI-13f", "observed"), ("IRI-01", "off")])
def test_what_does_not_exist_is_refused(name: str, setting: str):
    """With what there is."""
    with pytest.raises(CommandRefusedError, match=r"IRI-\d\d"):
        Switches().set(name, setting)


def test_several_are_changed_all_or_none():
    """A slip in the last leaves the first as it was."""
    own = Switches()
    with pytest.raises(CommandRefusedError):
        own.change({"IRI-01": "documented", "IRI-02": "sometimes"})
    with pytest.raises(CommandRefusedError):
        own.change({"IRI-01": "documented", "IRI-02": 1})  # type: ignore[dict-item]

    assert set(own.as_json().values()) == {"observed"}


def test_each_switch_says_what_its_two_settings_do():
    """In the source, below its name."""
    source = inspect.getsource(switches.Switch)

    assert source.count("    documented: ") == source.count("    observed: ") == len(Switch)


def test_the_page_has_every_switch_and_no_other():
    """In the table of docs/sandbox.md."""
    page = (Path(__file__).parents[4] / "docs" / "sandbox.md").read_text()

    assert re.findall(r"^\| `(IRI-\w+)` \|", page, re.MULTILINE) == [str(switch) for switch in Switch]
