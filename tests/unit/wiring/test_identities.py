from __future__ import annotations

from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.wiring import load_identities
from tests.fakes import WALL_AT_BOOT
from tests.unit.keys.certificates import WALL, key_pem, p256, written
from tests.unit.wiring.configurations import TWO_KEYS, loaded, settings_of, with_others


def test_the_first_wrong_file_is_an_error(tmp_path: Path):
    """A daemon does not start with half of its identities."""
    with pytest.raises(LocalError) as caught:
        load_identities(settings_of(tmp_path), wall_now=WALL_AT_BOOT)

    assert caught.value.code == "file_missing"


def test_a_check_gets_all_of_them_and_what_is_sound(tmp_path: Path):
    """Every error is handed on; what can be loaded is."""
    written(tmp_path / "k.pem", key_pem(p256()))
    errors: list[LocalError] = []

    loaded = load_identities(settings_of(tmp_path, TWO_KEYS), wall_now=WALL_AT_BOOT, on_error=errors.append)

    assert [error.code for error in errors] == ["file_missing"]
    assert "second.pem" in errors[0].message
    assert list(loaded.keys) == ["k"]


def test_a_client_secret_that_cannot_be_read_is_an_error_like_others(tmp_path: Path):
    """A check names it, a start fails with it."""
    settings = with_others(tmp_path)
    (tmp_path / "e.secret").chmod(0o644)
    errors: list[LocalError] = []

    identities = loaded(tmp_path, settings, wall_now=WALL, on_error=errors.append)

    assert [error.code for error in errors] == ["file_permissions"]
    assert identities.secrets == {}
