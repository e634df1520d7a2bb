"""Tests of ``broker/cli/csr.py``: a request for a certificate, of a key that is there or of a new one."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509

from broker.cli import main
from broker.keys.private_keys import parse_pem, same_key
from tests.unit.keys.certificates import key_pem, p256, written

SUBJECT = ["--subject", "CN=app,C=BR", "--use", "transport"]


def test_a_new_key_and_its_request_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """RSA, which every directory takes; the request is nothing secret."""
    key, out = tmp_path / "t.key", tmp_path / "t.csr"

    code = main(["csr", "--new-key", str(key), "--out", str(out), "--san", "DNS:a.example", *SUBJECT])

    request = x509.load_pem_x509_csr(out.read_bytes())
    made = parse_pem(key.read_bytes(), key, None)
    assert code == 0
    assert same_key(request.public_key(), made.public_key())
    assert request.subject.rfc4514_string() == "CN=app,C=BR"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (key, out)] == [0o600, 0o644]
    assert capsys.readouterr().out == ""


def test_a_request_of_a_key_that_is_there_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Also of one that is encrypted."""
    pair = p256()
    key = written(tmp_path / "t.key", key_pem(pair, b"secret words"))
    words = written(tmp_path / "words", b"secret words\n")

    code = main(["csr", "--key", str(key), "--passphrase-file", str(words), *SUBJECT])

    assert code == 0
    assert same_key(x509.load_pem_x509_csr(capsys.readouterr().out.encode()).public_key(), pair.public_key())


def test_a_mistake_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """No key that is in the way of the next try."""
    key, out = tmp_path / "t.key", tmp_path / "t.csr"

    code = main(["csr", "--new-key", str(key), "--out", str(out), "--subject", "nonsense", "--use", "signing"])

    assert (code, key.exists(), out.exists()) == (1, False, False)
    assert "subject_unreadable" in capsys.readouterr().err


def test_a_subject_that_cannot_be_written_is_an_error_with_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A country is two letters of ASCII; whoever types another one is told of it like of other mistakes."""
    code = main(["csr", "--new-key", str(tmp_path / "t.key"), "--alg", "ES256", "--use", "signing", "--subject", "C=é"])

    assert (code, list(tmp_path.iterdir())) == (1, [])
    assert "subject_unreadable" in capsys.readouterr().err


def test_an_algorithm_is_not_named_for_a_key_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Whoever did would believe that the request is for another kind of key than it is."""
    key = written(tmp_path / "t.key", key_pem(p256()))

    code = main(["csr", "--key", str(key), "--alg", "PS256", *SUBJECT])

    assert code == 2
    captured = capsys.readouterr()
    assert (captured.out, "--alg" in captured.err) == ("", True)


@pytest.mark.parametrize("taken", ["t.key", "t.csr"])
def test_nothing_is_replaced(tmp_path: Path, taken: str, capsys: pytest.CaptureFixture[str]):
    """Neither a key nor a request."""
    (tmp_path / taken).write_text("old")

    code = main(["csr", "--new-key", str(tmp_path / "t.key"), "--out", str(tmp_path / "t.csr"), *SUBJECT])

    assert (code, (tmp_path / taken).read_text()) == (1, "old")
    assert "file_exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [SUBJECT, ["--key", "a", "--new-key", "b", *SUBJECT], ["--key", "a", "--use", "x", "--subject", "CN=a"]],
)
def test_one_key_and_a_known_use_are_needed(arguments: list[str]):
    """As argparse says."""
    with pytest.raises(SystemExit) as caught:
        main(["csr", *arguments])

    assert caught.value.code == 2
