"""Tests of ``broker/cli/key.py``: a new private key, its public half, and no old key's end."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from broker.cli import main
from broker.keys.signer import load_signing_key


@pytest.mark.parametrize("alg", ["ES256", "PS256", "EdDSA"])
def test_the_public_half_is_printed_and_the_private_one_is_not(
    tmp_path: Path, alg: str, capsys: pytest.CaptureFixture[str]
):
    """What is printed can be registered as it is: it is what the broker will publish."""
    path = tmp_path / "signing.key"

    code = main(["key", "new", str(path), "--alg", alg])
    captured = capsys.readouterr()

    assert code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(captured.out) == load_signing_key(name="k", file=path, alg=alg).public_jwk()
    assert f'file = "{path}"  alg = "{alg}"' in captured.err
    secret = path.read_text().splitlines()[1]
    assert secret not in captured.out + captured.err


def test_an_existing_key_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Whatever it is."""
    path = tmp_path / "signing.key"
    path.write_text("old")

    code = main(["key", "new", str(path), "--alg", "ES256"])

    assert (code, path.read_text()) == (1, "old")
    assert "file_exists" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["new"], ["new", "x"], ["new", "x", "--alg", "RS256"]])
def test_file_and_algorithm_have_to_be_named(arguments: list[str]):
    """RS256 is for servers that know nothing better, and no new key is made for it."""
    with pytest.raises(SystemExit) as caught:
        main(["key", *arguments])

    assert caught.value.code == 2
