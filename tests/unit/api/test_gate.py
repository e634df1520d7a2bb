"""What a request over TCP has to show."""

from __future__ import annotations

import pytest

from broker.api import problems
from broker.api.gate import HOST_REFUSED, Gate
from broker.api.guard import Incoming
from broker.api.problems import Problem, ProblemError
from broker.api.secret_file import digest_of

SECRET = "the-secret-of-the-listener"
HOST = ("Host", "127.0.0.1:8181")
BEARER = ("Authorization", f"Bearer {SECRET}")


def incoming(*headers: tuple[str, str]) -> Incoming:
    return Incoming(
        method="GET",
        target="/livez",
        version=(1, 1),
        headers=headers,
        head_size=100,
        has_body=False,
        content_length=None,
    )


def gate(*hosts: str) -> Gate:
    made = Gate(frozenset(hosts))
    made.arm(digest_of(SECRET), frozenset({"127.0.0.1:8181"}))
    return made


def refused(gate: Gate, *headers: tuple[str, str]) -> Problem:
    with pytest.raises(ProblemError) as caught:
        gate.check(incoming(*headers))
    return caught.value.problem


@pytest.mark.parametrize("value", [f"Bearer {SECRET}", f"bearer {SECRET}", f"BEARER   {SECRET}"])
def test_the_secret_lets_in(value: str):
    """The scheme's name has no case (RFC 9110 section 11.1)."""
    gate().check(incoming(HOST, ("authorization", value)))


def test_without_it_nobody_gets_in():
    """And is told what to send, with no error in the challenge."""
    found = refused(gate(), HOST)

    assert (found.status, found.error, found.reason) == (401, "invalid_token", "secret_missing")
    assert dict(found.headers) == {"WWW-Authenticate": 'Bearer realm="token-broker"'}


@pytest.mark.parametrize(
    "value",
    [
        f"Bearer {SECRET}x",
        f"Bearer {SECRET[:-1]}",
        f"Bearer {SECRET.upper()}",
        f"Bearer  {SECRET} ",
        f"Bearer {SECRET}, Bearer {SECRET}",
        f"Basic {SECRET}",
        f"DPoP {SECRET}",
        f"Bearer{SECRET}",
        SECRET,
        "Bearer ",
        "",
        "Bearer \udcff",
    ],
)
def test_another_secret_lets_nobody_in(value: str):
    """In one way or another."""
    found = refused(gate(), HOST, ("Authorization", value))

    assert found is problems.SECRET_WRONG
    assert dict(found.headers)["WWW-Authenticate"].endswith('error="invalid_token"')


def test_the_secret_said_twice_lets_nobody_in():
    """Two readers could read two."""
    assert refused(gate(), HOST, BEARER, BEARER) is problems.SECRET_WRONG


def test_a_gate_that_was_told_no_secret_is_closed():
    """Also for who shows an empty one."""
    closed = Gate(frozenset({"127.0.0.1:8181"}))

    assert refused(closed, HOST, ("Authorization", "Bearer ")) is problems.SECRET_WRONG
    assert refused(closed, HOST, BEARER) is problems.SECRET_WRONG


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8181", "token-broker", "unix", "127.0.0.1", "127.0.0.1:8182", "127.1:8181", ""]
)
def test_a_host_that_is_not_the_address_is_refused_before_the_secret_is_looked_at(host: str):
    """A name can be made to lead here (DNS rebinding); even with the secret it is not one of ours."""
    found = refused(gate(), ("Host", host), BEARER)

    assert found is HOST_REFUSED
    assert "address" in str(found.hint)


def test_names_of_unix_sockets_are_not_to_be_had_by_configuring_them():
    """They are configured for those."""
    assert refused(gate("localhost", "unix"), ("Host", "localhost"), BEARER) is HOST_REFUSED


def test_a_configured_host_lets_in():
    """The operator knows who can make it lead where."""
    gate("broker.internal:8181").check(incoming(("Host", "Broker.internal:8181"), BEARER))


@pytest.mark.parametrize("header", ["Origin", "Referer", "Sec-Fetch-Site", "X-Forwarded-For", "Via"])
def test_what_browsers_and_proxies_send_is_refused_with_the_secret_too(header: str):
    """As on every other listener."""
    assert refused(gate(), HOST, BEARER, (header, "x")) is problems.HEADER_FORBIDDEN
