"""
The types of single values in the file: a base type of TOML and one rule each.

A rule looks at one value, and raises ``Refused`` with a message that does not repeat it. Whatever needs a
second value (another key, another section, the host) is not decided here. Pure functions; ``structure``
applies them.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from broker.config.names import NAME_RULE, is_name, suggestion
from broker.oauth.dpop import is_canonical
from broker.oauth.endpoint_urls import NotAnEndpointUrlError, is_loopback, is_never_dialed, parse_url
from broker.policy.upstreams import NEVER_PASSED, NotARuleError, read_rule


class Refused(ValueError):  # noqa: N818 (raised and caught inside this package only; read as a sentence)
    """A value that is not what it has to be. *message* goes on after the place: "must be ..."."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for values, for use in ``Annotated``; *example* is shown when even the base type is wrong."""

    check: Callable[[Any], None]
    example: str | None = None


@dataclass(frozen=True, slots=True)
class RefersTo:
    """Marks the name of another section, *kind*: checked for all sections together, in ``references``."""

    kind: str


def between(least: int, most: int) -> Rule:
    """Make a rule for integers from *least* to *most*."""

    def check(value: int) -> None:
        if not least <= value <= most:
            raise Refused(f"must be from {least} to {most}")

    return Rule(check)


_HOST = re.compile(
    r"(?=[^:]{1,253}(?::|$))[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)
_HOST_PREFIX = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,30}[a-z0-9])?[.-]")
_MEMBER_PATH = re.compile(r"[A-Za-z0-9_-]{1,64}(?:\.[A-Za-z0-9_-]{1,64}){0,7}")
_IPV6_LITERAL = re.compile(r"\[([0-9a-f:.]{2,45})\]")
_PORT = re.compile(r"[0-9]{1,5}")
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 section 3.3
_VISIBLE = re.compile(r"[\x20-\x7e]+")  # VSCHAR of RFC 6749 appendix A
_PARAMETER_NAME = re.compile(r"[A-Za-z0-9._-]+")  # RFC 6749 section 8.2
_ABSOLUTE_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]+")
_MODE = re.compile(r"0?[0-7]{3}")
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@\\-]{0,254}\$?")  # what useradd, winbind and sssd make
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:@-]{0,254}")  # a file name; systemd.exec(5) allows a little more

_LOOPBACK_V4 = ipaddress.ip_network("127.0.0.0/8")
_LOOPBACK_V6 = ipaddress.ip_address("::1")
_LOOPBACK_EXAMPLE = 'for example "127.0.0.1:8181" or "[::1]:8181"'

_MAX_PORT = 65_535
_MOST_OF_A_FILE = 0o640
"""All that a file with a secret may permit: whoever could write it could give its other readers something else."""
_MAX_ID = 2**32 - 2
"""The highest user or group id: -1 means "no change" to the kernel."""


def _check_name(value: str) -> None:
    if not is_name(value):
        raise Refused("is not a name", NAME_RULE)


def _check_path(value: str) -> None:
    if not value or "\0" in value or not value.isprintable():
        raise Refused("must be a path, and not empty")
    if value.startswith(("~", "$")):
        raise Refused("begins with '~' or '$', which nobody expands here", "write the whole path")


def _check_scope_token(value: str) -> None:
    if " " in value:
        raise Refused("holds a space", 'one entry for each scope: ["read", "write"]')
    if not _SCOPE_TOKEN.fullmatch(value):
        raise Refused("is not a scope: visible ASCII without quotation mark and backslash (RFC 6749 section 3.3)")


def _check_resource(value: str) -> None:
    if "#" in value:
        raise Refused("has a fragment, which a resource indicator may not have (RFC 8707 section 2)")
    if not _ABSOLUTE_URI.fullmatch(value):
        raise Refused("must be an absolute URI (RFC 8707 section 2)", 'for example "https://api.example.com/"')
    if value.lower().startswith(("https:", "http:")) and not _authority(value):
        raise Refused("must be an absolute URI with a host", 'for example "https://api.example.com/"')


def _check_base_url(value: str) -> None:
    if not value.startswith("https://"):
        raise Refused("must be https")
    if not (is_canonical(value) or is_canonical(f"{value}/")):
        raise Refused(
            "must be a plain URL: host in lower case, no default port, no query, nothing encoded that leads elsewhere"
        )
    if is_never_dialed(parse_url(value).host):
        raise Refused("is a link-local or cloud metadata address, which is never dialed")


def _authority(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _check_visible(value: str) -> None:
    if not _VISIBLE.fullmatch(value):
        raise Refused("must be printable ASCII, and not empty")


def _check_key_id(value: str) -> None:
    if value:
        _check_visible(value)


def _check_form_value(value: str) -> None:
    if "\0" in value:
        raise Refused("holds a NUL character")


def _check_parameter_name(value: str) -> None:
    if not _PARAMETER_NAME.fullmatch(value):
        raise Refused("is not a parameter name: letters, digits, '.', '_' and '-' (RFC 6749 section 8.2)")


def _check_endpoint_host(value: str) -> None:
    if "/" in value:
        raise Refused("must be a host, without scheme and path", 'for example "mtls.example.com" or "example.com:8443"')
    if value != value.lower():
        raise Refused("must be in lower case", "hosts are compared exactly, and URLs are folded before")
    host, port = _split_port(value)
    literal = _IPV6_LITERAL.fullmatch(host)
    well_formed = _is_ipv6(literal[1]) if literal else _HOST.fullmatch(host) is not None
    if not well_formed or (port is not None and not 1 <= port <= _MAX_PORT):
        raise Refused("must be a host or host:port", 'for example "mtls.example.com" or "example.com:8443"')
    if is_never_dialed(host):
        raise Refused("is a link-local or cloud metadata address, which is never dialed")


def _check_host_prefix(value: str) -> None:
    if not _HOST_PREFIX.fullmatch(value):
        raise Refused("must be the beginning of a host: lower case, with a hyphen or dot at its end", '"matls-"')


def _check_member_path(value: str) -> None:
    if not _MEMBER_PATH.fullmatch(value):
        raise Refused("must be names of members with dots between them", 'for example "sub" or "data.id"')


def _split_port(value: str) -> tuple[str, int | None]:
    """Split off a port of digits; -1 stands for one that is none."""
    host, colon, port = value.rpartition(":")
    if not colon or value.endswith("]"):
        return value, None
    return host, int(port) if _PORT.fullmatch(port) else -1


def _is_ipv6(text: str) -> bool:
    return ":" in text and _is_address(text)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def split_listen(value: str) -> tuple[str, int]:
    """Split ``address:port`` (IPv6 in brackets) into address and port. Raises Refused."""
    host, port = _split_port(value)
    literal = _IPV6_LITERAL.fullmatch(host)
    address = literal[1] if literal else host
    if port is None or not _is_address(address) or (":" in address) != (literal is not None):
        raise Refused("must be an IP address and a port", 'for example "127.0.0.1:9464" or "[::1]:9464"')
    if not 0 <= port <= _MAX_PORT:
        raise Refused(f"has a port that is not from 0 to {_MAX_PORT}")
    return address, port


def _check_listen(value: str) -> None:
    split_listen(value)


def split_loopback(value: str) -> tuple[str, int]:
    """Split the address of a TCP listener; it comes in its shortest form, as clients write it. Raises Refused."""
    try:
        host, port = split_listen(value)
    except Refused as error:
        raise Refused(error.message, _LOOPBACK_EXAMPLE) from None
    address = ipaddress.ip_address(host)
    if address != _LOOPBACK_V6 and address not in _LOOPBACK_V4:
        message = "is not a loopback address: tokens would cross a network in the clear"
        raise Refused(message, f"{_LOOPBACK_EXAMPLE}; for callers on other machines there is nothing here")
    if port == 0:
        raise Refused("has port 0, and callers could not know which one that comes to", "choose one")
    return str(address), port


def _check_loopback(value: str) -> None:
    split_loopback(value)


def _check_proxy(value: str) -> None:
    hint = 'for example "http://proxy.example.com:3128"'
    if "@" in value:
        # The value holds a password, most likely: nothing of it is repeated.
        raise Refused("holds a user or a password", 'move them to a file: proxy_credentials = { file = "..." }')
    if value.lower().startswith("https:"):
        https = 'write "http://": only CONNECT is said to it in the clear, all that follows is TLS with the server'
        raise Refused("is an https proxy, which is not supported", https)
    try:
        target = parse_url(value)
    except NotAnEndpointUrlError:
        raise Refused("must be the URL of an http proxy", hint) from None
    if target.query or urlsplit(value).path not in {"", "/"}:
        raise Refused("must be host and port alone, without a path", hint)
    if is_never_dialed(target.host):
        raise Refused("is at a link-local or cloud metadata address, which is never dialed")


def split_base_url(value: str) -> str:
    """Give a base URL without a slash at its end, so that paths can be put behind it."""
    return value.rstrip("/")


def _check_allow(value: str) -> None:
    try:
        read_rule(value)
    except NotARuleError:
        hint = 'for example "GET /accounts", "GET /accounts/*" or "POST /payments/**"'
        if value.partition(" ")[0] in NEVER_PASSED:
            raise Refused("has a method that is never passed on", hint) from None
        raise Refused("must be a method and a path", hint) from None


def _check_redirect_uri(value: str) -> None:
    hint = 'for example "https://app.example.com/callback", or "http://127.0.0.1/callback" for token-broker login'
    try:
        uri = parse_url(value)
    except NotAnEndpointUrlError:
        raise Refused("must be an absolute https URI, or http on a loopback address, without fragment", hint) from None
    if uri.scheme == "https":
        return
    if uri.host == "localhost":
        message = "has the name localhost, which need not be this machine (RFC 8252 section 8.3)"
        raise Refused(message, "write 127.0.0.1, and have it registered so")
    if not is_loopback(uri.host):
        raise Refused("is http, and not on a loopback address: the code would cross a network in the clear", hint)


def redirect_place(uri: str) -> str:
    """Give what two redirect URIs have in common that lead to the same place: on a loopback address any port does."""
    parsed = parse_url(uri)
    return urlsplit(uri)._replace(netloc=parsed.host).geturl() if parsed.scheme == "http" else uri


def _check_request_object_typ(value: str) -> None:
    words = ("oauth-authz-req+jwt", "JWT", "")
    if value not in words:
        raise Refused('is none of "oauth-authz-req+jwt", "JWT" and ""', 'it is "oauth-authz-req+jwt" in the standard')


def _check_json(value: Any) -> None:
    """Refuse what TOML can say and JSON cannot."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, float) and not math.isfinite(one):
            raise Refused("holds a number that JSON does not have")
        elif not isinstance(one, str | int | float | bool):
            raise Refused("holds a date or time, which JSON does not have", "write it in quotation marks")


def _check_file_mode(value: str) -> None:
    if not _MODE.fullmatch(value):
        raise Refused("must be three octal digits of permissions", 'for example "0640"')
    mode = int(value, 8)
    if mode & 0o007:
        raise Refused("lets everybody on this machine have it", 'write "0640", and a group that its readers are in')
    if mode & ~_MOST_OF_A_FILE or not mode & 0o400:
        raise Refused("must let the owner read, may let the owner write and the group read, and no more", '"0640"')


def _check_mode(value: str) -> None:
    if not _MODE.fullmatch(value):
        raise Refused("must be three octal digits of permissions", 'for example "0660"')
    mode = int(value, 8)
    if mode & 0o111:
        raise Refused("has bits for execution, which mean nothing on a socket", 'for example "0660"')
    if mode & 0o600 != 0o600:
        raise Refused("must let the daemon itself read and write", 'for example "0660"')


def _check_account(value: int | str) -> None:
    if isinstance(value, int):
        if not 0 <= value <= _MAX_ID:
            raise Refused(f"must be from 0 to {_MAX_ID}")
    elif value.isdigit():
        raise Refused("is a number in quotation marks", "write a number as it is, or a name")
    elif not _ACCOUNT.fullmatch(value):
        raise Refused("is not the name of a user or group")


def _check_credential(value: str) -> None:
    if not _CREDENTIAL.fullmatch(value) or ".." in value:
        raise Refused("is not the name of a credential", "the name before ':' in LoadCredential=, without a directory")


def _check_audience_word(value: str) -> None:
    if value not in {"issuer", "target"}:
        raise Refused(
            'must be "issuer" or "target"',
            suggestion(value, ("issuer", "target"))
            if is_name(value)
            else "a fixed audience would let one server use an assertion at another",
        )


Name = Annotated[str, Rule(_check_name)]
PathText = Annotated[str, Rule(_check_path, example='"/etc/token-broker/file.pem"')]
ScopeToken = Annotated[str, Rule(_check_scope_token)]
ResourceUri = Annotated[str, Rule(_check_resource)]
BaseUrl = Annotated[str, Rule(_check_base_url, example='"https://api.example.com/v1"')]
Visible = Annotated[str, Rule(_check_visible)]
KeyId = Annotated[str, Rule(_check_key_id)]
Argument = Annotated[str, Rule(_check_form_value)]
FormValue = Annotated[str, Rule(_check_form_value)]
ParameterName = Annotated[str, Rule(_check_parameter_name)]
EndpointHost = Annotated[str, Rule(_check_endpoint_host)]
HostPrefix = Annotated[str, Rule(_check_host_prefix, example='"matls-"')]
MemberPath = Annotated[str, Rule(_check_member_path, example='"data.id"')]
HostHeader = Annotated[str, Rule(_check_endpoint_host)]
Listen = Annotated[str, Rule(_check_listen, example='"127.0.0.1:9464"')]
ProxyUrl = Annotated[str, Rule(_check_proxy, example='"http://proxy.example.com:3128"')]
AllowText = Annotated[str, Rule(_check_allow, example='["GET /accounts", "GET /accounts/*"]')]
LoopbackAddress = Annotated[str, Rule(_check_loopback, example='"127.0.0.1:8181"')]
FileMode = Annotated[str, Rule(_check_file_mode, example='"0640"')]
Mode = Annotated[str, Rule(_check_mode, example='"0660"')]
Account = Annotated[int | str, Rule(_check_account)]
CredentialName = Annotated[str, Rule(_check_credential)]
AudienceWord = Annotated[str, Rule(_check_audience_word, example='"issuer"')]
RedirectUri = Annotated[str, Rule(_check_redirect_uri, example='"https://app.example.com/callback"')]
RequestObjectTyp = Annotated[str, Rule(_check_request_object_typ)]
JsonTable = Annotated[Mapping[str, Any], Rule(_check_json)]
