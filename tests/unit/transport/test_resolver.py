from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence

import pytest

from broker.errors import Outcome, RemoteError
from broker.oauth.messages import Request
from broker.oauth.reasons import Reason
from broker.transport.resolver import AddressInfo, AddressRefusedError, Lookup, Resolver
from tests.unit.transport.servers import session

pytestmark = pytest.mark.real_time


def found(*addresses: str) -> list[AddressInfo]:
    """Make what ``getaddrinfo`` gives."""
    return [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 443, 0, 0))
        if ":" in address
        else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))
        for address in addresses
    ]


def finds(*addresses: str) -> Lookup:
    """Make a lookup that finds *addresses* for whatever name."""

    def lookup(host: str, port: int, family: int) -> Sequence[AddressInfo]:
        return found(*addresses)

    return lookup


class DeadNameServer:
    """A lookup that takes until the test lets it go."""

    def __init__(self) -> None:
        self.asked = 0
        self.released = threading.Event()

    def __call__(self, host: str, port: int, family: int) -> Sequence[AddressInfo]:
        self.asked += 1
        self.released.wait(10)
        return found("192.0.2.1")


@contextlib.contextmanager
def dead_name_server() -> Iterator[DeadNameServer]:
    server = DeadNameServer()
    try:
        yield server
    finally:
        server.released.set()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "resolver"]


async def test_addresses_are_given_as_found():
    """aiohttp dials exactly these, in this order."""
    resolver = Resolver(lookup=finds("2001:db8::1", "192.0.2.1"))

    addresses = await resolver.resolve("as.example", 443)

    assert [(a["host"], a["port"], a["family"], a["hostname"]) for a in addresses] == [
        ("2001:db8::1", 443, socket.AF_INET6, "as.example"),
        ("192.0.2.1", 443, socket.AF_INET, "as.example"),
    ]


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "::ffff:169.254.169.254", "100.100.100.200"],
)
async def test_a_metadata_address_is_never_given(address: str):
    """Neither alone nor beside a good one: it would answer with the machine's own credentials."""
    alone = Resolver(lookup=finds(address))
    beside = Resolver(lookup=finds(address, "192.0.2.1"))

    with pytest.raises(AddressRefusedError):
        await alone.resolve("as.example", 443)
    assert [a["host"] for a in await beside.resolve("as.example", 443)] == ["192.0.2.1"]


@pytest.mark.parametrize("answer", [[], socket.gaierror(socket.EAI_NONAME, "no"), OSError(), UnicodeError()])
async def test_a_name_without_an_address_is_an_error_of_the_resolver(answer: list[AddressInfo] | Exception):
    """Whatever the C library says, it is an OSError in the end, which aiohttp understands."""

    def lookup(host: str, port: int, family: int) -> Sequence[AddressInfo]:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(OSError) as caught:  # noqa: PT011 # any OSError will do
        await Resolver(lookup=lookup).resolve("nowhere.example", 443)

    assert not isinstance(caught.value, AddressRefusedError)


async def test_a_name_server_that_does_not_answer_is_given_up():
    """The loop goes on meanwhile, and the budget of the lookup is its own."""
    with dead_name_server() as lookup, pytest.raises(socket.gaierror):
        await Resolver(timeout=0.02, lookup=lookup).resolve("as.example", 443)


async def test_a_dead_name_server_collects_no_threads():
    """Later questions for the same name join the first; when it is answered at last, so are they."""
    with dead_name_server() as lookup:
        resolver = Resolver(timeout=0.05, lookup=lookup)
        for _ in range(3):
            with pytest.raises(socket.gaierror):
                await resolver.resolve("as.example", 443)
        lookup.released.set()

        assert (await resolver.resolve("as.example", 443))[0]["host"] == "192.0.2.1"
        assert lookup.asked == 1


async def test_a_name_is_asked_for_again_when_the_last_lookup_is_over():
    """Nothing is cached here: an address that moved is found."""
    answers = iter([found("192.0.2.1"), found("192.0.2.2")])

    def lookup(host: str, port: int, family: int) -> Sequence[AddressInfo]:
        return next(answers)

    resolver = Resolver(lookup=lookup)

    first, second = [await resolver.resolve("as.example", 443) for _ in range(2)]

    assert (first[0]["host"], second[0]["host"]) == ("192.0.2.1", "192.0.2.2")


async def test_a_caller_that_gives_up_does_not_end_the_lookup_of_another():
    """They share a thread, not a fate."""
    with dead_name_server() as lookup:
        resolver = Resolver(lookup=lookup)
        async with asyncio.TaskGroup() as group:
            impatient = group.create_task(resolver.resolve("as.example", 443))
            patient = group.create_task(resolver.resolve("as.example", 443))
            await asyncio.sleep(0)
            impatient.cancel()
            await asyncio.sleep(0)
            lookup.released.set()

        assert impatient.cancelled()
        assert patient.result()[0]["host"] == "192.0.2.1"


async def test_a_lookup_under_way_does_not_hold_up_the_stop():
    """Its thread is a daemon, which the interpreter does not wait for, and closing does not wait either."""
    with dead_name_server() as lookup:
        resolver = Resolver(timeout=0.02, lookup=lookup)
        with pytest.raises(socket.gaierror):
            await resolver.resolve("as.example", 443)
        await resolver.close()

        assert threads()
        assert all(thread.daemon for thread in threads())


def test_an_answer_after_the_loop_was_closed_disturbs_nobody():
    """The thread finds no loop to tell, and ends without a word."""
    with dead_name_server() as lookup:
        with pytest.raises(socket.gaierror):
            asyncio.run(Resolver(timeout=0.02, lookup=lookup).resolve("as.example", 443))
        waiting = threads()
        lookup.released.set()

        for thread in waiting:
            thread.join(5)
        assert not any(thread.is_alive() for thread in waiting)


async def test_a_name_that_does_not_exist_is_said_to_be_one():
    """The session's own resolver, with the C library; RFC 6761 reserves ``.invalid``."""
    async with session() as connections:
        with pytest.raises(RemoteError) as caught:
            await connections.send(Request(method="GET", url="https://nowhere.invalid/"))

        assert (caught.value.code, caught.value.outcome) == (Reason.DNS_FAILED, Outcome.NOT_SENT)
