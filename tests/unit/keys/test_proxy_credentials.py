"""proxy_credentials: a user and a password that can go into a header in one way only."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.keys.proxy_credentials import MAX_CHARS, load_proxy_credentials
from broker.oauth.secret import BasicCredentials
from tests.unit.keys.certificates import written


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (b"Aladdin:open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),  # RFC 7617 section 2
        (b"Aladdin:open sesame\r\n", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        (b"a:b:c\n", "Basic YTpiOmM="),
        (b"a:", "Basic YTo="),
    ],
)
def test_user_and_password_become_the_header(tmp_path: Path, content: bytes, header: str) -> None:
    """The first colon ends the user; an empty password is one."""
    assert load_proxy_credentials(written(tmp_path / "p.secret", content)) == BasicCredentials(header)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not one line"),
        (b"canary:4711\n\n", "not one line"),
        ("canary:4711é".encode(), "not one line"),
        (b"canary:" + b"x" * MAX_CHARS, "at most 2048"),
        (b"canary-4711", "no user before a colon"),
        (b":canary-4711", "no user before a colon"),
    ],
)
def test_what_cannot_be_sent_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """By the path, and without a word of what is in the file."""
    file = written(tmp_path / "p.secret", content)

    with pytest.raises(LocalError) as caught:
        load_proxy_credentials(file)

    assert caught.value.code == "proxy_credentials_unusable"
    assert caught.value.message.startswith(f"{file}: ")
    assert message in caught.value.message
    assert "canary" not in f"{caught.value!r} {caught.value.hint}".replace(str(file), "")


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """The rules of private keys hold (rules.md R8)."""
    file = written(tmp_path / "p.secret", b"a:b")
    file.chmod(0o644)

    with pytest.raises(LocalError) as caught:
        load_proxy_credentials(file)

    assert caught.value.code == "file_permissions"
