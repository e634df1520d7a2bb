"""
Client secrets out of files, under the same rules as private keys.

A file holds the secret and nothing else. What cannot be one is refused before a server counts it as a failed
try: most of them lock a client out after a few.
"""

from __future__ import annotations

import re
from pathlib import Path

from broker.errors import LocalError
from broker.keys.files import read_private
from broker.oauth.secret import ClientSecret

_VSCHARS = re.compile(r"[\x20-\x7e]+")
"""RFC 6749 appendix A.2. Other characters have more than one encoding in a header, so servers disagree."""

MAX_CHARS = 2048
"""No server issues longer ones, and headers of 8 KiB, a usual cap, still take it encoded."""


def load_client_secret(file: Path) -> ClientSecret:
    """
    Read a client secret; one newline at its end is not part of it.

    Blocks. Raises LocalError ``client_secret_unusable`` or one of ``files``.
    """
    content = read_private(file)
    text = content.decode("latin-1").removesuffix("\n").removesuffix("\r")
    if not text:
        raise _unusable(f"{file}: the client secret is empty")
    if "\n" in text:
        raise _unusable(f"{file}: holds more than one line", "the file must hold the secret alone")
    if not _VSCHARS.fullmatch(text):
        raise _unusable(f"{file}: the client secret is not printable ASCII", "is it the right file, and not UTF-16?")
    if len(text) > MAX_CHARS:
        raise _unusable(f"{file}: the client secret has more than {MAX_CHARS} characters", "is it the right file?")
    return ClientSecret(text)


def _unusable(message: str, hint: str | None = None) -> LocalError:
    return LocalError("client_secret_unusable", message, hint=hint)
