#!/usr/bin/env python3
"""
Ask Token Broker for access tokens: a client on Python's standard library, to be copied into a program.

    token = get_token("directory")                          # ask for each use: the broker keeps it fresh
    headers = {"Authorization": f"{token['token_type']} {token['access_token']}"}
    token = get_token("directory", rejected=token["etag"])  # once, when the API answered 401

As a program it prints what kind of token there is, and with --print the token.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import sys
import time
from typing import Any

ANSWER_SECONDS = 15  # for each step of an answer; the broker waits for its server for 10
LARGEST_ANSWER = 262_144  # bytes; the broker itself reads no larger ones
LONGEST_WAIT = 10  # seconds; who is told to come back later than that fails at once


class BrokerError(Exception):
    """No token. *code* is the `error` of the broker; "consent_required" is for a person, and never retried."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}{text}")
        self.code = code


class BrokerConnection(http.client.HTTPConnection):
    """HTTP over the socket of the broker."""

    def connect(self) -> None:
        """Open the socket. Raises BrokerError."""
        scheme, _, path = os.environ.get("TOKEN_BROKER_SOCKET", "unix:///run/token-broker/api.sock").partition("://")
        if scheme != "unix" or not path.startswith("/"):
            raise BrokerError("bad_socket", ": TOKEN_BROKER_SOCKET has to be unix:///PATH")
        for left in range(9, -1, -1):  # a broker that restarts is back within a second or so
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            try:
                self.sock.connect(path)
            except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
                self.sock.close()
                if not left:
                    raise BrokerError("unreachable", f": nobody answers at {path}") from None
                time.sleep(0.1)
            else:
                return


def _ask(name: str, rejected: str | None) -> tuple[int, Any, Any]:
    connection = BrokerConnection("localhost", timeout=ANSWER_SECONDS)
    try:
        if rejected is None:
            connection.request("GET", f"/v1/tokens/{name}")
        else:
            body, media_type = json.dumps({"rejected": rejected}), {"Content-Type": "application/json"}
            connection.request("POST", f"/v1/tokens/{name}/refresh", body, media_type)
        answer = connection.getresponse()
        if answer.length is None or answer.length > LARGEST_ANSWER:
            raise BrokerError("answer_too_large", "")
        return answer.status, answer.headers, json.loads(answer.read())
    finally:
        connection.close()


def get_token(name: str, rejected: str | None = None) -> dict[str, Any]:
    """Give the broker's answer, with its ETag as "etag". Raises BrokerError."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", name):
        raise BrokerError("bad_name", ': names have a-z, 0-9, ".", "_" and "-"')
    broken = waited = 0
    while True:
        try:
            status, headers, body = _ask(name, rejected)
        except (ConnectionError, http.client.HTTPException) as error:
            broken += 1  # it went away before it had answered: once more, and not for ever
            if broken == 2:
                raise BrokerError("unreachable", ": the connection broke twice before an answer") from error
            continue
        except (OSError, ValueError) as error:
            raise BrokerError("unreachable", f": {type(error).__name__}") from error
        if status == 200:
            return {**body, "etag": headers["ETag"]}
        seconds = headers.get("Retry-After", "1")
        wait = int(seconds) if re.fullmatch("[0-9]{1,9}", seconds) else 1
        if status in {429, 503} and waited < 2 and wait <= LONGEST_WAIT:
            waited += 1  # not now: as long as it says
            time.sleep(wait)
            continue
        raise BrokerError(body["error"], f" ({status}): {body.get('hint') or body.get('error_description')}")


def main() -> None:
    """token_broker.py [--print] NAME [ETAG of a rejected token]."""
    words = [word for word in sys.argv[1:] if word != "--print"]
    try:
        token = get_token(*words[:2])
    except BrokerError as error:
        raise SystemExit(f"token broker: {error}") from None
    print(f"token_type={token['token_type']} expires_in={token['expires_in']}")
    if "--print" in sys.argv:
        print(token["access_token"])


if __name__ == "__main__":
    main()
