from __future__ import annotations

import os
from pathlib import Path

from broker.wiring.watched import contents_of
from tests.unit.keys.certificates import key_pem, p256, written
from tests.unit.wiring.configurations import PROXIED, settings_of, with_others


def test_each_section_has_the_digests_of_its_files(tmp_path: Path):
    """Certificates and keys, and what is secret of clients and proxies."""
    others = contents_of(with_others(tmp_path))
    written(tmp_path / "proxy.secret", b"user:password\n")
    proxied = contents_of(settings_of(tmp_path, PROXIED))

    assert {item: len(digests) for item, digests in others.items()} == {"certificate.x": 2, "key.k": 1, "client.e": 1}
    assert set(proxied) == {"key.k", "proxy.nobody"}


def test_content_counts_and_nothing_else(tmp_path: Path):
    """A copy with another date is the same, another content of the same date and size is not."""
    settings = settings_of(tmp_path)
    path = written(tmp_path / "k.pem", b"one")
    before, status = contents_of(settings), path.stat()

    copy = written(tmp_path / "copy", b"one")
    copy.replace(path)
    os.utime(path, (1.0, 1.0))
    copied = contents_of(settings)
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    changed = contents_of(settings)

    assert before == copied
    assert before != changed


def test_a_link_is_followed_and_a_file_that_may_not_be_read_has_a_code(tmp_path: Path):
    """Kubernetes swaps a link; and a file that is missing for a moment is a change, too."""
    settings = settings_of(tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    written(tmp_path / "one" / "k.pem", key_pem(p256()))
    written(tmp_path / "two" / "k.pem", key_pem(p256()))
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "k.pem").symlink_to("data/k.pem")
    first = contents_of(settings)
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").replace(tmp_path / "data")
    second = contents_of(settings)
    (tmp_path / "two" / "k.pem").chmod(0o644)
    open_to_all = contents_of(settings)
    (tmp_path / "data").unlink()

    assert first != second
    assert open_to_all == {"key.k": ("file_permissions",)}
    assert contents_of(settings) == {"key.k": ("file_missing",)}
