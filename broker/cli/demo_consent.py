"""
The part of the demonstration that a person has: a token that needs a consent, scripted or in their browser.

As in ``demo``, every figure was measured or asked for, and no token, code or link of the script is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from broker.cli import local_consents as consents
from broker.cli.exits import DONE
from broker.cli.local_client import DaemonError, Token, get_token
from broker.errors import LocalError

if TYPE_CHECKING:
    from broker.cli.children import Child, Stopping
    from broker.sandbox.control_client import ControlClient

TOKEN = "person"  # noqa: S105 - a name from the sandbox's configuration, not a token

REDIRECT_URI = "http://127.0.0.1:1/callback"
"""Where a browser would come back to: with a script nobody has to listen there."""

PERSON = "alice"

WARNING = """
A second token, "person", needs a consent of yours. Log in as alice or bob, without a password. Your browser
warns of the sandbox's certificate, since nobody vouches for it: go on."""

Call = Callable[[Token], tuple[int, str | None]]
"""Calls the API with a token; gives the status and the person that the API sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where it happens: *daemon* is the broker's socket, *directory* the sandbox's, *call* calls its API."""

    daemon: Path
    control: ControlClient
    directory: Path
    call: Call


def show_consent(scene: Scene, number: int) -> None:
    """Have a script consent, use the token, and take the consent back; *number* is that of the first step."""
    from broker.sandbox.person import decide  # noqa: PLC0415 - only when chosen

    print(f"{number}. A token of a person: {_refusal(scene)}")
    begun = consents.begin(scene.daemon, consents.Wish(token=TOKEN, redirect_uri=REDIRECT_URI))
    names = [name for name, _ in parse_qsl(urlsplit(begun.authorization_url).query)]
    _expect(len(scene.control.requests("par")) == 1, "the authorization request was not pushed")
    print(f"{number + 1}. The broker pushed an authorization request (PAR, PKCE, state, nonce), and gives a link")
    print(f"    for the browser with {' and '.join(names)} in it, and nothing else")
    callback = decide(begun.authorization_url, ca_file=scene.directory / "ca.pem", user=PERSON)
    consented = consents.finish(scene.daemon, begun, callback_url=callback.url)
    _expect(len(scene.control.requests("userinfo")) == 1, "nobody looked the person up")
    _expect(consented.subject == PERSON and consented.subject_verified, "the consent is somebody else's")
    print(f"{number + 2}. {PERSON} logs in and allows it (this script does). The broker redeems the code, and checks")
    print(f"    the ID token and the userinfo before it counts: a grant of {consented.subject} for {consented.scope}")
    token = get_token(scene.daemon, TOKEN)
    _show_use(scene, token, f"{number + 3}. ")
    revoked = consents.revoke(scene.daemon, consented.grant)
    status, _ = scene.call(token)
    _expect(revoked is True, "the grant was not revoked")
    _expect(status == 401, f"the API answered {status} to a token of a revoked grant")
    print(f"{number + 4}. The grant is given up: the broker has it revoked at the server, and the API says {status}")


def start_login(scene: Scene, stack: ExitStack, stopping: Stopping) -> Login:
    """Begin a login in the person's browser, whose link ``Login.news`` tells. Raises LocalError."""
    from broker.cli.children import start  # noqa: PLC0415 - only when chosen

    print(WARNING)
    command = [
        sys.executable,
        "-P",
        "-u",
        "-m",
        "broker",
        "login",
        TOKEN,
        "--no-browser",
        "--socket",
        str(scene.daemon),
    ]
    log = scene.directory.parent / "login.log"
    return Login(scene, start("login", command, log=log, stack=stack, stopping=stopping))


class Login:
    """A login that somebody may finish, or not: the demonstration goes on meanwhile."""

    def __init__(self, scene: Scene, child: Child) -> None:
        """Watch *child*."""
        self._scene = scene
        self._child = child
        self._told = 0
        self._over = False

    def news(self) -> list[str]:
        """Give the lines that it said since the last time."""
        with self._child.log.open("rb") as log:
            log.seek(self._told)
            said = log.read()
        whole = said[: said.rfind(b"\n") + 1]
        self._told += len(whole)
        return whole.decode(errors="replace").splitlines()

    def show_end(self) -> None:
        """If the person has consented by now, use the token, once. Raises BrokerError where that fails."""
        if self._over or self._child.process.poll() is None:
            return
        self._over = True
        if self._child.process.returncode == DONE:
            _show_use(self._scene, get_token(self._scene.daemon, TOKEN), "  ")


def _refusal(scene: Scene) -> str:
    """Ask for the token before anybody consented, and give what the broker says. Raises LocalError."""
    try:
        get_token(scene.daemon, TOKEN)
    except DaemonError as error:
        _expect(error.code == "consent_required", "the broker did not say that a consent is required")
        return f"the broker says {error.code}, and serves none"
    raise LocalError("demo_failed", "a token of a person was served before anybody consented")


def _show_use(scene: Scene, token: Token, label: str) -> None:
    status, person = scene.call(token)
    _expect(status == 200 and person is not None, f"the API answered {status} to the person's token")
    print(
        f"{label}The API says {status} to the token, as {person}'s. The refresh token is sealed in the broker's store,"
    )
    print("    and is replaced with each use", flush=True)


def _expect(met: bool, otherwise: str) -> None:
    if not met:
        raise LocalError("demo_failed", otherwise)
