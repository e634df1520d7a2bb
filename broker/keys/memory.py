"""
Hand OpenSSL a certificate with its private key in memory.

``SSLContext.load_cert_chain`` takes only paths. An anonymous file (memfd_create(2)) has one while it is
open, /proc/self/fd/N, so that no plain key is ever on a disk and nobody can put another file in its place.
"""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Callable

from broker.errors import LocalError

MFD_NOEXEC_SEAL = 0x8
"""<linux/memfd.h>: never executable. Since Linux 6.3, which can be told to refuse files without it."""

CreateMemory = Callable[[str, int], int]
"""memfd_create(2): takes a name for /proc and flags, gives a descriptor or raises OSError."""


def load_pair(context: ssl.SSLContext, name: str, pem: bytes, *, create: CreateMemory = os.memfd_create) -> None:
    """
    Load *pem*, a chain with the leaf first and the leaf's plain key, as the certificate called *name*.

    The memory is gone when this returns. Raises LocalError ``certificate_unusable``; *context* is not to be
    used then: OpenSSL leaves it half loaded.
    """
    try:
        with open(_open(create), "wb", buffering=0) as memory:
            memory.write(pem)
            # The key is not encrypted; should OpenSSL ever think so, it must not ask on a terminal.
            context.load_cert_chain(f"/proc/self/fd/{memory.fileno()}", password=_no_passphrase)
    except ssl.SSLError:
        message = f"certificate {name}: OpenSSL does not accept the certificate with its key"
        hint = "its security level may refuse the key or a signature: openssl x509 -text"
        raise LocalError("certificate_unusable", message, hint=hint) from None
    except OSError as error:
        reason = errno.errorcode.get(error.errno or 0, "unknown error")
        message = f"certificate {name}: it cannot be handed to OpenSSL in memory ({reason})"
        raise LocalError("certificate_unusable", message, hint="memfd_create(2) and /proc are needed") from error


def _open(create: CreateMemory) -> int:
    name = "token-broker"
    try:
        return create(name, os.MFD_CLOEXEC | MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # so an older kernel says that it does not know the second flag
            raise
        return create(name, os.MFD_CLOEXEC)


def _no_passphrase() -> str:
    return ""
