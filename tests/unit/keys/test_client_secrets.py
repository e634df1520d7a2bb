"""client_secrets: a file with one line that can go over the wire in one way only."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.keys.client_secrets import MAX_CHARS, load_client_secret
from broker.oauth.secret import ClientSecret
from tests.unit.keys.certificates import written


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"s3cret", "s3cret"),
        (b"s3cret\n", "s3cret"),
        (b"s3cret\r\n", "s3cret"),
        (b" p:q%r+s t ", " p:q%r+s t "),
        (b"x" * MAX_CHARS, "x" * MAX_CHARS),
    ],
)
def test_one_newline_at_the_end_is_not_part_of_a_secret(tmp_path: Path, content: bytes, secret: str) -> None:
    """Editors add one; spaces may be meant."""
    assert load_client_secret(written(tmp_path / "a.secret", content)) == ClientSecret(secret)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"canary-4711\n\n", "more than one line"),
        (b"canary-4711\nb", "more than one line"),
        (b"canary-4711\tb", "not printable ASCII"),
        ("canary-4711-é".encode(), "not printable ASCII"),
        ("canary-4711".encode("utf-16"), "not printable ASCII"),
        (b"\x00canary-4711", "not printable ASCII"),
        (b"canary-4711" * 200, "more than 2048 characters"),
    ],
)
def test_what_cannot_be_a_secret_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """By the path, and without a word of what is in the file."""
    file = written(tmp_path / "a.secret", content)

    with pytest.raises(LocalError) as caught:
        load_client_secret(file)

    assert caught.value.code == "client_secret_unusable"
    assert caught.value.message.startswith(f"{file}: ")
    assert message in caught.value.message
    assert "canary" not in f"{caught.value!r} {caught.value.hint}"


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """The rules of private keys hold (rules.md R8)."""
    file = written(tmp_path / "a.secret", b"s3cret")
    file.chmod(0o644)

    with pytest.raises(LocalError) as caught:
        load_client_secret(file)

    assert caught.value.code == "file_permissions"
