"""memory: OpenSSL gets the pair without a file, on old kernels and in a hardened process."""

from __future__ import annotations

import errno
import os
import ssl
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import broker
from broker.keys.memory import MFD_NOEXEC_SEAL, load_pair
from tests.unit.keys.certificates import chain_pem, client, intermediate, key_pem, p256, rsa_key
from tests.unit.keys.privileges import STRANGER
from tests.unit.keys.refusals import refused

REPOSITORY = Path(broker.__file__).parents[1]
PEM = chain_pem(client(), intermediate()) + client().key_pem()


@dataclass
class Kernel:
    """A kernel that answers the first *failures* calls with an errno, and keeps a record."""

    failures: list[int] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)

    def memfd_create(self, name: str, flags: int) -> int:
        self.flags.append(flags)
        if self.failures:
            raise OSError(self.failures.pop(0), "no")
        self.opened.append(os.memfd_create(name, os.MFD_CLOEXEC))
        return self.opened[-1]


def context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def test_the_memory_cannot_be_executed_or_inherited_and_is_gone_afterwards() -> None:
    """Whatever comes after an exec does not find the key."""
    kernel = Kernel()

    load_pair(context(), "transport", PEM, create=kernel.memfd_create)

    assert kernel.flags == [os.MFD_CLOEXEC | MFD_NOEXEC_SEAL]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kernel.opened[0])


def test_an_older_kernel_is_asked_for_less() -> None:
    """Before 6.3 the second flag is an invalid argument."""
    kernel = Kernel(failures=[errno.EINVAL])

    load_pair(context(), "transport", PEM, create=kernel.memfd_create)

    assert kernel.flags == [os.MFD_CLOEXEC | MFD_NOEXEC_SEAL, os.MFD_CLOEXEC]


@pytest.mark.parametrize(
    ("failures", "name"),
    [([errno.EPERM], "EPERM"), ([errno.ENOSYS], "ENOSYS"), ([errno.EINVAL, errno.EMFILE], "EMFILE")],
)
def test_a_kernel_that_gives_no_memory_is_said_by_name(failures: list[int], name: str) -> None:
    """A seccomp filter, or no descriptors left; there is no way over a disk instead."""
    with refused("certificate_unusable") as caught:
        load_pair(context(), "transport", PEM, create=Kernel(failures=failures).memfd_create)

    assert name in caught.value.message
    assert "transport" in caught.value.message


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        chain_pem(client()),
        client().key_pem(),
        chain_pem(client()) + key_pem(p256()),
        chain_pem(client()) + key_pem(rsa_key()),
        chain_pem(client()) + client().key_pem(b"word"),
    ],
    ids=["empty", "no key", "no certificate", "other key", "other type", "encrypted"],
)
def test_what_openssl_does_not_take_is_refused(pem: bytes) -> None:
    """Without a question on the terminal, without its words, and with nothing left open."""
    kernel = Kernel()

    with refused("certificate_unusable") as caught:
        load_pair(context(), "transport", pem, create=kernel.memfd_create)

    assert caught.value.__cause__ is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kernel.opened[0])


CHILD = """
import os, ssl, sys
from broker.hostenv.hardening import harden
from broker.keys.memory import load_pair
pem = sys.stdin.buffer.read()
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(int(sys.argv[1]))
    os.setuid(int(sys.argv[1]))
harden()
load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "transport", pem)
print("loaded")
"""


def test_it_works_in_a_hardened_process_without_privileges() -> None:
    """/proc/self belongs to root there; our own descriptors can still be opened by name."""
    command = [sys.executable, "-c", CHILD, str(STRANGER)]

    done = subprocess.run(command, input=PEM, capture_output=True, cwd=REPOSITORY, check=False)

    assert (done.stdout, done.stderr) == (b"loaded\n", b"")
