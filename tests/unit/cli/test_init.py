"""Tests of ``broker/cli/init.py``: the first file is a good one, and replaces none."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from broker.cli import main

ISSUER = "https://as.bank.example/tenant"


def test_the_file_passes_the_check_of_its_syntax(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As it is written, with what was asked for in it, and without a warning."""
    arguments = ["--issuer", ISSUER, "--client-id", "bank-7", "--scope", "a", "--scope", "b:c"]

    code = main(["init", *arguments, "--directory", str(tmp_path)])

    captured = capsys.readouterr()
    written = tomllib.loads((tmp_path / "config.toml").read_text())
    assert code == 0
    assert "token-broker keygen audit" in captured.out
    assert "check --online" in captured.out
    assert written["issuer"]["main"]["issuer"] == ISSUER
    assert written["client"]["app"]["client_id"] == "bank-7"
    assert written["token"]["main"]["scope"] == ["a", "b:c"]
    assert main(["check", "--syntax", "--config", str(tmp_path / "config.toml")]) == 0
    assert capsys.readouterr().err == ""


def test_an_existing_file_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Whatever is in it."""
    (tmp_path / "config.toml").write_text("mine")

    code = main(["init", "--issuer", ISSUER, "--directory", str(tmp_path)])

    assert code == 1
    assert (tmp_path / "config.toml").read_text() == "mine"
    assert "[file_exists]" in capsys.readouterr().err


@pytest.mark.parametrize("issuer", ["", "as.bank.example", "http://as.bank.example", 'https://a"\n[x]', "https://a/?q"])
def test_what_is_no_issuer_is_refused_and_nothing_is_written(tmp_path: Path, issuer: str):
    """By the rule that the configuration itself has."""
    code = main(["init", "--issuer", issuer, "--directory", str(tmp_path)])

    assert code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--client-id", "--scope"])
@pytest.mark.parametrize("value", ["", "a b", 'a"', "a\\", "\N{SNOWMAN}", "a\n"])
def test_a_value_that_would_break_the_file_is_wrong_usage(tmp_path: Path, option: str, value: str):
    """Nothing can be smuggled into a configuration."""
    with pytest.raises(SystemExit) as caught:
        main(["init", "--issuer", ISSUER, "--directory", str(tmp_path), f"{option}={value}"])

    assert caught.value.code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("authority", "written"),
    [("made/trust/ca.pem", "trust/ca.pem"), ("ca.pem", "{tmp}/ca.pem"), ('a"\\\x7f\N{SNOWMAN}', None)],
    ids=["below", "elsewhere", "odd"],
)
def test_an_authority_is_named_as_the_configuration_sees_it(tmp_path: Path, authority: str, written: str | None):
    """Beside the file it moves with it; elsewhere it is absolute; whatever it is called, the file can be read."""
    wanted = f"{{tmp}}/{authority}" if written is None else written
    arguments = ["--issuer", ISSUER, "--directory", str(tmp_path / "made"), "--ca-file", str(tmp_path / authority)]

    assert main(["init", *arguments]) == 0

    document = tomllib.loads((tmp_path / "made" / "config.toml").read_text())
    assert document["issuer"]["main"]["ca_file"] == wanted.replace("{tmp}", str(tmp_path))


def test_a_path_that_is_no_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """TOML is UTF-8."""
    code = main(["init", "--issuer", ISSUER, "--directory", str(tmp_path), "--ca-file", "/\udcff"])

    assert code == 1
    assert "[path_not_text]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_directory_is_made_for_its_owner_alone(tmp_path: Path):
    """One level of it: a slip in the path must not make a tree."""
    made = main(["init", "--issuer", ISSUER, "--directory", str(tmp_path / "one")])
    deep = main(["init", "--issuer", ISSUER, "--directory", str(tmp_path / "no" / "two")])

    assert (made, deep) == (0, 1)
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "no").exists()


def test_a_file_in_the_place_of_the_directory_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """In one line and its remedy, not as a traceback."""
    (tmp_path / "file").write_text("")

    assert main(["init", "--issuer", ISSUER, "--directory", str(tmp_path / "file")]) == 1
    assert "[directory_missing]" in capsys.readouterr().err
