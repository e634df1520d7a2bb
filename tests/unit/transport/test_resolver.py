from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence

import pytest

from broker.errors import Outcome, RemoteError
from broker.oauth.messages import Request
from broker.oauth.reasons import Reason
from broker.transport.resolver import AddressInfo, AddressRefusedError, Resolver
from broker.transport.session import Session
from tests.unit.transport.names import dead_name_server, finds, found
from tests.unit.transport.servers import answers_ok, serving, session

pytestmark = pytest.mark.real_time


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


async def test_a_name_that_leads_only_to_metadata_addresses_is_not_dialed():
    """DNS rebinding: the URL looked harmless."""
    async with session(lookup=finds("169.254.169.254", "fe80::1")) as connections:
        with pytest.raises(RemoteError) as caught:
            await connections.send(Request(method="GET", url="http://as.example/"))

        assert (caught.value.code, caught.value.outcome) == (Reason.ADDRESS_REFUSED, Outcome.NOT_SENT)


async def test_exactly_the_addresses_that_were_found_and_allowed_are_dialed():
    """The metadata address is left out, the dead one is tried, and the last one answers."""
    async with (
        serving(answers_ok) as server,
        session(lookup=finds("169.254.169.254", "127.0.0.2", "127.0.0.1", port=server.port)) as connections,
    ):
        answer = await connections.send(Request(method="GET", url=server.url(host="as.example")))

        assert answer.status == 200
        assert server.heard[0].headers()["host"] == f"as.example:{server.port}"


async def test_the_dead_name_server_of_one_session_holds_up_no_other():
    """Their threads are not shared, as those of an executor are."""
    with dead_name_server() as lookup:
        async with (
            serving(answers_ok) as server,
            session(lookup=lookup) as dead,
            session(lookup=finds("127.0.0.1", port=server.port)) as alive,
            asyncio.TaskGroup() as group,
        ):
            stuck = [group.create_task(failure_of(dead, f"http://as{n}.example/")) for n in range(20)]
            answer = await alive.send(Request(method="GET", url=server.url(host="as.example")))

            assert answer.status == 200
            assert lookup.asked > 0
            assert not any(task.done() for task in stuck)
            await dead.close()


async def test_the_deadline_of_a_call_ends_a_lookup_too():
    """It is the shorter of the two budgets here, and nothing was sent."""
    with dead_name_server() as lookup:
        async with session(lookup=lookup, deadline=0.05) as connections:
            error = await failure_of(connections, "http://as.example/")

        assert (error.code, error.outcome) == (Reason.TIMED_OUT, Outcome.NOT_SENT)


async def test_a_session_closes_while_a_lookup_is_under_way():
    """The caller is told, and nobody waits for the name server."""
    with dead_name_server() as lookup:
        async with session(lookup=lookup) as connections, asyncio.TaskGroup() as group:
            stuck = group.create_task(failure_of(connections, "http://as.example/"))
            while not lookup.asked:
                await asyncio.sleep(0.001)
            await connections.close()

        assert (stuck.result().code, stuck.result().outcome) == (Reason.CONNECTION_LOST, Outcome.NOT_SENT)


async def failure_of(connections: Session, url: str) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        await connections.send(Request(method="GET", url=url))
    return caught.value
