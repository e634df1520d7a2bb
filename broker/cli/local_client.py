"""
A blocking client of the local API, with nothing but the standard library.

It is what ``token``, ``demo`` and the like use, and a model for clients in other languages: one connection,
one request, one answer. It must not import anything of the server.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from broker.cli.tables import plain
from broker.errors import LocalError, Outcome, RemoteError

MAX_ANSWER = 1 << 26
"""Bytes: far above any answer of the local API; the states of 10,000 tokens are some megabytes."""

TIMEOUT_MARGIN = 5.0
"""Seconds beyond the wait that the request itself asks the daemon for; for all of an answer, however it comes."""

CODE = re.compile(r"[a-z_]{1,64}")
"""What every error code of the local API looks like; anything else was not made by a broker."""

MALFORMED = (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError)
"""What comes of reading an answer that is not a broker's: 1e999 for seconds, say, or lists without end."""

DEFAULT_WAIT = 10.0
"""Seconds that the daemon waits for a first token if it is not told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A daemon at a loopback address (*host* without brackets), and the file with what it wants to be shown."""

    host: str
    port: int
    secret_file: Path

    def __str__(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


Daemon = Path | Address
"""Where a daemon is: the path of its socket, or an address."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP/1.1 over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise


class _Stream(socket.socket):
    """
    The socket *connected*, taken over, with which all is over at *until* (``time.monotonic``): TimeoutError.

    The time-out of a socket begins anew with each call, so that a byte now and then would keep us for ever.
    """

    def __init__(self, connected: socket.socket, until: float) -> None:
        super().__init__(connected.family, connected.type, connected.proto, fileno=connected.detach())
        self._until = until

    def _hurry(self) -> None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left)

    def recv_into(self, *arguments: Any) -> int:
        """Read what is there, as ever."""
        self._hurry()
        return super().recv_into(*arguments)

    def sendall(self, *arguments: Any) -> None:
        """Send all of it, as ever."""
        self._hurry()
        super().sendall(*arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A served token: *access_token* is not printed with the rest."""

    access_token: str = field(repr=False)
    token_type: str
    expires_in: int
    stale: bool
    thumbprint: str | None


def get_token(daemon: Daemon, name: str, *, min_valid: int | None = None, wait: int | None = None) -> Token:
    """
    Fetch the token *name* from the daemon at *daemon*.

    Raises LocalError when the daemon cannot be reached, RemoteError with its error code when it says no.
    """
    return _fetched(daemon, f"/v1/tokens/{quote(name, safe='')}", min_valid, wait)


def _fetched(daemon: Daemon, path: str, min_valid: int | None, wait: int | None) -> Token:
    query = urlencode({k: v for k, v in (("min_valid", min_valid), ("wait", wait)) if v is not None})
    target = path + (f"?{query}" if query else "")
    timeout = (DEFAULT_WAIT if wait is None else float(wait)) + TIMEOUT_MARGIN
    return _token(daemon, request_json(daemon, target, timeout=timeout))


def get_grant_token(daemon: Daemon, grant: str, *, min_valid: int | None = None, wait: int | None = None) -> Token:
    """Fetch the token of one *grant*, by its id; arguments and errors as ``get_token``."""
    return _fetched(daemon, f"/v1/grants/{quote(grant, safe='')}/token", min_valid, wait)


def refresh_token(daemon: Daemon, name: str) -> Token:
    """
    Have the token *name* replaced, as far as the daemon at *daemon* does so now, and fetch what it has then.

    Raises as ``get_token``.
    """
    target = f"/v1/tokens/{quote(name, safe='')}/refresh"
    return _token(daemon, request_json(daemon, target, method="POST", timeout=DEFAULT_WAIT + TIMEOUT_MARGIN))


def _token(daemon: Daemon, body: dict[str, Any]) -> Token:
    confirmation = body.get("cnf")
    try:
        return Token(
            access_token=str(body["access_token"]),
            token_type=str(body["token_type"]),
            expires_in=int(body["expires_in"]),
            stale=bool(body["stale"]),
            thumbprint=confirmation.get("x5t#S256") if isinstance(confirmation, dict) else None,
        )
    except MALFORMED:
        raise _not_a_broker(daemon) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenState:
    """
    The state of a token, without the token; times in whole seconds from now, None where there is none.

    *grants* counts them where each person has one.
    """

    name: str
    state: str
    required: bool | None
    expires_in: int | None
    retry_in: int | None
    reason: str | None
    hint: str | None
    grants: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """
    What the daemon says of itself: *tokens* are those that the caller may see, *ready* is about all.

    *restart* names the sections of its configuration whose changes wait for a restart, *reload_refused* says that
    the last reload was refused; both are told only to root and to the user of the daemon.
    """

    ready: bool
    tokens: tuple[TokenState, ...]
    sandboxes: tuple[str, ...]
    restart: tuple[str, ...] = ()
    reload_refused: bool = False


def get_status(daemon: Daemon) -> Status:
    """
    Ask the daemon at *daemon* for its readiness and for the states of the tokens.

    Raises LocalError when the daemon cannot be reached, RemoteError when it says no.
    """
    listed = request_json(daemon, "/v1/tokens", timeout=TIMEOUT_MARGIN)
    status, raw = _ask(daemon, "GET", "/readyz", TIMEOUT_MARGIN)
    try:
        readiness = json.loads(raw)
        known = readiness["tokens"]
        return Status(
            ready=status == http.client.OK and readiness["status"] == "ready",
            tokens=tuple(_token_state(entry, known.get(entry["name"], {})) for entry in listed["tokens"]),
            sandboxes=tuple(str(name) for name in readiness.get("sandbox", ())),
            restart=tuple(str(name) for name in readiness.get("restart", ())),
            reload_refused=readiness.get("reload_refused") is True,
        )
    except MALFORMED:
        raise _not_a_broker(daemon) from None


def _token_state(listed: dict[str, Any], readiness: dict[str, Any]) -> TokenState:
    def number(name: str) -> int | None:
        return int(listed[name]) if name in listed else None

    def text(name: str) -> str | None:
        return str(listed[name]) if name in listed else None

    return TokenState(
        name=str(listed["name"]),
        state=str(listed["state"]),
        required=bool(readiness["required"]) if "required" in readiness else None,
        expires_in=number("expires_in"),
        retry_in=number("retry_in"),
        reason=text("reason"),
        hint=text("hint"),
        grants=number("grants"),
    )


def request_json(
    daemon: Daemon, target: str, *, timeout: float, method: str = "GET", body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """
    Ask for *target*, with *body* as JSON; an answer without content is an empty object.

    Raises LocalError when the daemon cannot be reached, DaemonError for an error answer.
    """
    status, raw = _ask(daemon, method, target, timeout, body)
    if status == http.client.NO_CONTENT:
        return {}
    answer = _object(daemon, raw)
    if status not in {http.client.OK, http.client.CREATED}:
        raise DaemonError(answer, status)
    return answer


class DaemonError(RemoteError):
    """
    The daemon says no, in its own words, as far as those are text that cannot steer a terminal.

    Whoever listens at the socket need not be a broker.
    *check* names what an answer of the authorization server failed, where it did (local API, "Errors"), *reason* why
    a token is not there, where readiness was asked for.
    """

    def __init__(self, answer: Mapping[str, Any], status: int) -> None:
        code = _said(answer, "error")
        super().__init__(
            code if code is not None and CODE.fullmatch(code) else "server_error",
            _said(answer, "error_description") or "the daemon gave no reason",
            outcome=Outcome.REFUSED,
            status=status,
            hint=_said(answer, "hint"),
            server_error=_said(answer, "server_error"),
        )
        self.check = _said(answer, "check")
        self.reason = _said(answer, "reason")


def _said(answer: Mapping[str, Any], name: str) -> str | None:
    value = answer.get(name)
    return plain(value) if isinstance(value, str) else None


def _object(daemon: Daemon, raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except MALFORMED as error:
        raise _not_a_broker(daemon) from error
    if not isinstance(body, dict):
        raise _not_a_broker(daemon)
    return body


def _ask(
    daemon: Daemon, method: str, target: str, timeout: float, body: Mapping[str, Any] | None = None
) -> tuple[int, bytes]:
    content = {} if body is None else {"Content-Type": "application/json"}
    secret = {} if isinstance(daemon, Path) else {"Authorization": f"Bearer {_secret(daemon)}"}
    until = time.monotonic() + timeout
    connection = _connection(daemon, timeout)
    try:
        connection.connect()
        connection.sock = _Stream(connection.sock, until)
        connection.request(
            method,
            target,
            body=None if body is None else json.dumps(body).encode(),
            headers={"Accept": "application/json", **content, **secret},
        )
        answer = connection.getresponse()
        return answer.status, answer.read(MAX_ANSWER)
    except FileNotFoundError as error:
        raise LocalError(
            "daemon_unreachable",
            f"there is no socket at {daemon}",
            hint="start the daemon: token-broker run --config FILE; "
            "or name its socket with --socket or TOKEN_BROKER_SOCKET",
        ) from error
    except ConnectionRefusedError as error:
        raise LocalError(
            "daemon_unreachable", _nobody_at(daemon), hint="start it: token-broker run --config FILE"
        ) from error
    except PermissionError as error:
        raise LocalError(
            "daemon_unreachable",
            f"not allowed to open {daemon}",
            hint="the listener's mode and group decide who may"
            + (f", and those of the directory {daemon.parent}" if isinstance(daemon, Path) else ""),
        ) from error
    except TimeoutError as error:
        raise LocalError("daemon_silent", f"no answer from {daemon} in time") from error
    except (OSError, http.client.HTTPException) as error:
        raise LocalError("daemon_unreachable", f"the connection to {daemon} failed") from error
    finally:
        connection.close()


def _nobody_at(daemon: Daemon) -> str:
    """Say why a connection was refused: the kernel says the same of a file that is no socket (unix(7))."""
    is_socket = not isinstance(daemon, Path) or daemon.is_socket()
    return f"nobody listens at {daemon}" if is_socket else f"{daemon} is no socket"


def _connection(daemon: Daemon, timeout: float) -> http.client.HTTPConnection:
    if isinstance(daemon, Path):
        return UnixConnection(daemon, timeout)
    return http.client.HTTPConnection(daemon.host, daemon.port, timeout=timeout)


def _secret(daemon: Address) -> str:
    """Read the secret anew for each request: it is another one after each start of the daemon."""
    try:
        secret = daemon.secret_file.read_text("ascii").strip()
    except (OSError, UnicodeError):
        secret = ""
    if not secret or not secret.isprintable():
        hint = "TOKEN_BROKER_SECRET_FILE names the secret_file of the listener; is the daemon running, may you read it?"
        raise LocalError("secret_unreadable", f"there is no secret to be read in {daemon.secret_file}", hint=hint)
    return secret


def _not_a_broker(daemon: Daemon) -> LocalError:
    return LocalError("not_a_broker", f"what answers at {daemon} is not a token broker")
