"""What a daemon may read and write is what its configuration names; a reload that names more waits for a restart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker.config.settings import Settings
from broker.errors import LocalError
from broker.events import ConfinementFailed, ProcessConfined
from broker.hostenv.landlock import Places
from broker.wiring.confinement import Confinement, all_places_of, confine_to, places_of
from tests.unit.daemon.test_process import CONFIG
from tests.unit.hostenv.test_landlock import FakeKernel
from tests.unit.wiring.configurations import settings_of

WHOLE = (
    CONFIG.replace("[daemon]", '[daemon]\nstate_dir = "state"\nlandlock = true')
    .replace('"audit.log"', '"log/audit.log"\nkey = { file = "keys/audit.key" }')
    .replace('"api.sock"', '"run/api.sock"')
    .replace('"k.pem"', '"keys/k.pem"')
    + """
[store]
key = { file = "store.key" }
anchor = "anchor/a"
[listener.tcp]
address = "127.0.0.1:8181"
secret_file = "secrets/tcp"
[sink.s]
token = "t"
path = "tokens/t"
hook = ["/opt/tools/told", "now"]
"""
)


def test_the_directories_of_all_named_files_are_read_and_of_few_written(tmp_path: Path):
    """Where something is written nothing beside it is read: the state directory stands among those of others."""
    places = places_of(settings_of(tmp_path, WHOLE))

    assert set(places.reads) == {tmp_path, tmp_path / "keys", Path("/opt/tools")}
    assert set(places.writes) == {tmp_path / name for name in ("state", "log", "run", "secrets", "anchor", "tokens")}


def test_the_system_is_read_and_the_homes_are_not(tmp_path: Path):
    """Nor is what others keep."""
    places = all_places_of(settings_of(tmp_path, WHOLE))

    assert Path("/usr") in places.reads
    assert Path("/dev/null") in places.writes
    assert not {Path(name) for name in ("/", "/home", "/var", "/var/lib", "/tmp")} & {*places.reads, *places.writes}


def test_nobody_is_confined_unasked(tmp_path: Path):
    """It is off by default."""
    kernel = FakeKernel()

    confinement = confine_to(settings_of(tmp_path, CONFIG), kernel)

    assert (confinement, kernel.restricted) == (Confinement(), 0)


def test_it_is_told_what_came_of_it(tmp_path: Path):
    """By the version, or by the reason."""
    settings = settings_of(tmp_path, WHOLE)

    good, bad = confine_to(settings, FakeKernel()), confine_to(settings, FakeKernel(failure=1))

    assert good.event == ProcessConfined(version=7)
    assert (bad.places, bad.event) == (None, ConfinementFailed(reason="EPERM"))


def test_a_reload_that_names_other_places_says_that_it_needs_a_restart(tmp_path: Path):
    """With the places; one that names the same, or one of a daemon that is not confined, is loaded."""
    settings = settings_of(tmp_path, WHOLE)
    places = Places(reads=(tmp_path / "keys",), writes=places_of(settings).writes)

    def load(path: Path) -> Settings:
        assert path == tmp_path / "config.toml"
        return settings

    with pytest.raises(LocalError) as caught:
        Confinement(places=places).load(load, tmp_path / "config.toml")

    assert caught.value.code == "restart_required"
    assert "/opt/tools" in caught.value.message
    assert os.fspath(tmp_path) in caught.value.message
    assert Confinement().load(load, tmp_path / "config.toml") is settings
    assert Confinement(places=places_of(settings)).load(load, tmp_path / "config.toml") is settings
