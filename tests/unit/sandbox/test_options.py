"""Tests of ``broker/sandbox/options.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker.sandbox.options import NonceMode, OptionRefusedError, Options, Rotation


@pytest.mark.parametrize(
    "changes",
    [
        {"rotation": "never"},
        {"rotation": "grace", "grace_seconds": 0},
        {"refresh_lifetime_seconds": 60},
        {"refresh_lifetime_seconds": None},
        {"code_lifetime_seconds": 1, "request_lifetime_seconds": 1},
        {"require_par": True, "require_request_object": True, "front_channel_extras": True},
        {"iss_parameter": False, "id_token_alg": "ES256"},
    ],
)
def test_options_are_set_by_name(changes: dict[str, Any]):
    """And no others change."""
    options = Options()

    options.change(changes)

    assert options.as_json() == {**Options().as_json(), **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"rotations": "never"},
        {"rotation": "sometimes"},
        {"rotation": ["never"]},
        {"grace_seconds": -1},
        {"grace_seconds": True},
        {"grace_seconds": 1.5},
        {"code_lifetime_seconds": None},
        {"refresh_lifetime_seconds": "60"},
        {"require_par": "yes"},
        {"id_token_alg": "none"},
        {"id_token_alg": None},
    ],
)
def test_a_wrong_option_changes_nothing(changes: dict[str, Any]):
    """Not even those beside it that are right."""
    options = Options()

    with pytest.raises(OptionRefusedError):
        options.change({"iss_parameter": False, **changes})

    assert options == Options()


def test_a_rotation_is_one_of_the_modes_afterwards():
    """Given as text, kept as what it means."""
    options = Options()

    options.change({"rotation": "grace"})

    assert options.rotation is Rotation.GRACE


@pytest.mark.parametrize("name", ["dpop_nonces", "resource_dpop_nonces"])
def test_nonces_are_one_of_the_modes_afterwards(name: str):
    """Given as text, kept as what it means; nothing else is one."""
    options = Options()

    options.change({name: "rotating"})

    assert getattr(options, name) is NonceMode.ROTATING
    for wrong in ("always", True, None):
        with pytest.raises(OptionRefusedError, match=name):
            options.change({name: wrong})


@pytest.mark.parametrize("wrong", [-1, 1_001, True, "1"])
def test_so_many_nonces_are_not_kept(wrong: Any):
    """What is kept has a bound."""
    with pytest.raises(OptionRefusedError, match="dpop_nonces_kept"):
        Options().change({"dpop_nonces_kept": wrong})


def test_every_option_is_documented_with_its_default():
    """And none that does not exist."""
    page = (Path(__file__).parents[3] / "docs" / "sandbox.md").read_text()
    table = page.partition("| setting | default | meaning |")[2].partition("\n\n")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]

    documented = {row[1].strip(" `"): json.loads(row[2].strip(" `")) for row in rows}

    assert documented == Options().as_json()
