"""
What a proxy wants to know of us: a user and a password out of a file, under the same rules as private keys.

They are sent to the proxy alone, as ``Basic`` (RFC 7617 section 2), and in the clear on the way there.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path

from broker.errors import LocalError
from broker.keys.files import read_private
from broker.oauth.secret import BasicCredentials

_PRINTABLE = re.compile(r"[\x20-\x7e]+")
"""Other characters have more than one encoding in this header, and proxies disagree."""

MAX_CHARS = 2048
"""What a header of 8 KiB, a usual cap, takes encoded with room to spare."""


def load_proxy_credentials(file: Path) -> BasicCredentials:
    """
    Read ``user:password`` and make the value of ``Proxy-Authorization``; one newline at the end is not part of it.

    Blocks. Raises LocalError ``proxy_credentials_unusable`` or one of ``files``.
    """
    text = read_private(file).decode("latin-1").removesuffix("\n").removesuffix("\r")
    if not _PRINTABLE.fullmatch(text) or len(text) > MAX_CHARS:
        raise _unusable(file, f"the credentials are not one line of printable ASCII of at most {MAX_CHARS} characters")
    if not text.partition(":")[0] or ":" not in text:
        raise _unusable(file, "there is no user before a colon")
    return BasicCredentials("Basic " + base64.b64encode(text.encode("ascii")).decode("ascii"))


def _unusable(file: Path, what: str) -> LocalError:
    hint = "the file must hold user:password, and nothing else"
    return LocalError("proxy_credentials_unusable", f"{file}: {what}", hint=hint)
