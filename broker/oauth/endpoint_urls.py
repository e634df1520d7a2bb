"""
Which URLs we are willing to dial: the shape of issuers and endpoints, and where they may lead (rules.md R5).

An endpoint comes from the metadata, that is from a peer, and becomes the place where client assertions go.
So URLs are read by a grammar of our own that knows one reading only: no userinfo, no backslash, no dot
segments, no numbers that a resolver would take for an address.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

DEFAULT_PORTS = {"https": 443, "http": 80}

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[a-z0-9._~!$&'()*+,;=:@%-]*)*)(?P<query>\?[a-z0-9._~!$&'()*+,;=:@%/?-]*)?",
    re.IGNORECASE | re.ASCII,
)
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)

_NEVER = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local, and there the metadata service of AWS, Azure, GCP and others
        "fe80::/10",  # link-local
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure's host
        "192.0.0.192/32",  # Oracle
        "fd00:ec2::/32",  # AWS
        "fd20:ce::254/128",  # GCP
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class NotAnEndpointUrlError(ValueError):
    """The text is not an absolute http(s) URL of the plain kind; the message is constant."""

    def __init__(self) -> None:
        super().__init__("not a plain absolute URL")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointUrl:
    """A URL taken apart: *scheme* and *host* in lower case, IPv6 in brackets; *query* is empty or starts with ``?``."""

    scheme: str
    host: str
    port: int
    query: str

    @property
    def authority(self) -> str:
        """``host``, or ``host:port`` where the port is not the default."""
        return self.host if self.port == DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"


def parse_url(text: str) -> EndpointUrl:
    """
    Take *text* apart (RFC 3986). Raises NotAnEndpointUrlError.

    Userinfo, a fragment, dot segments, a number in the place of a host name, and characters that do not
    belong into a URL are all refused.
    """
    found = _URL.fullmatch(text)
    if found is None or _DOT_SEGMENT.search(found["path"]):
        raise NotAnEndpointUrlError
    scheme, host = found["scheme"].lower(), found["host"].lower()
    port = int(found["port"]) if found["port"] else DEFAULT_PORTS[scheme]
    if not 1 <= port <= 65_535 or not _is_host(host):
        raise NotAnEndpointUrlError
    return EndpointUrl(scheme=scheme, host=host, port=port, query=found["query"] or "")


def is_listed(place: EndpointUrl, hosts: Collection[str]) -> bool:
    """Say whether *place* is on one of *hosts*, ``host`` (any port) or ``host:port``, in lower case."""
    return place.host in hosts or f"{place.host}:{place.port}" in hosts


def is_loopback(host: str) -> bool:
    """Say whether *host* is ``localhost`` or a loopback address."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


@lru_cache(maxsize=1_024)
def is_never_dialed(host: str) -> bool:
    """
    Say whether *host* is a literal address that must not be dialed, whoever wrote it.

    Link-local and cloud metadata addresses, also where an IPv6 address wraps an IPv4 one. For names it is
    False: the addresses that a name leads to are to be asked about one by one.
    """
    address = _address(host)
    if address is None:
        return False
    return any(wrapped in network for wrapped in _unwrapped(address) for network in _NEVER)


def _unwrapped(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]:
    """Give *address* and the IPv4 addresses it stands for: mapped, 6to4, NAT64, IPv4-compatible."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    tail = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    inner = (address.ipv4_mapped, address.sixtofour, tail if address in _NAT64 or int(address) < 2**32 else None)
    return (address, *(found for found in inner if found is not None))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _is_host(host: str) -> bool:
    """Refuse what only looks like a name: a resolver would read ``2852039166`` or ``0xa9fea9fe`` as an address."""
    if host.startswith("["):
        return isinstance(_address(host), ipaddress.IPv6Address)
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return isinstance(_address(host), ipaddress.IPv4Address)
    return all(labels)
