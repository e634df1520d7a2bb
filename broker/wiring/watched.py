"""
Which files a configuration names that may be replaced while the daemon runs, and digests of what they hold.

By content and never by date: Kubernetes swaps a symlink under all files of a secret at once, and copies keep
dates. What only a start takes in (the keys of the store and of the audit log) is not looked at here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from broker.config.settings import Settings
from broker.errors import LocalError
from broker.keys.files import read_private, read_public

CERTIFICATE, KEY, SECRET, PROXY, ISSUER = "certificate", "key", "client", "proxy", "issuer"
UPSTREAM, UPSTREAM_PROXY = "upstream", "upstream-proxy"
"""What the files belong to: sections of the configuration, but for the credentials of an issuer's or an API's proxy."""

Read = Callable[[Path], bytes]


def contents_of(settings: Settings) -> dict[str, tuple[str, ...]]:
    """
    Give the digests of the files of each section, by the name of the section: ``certificate.transport``.

    A file that cannot be read has the code of the error in their place. Blocks.
    """
    known: dict[Path, str] = {}
    contents: dict[str, list[str]] = {}
    for item, path, read in _files(settings):
        if path not in known:
            known[path] = _digest(path, read)
        contents.setdefault(item, []).append(known[path])
    return {item: tuple(digests) for item, digests in contents.items()}


def _files(settings: Settings) -> Iterator[tuple[str, Path, Read]]:
    """Give each file with the section that names it, and how it may be read."""
    named: list[tuple[str, Path | None, Read]] = []
    for name, certificate in settings.certificates.items():
        item = f"{CERTIFICATE}.{name}"
        named += [(item, certificate.key_file, read_private), (item, certificate.cert_file, read_public)]
        named += [(item, certificate.passphrase_file, read_private)]
    for name, key in settings.keys.items():
        item = f"{KEY}.{name}"
        named += [(item, key.file, read_private), (item, key.cert_file, read_public)]
        named += [(item, key.passphrase_file, read_private)]
    named += [(f"{SECRET}.{name}", client.secret_file, read_private) for name, client in settings.clients.items()]
    for name, issuer in settings.issuers.items():
        named += [(f"{PROXY}.{name}", issuer.proxy_credentials_file, read_private)]
        named += [(f"{ISSUER}.{name}", issuer.ca_file, read_public)]
    for name, upstream in settings.upstreams.items():
        named += [(f"{UPSTREAM_PROXY}.{name}", upstream.proxy_credentials_file, read_private)]
        named += [(f"{UPSTREAM}.{name}", upstream.ca_file, read_public)]
    return ((item, path, read) for item, path, read in named if path is not None)


def _digest(path: Path, read: Read) -> str:
    try:
        return hashlib.sha256(read(path)).hexdigest()
    except LocalError as error:
        return str(error.code)
