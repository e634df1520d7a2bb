"""Tests of ``broker/sandbox/iridium/material.py``: what is in the directory."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from broker.sandbox.iridium.material import load, make
from broker.sandbox.layout import DirectoryRefusedError


def test_private_files_are_for_their_owner_alone(tmp_path: Path):
    """The authority may be read."""
    make(tmp_path, now=time.clock_gettime(time.CLOCK_REALTIME))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}

    assert {name for name, mode in modes.items() if mode == 0o644} == {"ca.pem", "good.pem"}
    assert set(modes.values()) == {0o600, 0o644}


def test_what_was_made_is_loaded_and_made_anew_each_time(tmp_path: Path):
    """New authority, new secrets (rules.md R10)."""
    first = make(tmp_path, now=1_790_000_000)
    again = load(tmp_path)
    second = make(tmp_path, now=1_790_000_000)

    assert first.authority.thumbprint() == again.authority.thumbprint()
    assert (first.control_token, first.client_secret) == (again.control_token, again.client_secret)
    assert first.authority.thumbprint() != second.authority.thumbprint()
    assert {first.control_token, first.client_secret}.isdisjoint({second.control_token, second.client_secret})


def test_it_has_no_secret_in_its_printed_form(tmp_path: Path):
    """Neither of the two."""
    material = make(tmp_path, now=1_790_000_000)

    assert material.control_token not in repr(material)
    assert material.client_secret not in repr(material)


@pytest.mark.parametrize("damage", ["client-secret", "server/ca.key"])
def test_a_directory_that_is_not_whole_is_not_gone_on_with(tmp_path: Path, damage: str):
    """It says what to do."""
    make(tmp_path, now=1_790_000_000)
    (tmp_path / damage).unlink()

    with pytest.raises(DirectoryRefusedError, match="without --keep"):
        load(tmp_path)
