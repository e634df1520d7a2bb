"""Tests of ``broker/sandbox/layout.py``: what is written, who may read it, and which directories are refused."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from broker.sandbox.jose import SigningAlg
from broker.sandbox.layout import (
    ADDRESSES,
    CONTROL_TOKEN,
    LOCK,
    DirectoryRefusedError,
    claim,
    load,
    make,
    read_addresses,
    signing_key_file,
    write_private,
)

NOW = 1_790_000_000.0


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_private_files_are_for_their_owner_alone(prepared: Path):
    """Whatever the umask is; certificates may be read, by whoever gets into the directory."""
    modes = {path.relative_to(prepared).as_posix(): mode(path) for path in prepared.rglob("*")}
    private = {name for name in modes if name.endswith((".key", CONTROL_TOKEN)) or name.startswith("signing-")}

    assert len(private) == 16
    assert {modes[name] for name in private} == {0o600}
    assert modes["server"] == 0o700
    assert modes["ca.pem"] == 0o644


def test_the_umask_does_not_matter(tmp_path: Path):
    """Neither a generous nor a mean one."""
    for umask in (0o000, 0o377):
        before = os.umask(umask)
        try:
            write_private(tmp_path / str(umask), b"secret")
        finally:
            os.umask(before)

        assert mode(tmp_path / str(umask)) == 0o600


def test_a_new_start_makes_everything_anew(prepared: Path, tmp_path: Path):
    """No key of an earlier run is used again (rules.md R10)."""
    again = tmp_path / "again"
    shutil.copytree(prepared, again)
    make(again, now=NOW)

    secret = [path for path in prepared.rglob("*") if path.is_file() and mode(path) == 0o600]
    assert len(secret) >= 12
    for path in secret:
        assert path.read_bytes() != (again / path.relative_to(prepared)).read_bytes()


def test_what_was_made_is_loaded_as_it_was(prepared: Path):
    """Twice the same."""
    first, second = load(prepared), load(prepared)

    assert first.control_token == second.control_token
    assert first.authority.thumbprint() == second.authority.thumbprint()
    assert [key.kid for key in first.signing_keys.values()] == [key.kid for key in second.signing_keys.values()]


def test_material_has_no_secret_in_its_printed_form(prepared: Path):
    """Neither the control token nor a private key."""
    material = load(prepared)

    assert material.control_token not in repr(material)
    assert "PrivateKey" not in repr(material)


@pytest.mark.parametrize(
    "damage", [signing_key_file(SigningAlg.ES256), "server/ca.key", CONTROL_TOKEN, "server/ca.pem"]
)
def test_a_directory_that_is_not_whole_is_not_gone_on_with(prepared: Path, tmp_path: Path, damage: str):
    """It says what to do."""
    broken = tmp_path / "broken"
    shutil.copytree(prepared, broken)
    (broken / damage).unlink()

    with pytest.raises(DirectoryRefusedError, match="without --keep"):
        load(broken)


def test_a_damaged_key_is_not_gone_on_with(prepared: Path, tmp_path: Path):
    """Half a file is no key."""
    broken = tmp_path / "broken"
    shutil.copytree(prepared, broken)
    (broken / "server" / "ca.key").write_bytes(b"-----BEGIN PRIVATE KEY-----\n")

    with pytest.raises(DirectoryRefusedError):
        load(broken)


def test_a_directory_is_made_for_its_owner(tmp_path: Path):
    """Parents included."""
    with claim(tmp_path / "a" / "b"):
        assert mode(tmp_path / "a" / "b") == 0o700


def test_an_empty_directory_is_closed_to_others(tmp_path: Path):
    """It becomes the sandbox's."""
    (tmp_path / "empty").mkdir(mode=0o755)

    with claim(tmp_path / "empty"):
        assert mode(tmp_path / "empty") == 0o700


def test_a_directory_with_other_files_is_refused_and_left_alone(tmp_path: Path):
    """A slip of the keyboard must not cost anybody a file, or the rights of /tmp."""
    (tmp_path / "thesis.tex").touch()
    tmp_path.chmod(0o755)

    with pytest.raises(DirectoryRefusedError, match="other files"), claim(tmp_path):
        pass

    assert mode(tmp_path) == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path):
    """With the reason of the operating system."""
    (tmp_path / "file").touch()

    with pytest.raises(DirectoryRefusedError), claim(tmp_path / "file"):
        pass


def test_two_sandboxes_do_not_share_a_directory(tmp_path: Path):
    """The first keeps it until it ends, and then it is free."""
    directory = tmp_path / "sandbox"
    with claim(directory), pytest.raises(DirectoryRefusedError, match="another sandbox"), claim(directory):
        pass

    with claim(directory):
        pass


def test_addresses_are_not_found_where_no_sandbox_was(tmp_path: Path):
    """Nothing, nonsense, and another kind of JSON."""
    for content in (None, "", "[]"):
        if content is not None:
            (tmp_path / ADDRESSES).write_text(content)

        with pytest.raises(DirectoryRefusedError):
            read_addresses(tmp_path)


def test_a_lock_marks_a_directory_as_ours(prepared: Path):
    """It is what tells a sandbox's directory from any other."""
    with claim(prepared):
        assert (prepared / LOCK).exists()
