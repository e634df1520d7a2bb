"""
``token-broker demo``: a sandbox and a broker as two processes, and what happens between them, step by step.

What a person has to do with it is in ``demo_consent``.

Every figure it prints was measured or asked for: from the broker's socket, from the sandbox's record of
what it saw, from the API. It never prints a token, only its length and a fingerprint.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import shlex
import shutil
import ssl
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from broker.cli.demo_consent import Scene, show_consent, start_login
from broker.cli.exits import DONE, FAILED, INTERRUPTED, say
from broker.cli.local_client import Token, get_token, request_json
from broker.cli.sandbox import require_sandbox
from broker.errors import BrokerError, LocalError

if TYPE_CHECKING:
    from broker.cli.children import Child, Stopping
    from broker.sandbox.control_client import ControlClient

START_DEADLINE = 30.0
"""Seconds for a process to be ready: it takes well under one, unless the machine is very busy."""

CALL_DEADLINE = 10.0
"""Seconds for one request to a server on the same machine."""

FIRST_TOKEN_WAIT = 20
"""Seconds that the broker may take for the first token: room for one failed attempt and its backoff."""

WATCH = 1.0
"""Seconds between two looks at what the sandbox saw."""

TOKEN = "demo"  # noqa: S105 - a name from the sandbox's configuration, not a token

EPILOG = """\
It needs no configuration, no network and no rights: everything is made in a temporary directory, listens
on 127.0.0.1 and is removed at the end. Ctrl-C ends it.

examples:
  token-broker demo                  stays up, with curl lines to try
  token-broker demo --once           one pass; exit 0, or 1 with the reason
"""

TRY = """
Try it, in another terminal:

  cd {directory}
  curl --unix-socket api.sock http://localhost/v1/tokens/{token}

  token() {{ curl -s --unix-socket api.sock -H 'Accept: text/plain' http://localhost/v1/tokens/{token}; }}
  curl --cacert ca.pem --cert client.pem --key client.key -H "Authorization: Bearer $(token)" {hello}
  curl --cacert ca.pem --cert other.pem --key other.key -H "Authorization: Bearer $(token)" {hello}

Let the authorization server fail three times, and see that the socket goes on answering:

  curl -H "Authorization: Bearer $(cat control-token)" {control}/sandbox/faults \\
       -d '{{"where": "token", "kind": "status", "status": 503, "times": 3}}'

The broker's log is {log}, its audit log is audit.log. Grants are listed by

  token-broker grants --socket {directory}/api.sock"""

MEANWHILE = """
Ctrl-C ends it. Meanwhile, the link, and what the authorization server sees:
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo",
        help="see it work, with a server of its own",
        description="Start an authorization server and a broker, get a token, use it, and say what happened.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--once", action="store_true", help="end after one pass instead of staying up")
    parser.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help="where to put the files, and to leave them (default: a temporary directory)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show the demonstration; 130 if it was interrupted before its end."""
    require_sandbox()
    from broker.cli.children import StoppedError, stoppable  # noqa: PLC0415 - only when chosen
    from broker.hostenv.hardening import require_linux  # noqa: PLC0415 - only when chosen
    from broker.sandbox.control_client import CommandFailedError  # noqa: PLC0415 - only when chosen
    from broker.sandbox.person import NoAnswerError  # noqa: PLC0415 - only when chosen

    shown = False
    with stoppable() as stopping, ExitStack() as stack:
        try:
            require_linux()
            demonstration = _start(_directory(arguments.directory, stack), stack, stopping)
            _show(demonstration)
            if arguments.once:
                show_consent(demonstration.scene(), 10)
            shown = True
            if not arguments.once:
                _stay_up(demonstration, stack, stopping)
        except StoppedError:
            return DONE if shown and not arguments.once else INTERRUPTED
        except BrokerError as error:
            _tell_failure(error)
            return FAILED
        except (CommandFailedError, NoAnswerError) as error:
            say(f"the demo failed: {error}")
            return FAILED
        finally:
            stopping.hold()  # a second Ctrl-C must not keep us from ending the children
    return DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Demonstration:
    """Both processes, up and answering; *directory* is the sandbox's."""

    directory: Path
    sandbox: Child
    broker: Child
    control: ControlClient

    @property
    def socket(self) -> Path:
        return Path(self.control.addresses["socket"])

    def scene(self) -> Scene:
        """Give what the person's part needs."""

        def call(token: Token) -> tuple[int, str | None]:
            status, said = _call(str(self.control.addresses["hello"]), token, self.directory, "client")
            return status, said.get("subject")

        return Scene(daemon=self.socket, control=self.control, directory=self.directory, call=call)


def _directory(given: Path | None, stack: ExitStack) -> Path:
    try:
        if given is None:
            directory = Path(tempfile.mkdtemp(prefix="token-broker-demo-"))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
        else:
            directory = given.absolute()
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LocalError("demo_failed", f"no directory to put the files in: {error.strerror}") from error
    return directory


def _start(directory: Path, stack: ExitStack, stopping: Stopping) -> _Demonstration:
    from broker.cli.children import start, wait_until  # noqa: PLC0415 - only when chosen
    from broker.sandbox.control_client import ControlClient  # noqa: PLC0415 - only when chosen

    files = directory / "sandbox"
    command = [sys.executable, "-P", "-m", "broker", "sandbox", "--directory", str(files)]
    sandbox = start("sandbox", command, log=directory / "sandbox.log", stack=stack, stopping=stopping)
    wait_until(lambda: _describes(files, sandbox), sandbox, deadline=START_DEADLINE)
    control = ControlClient.from_directory(files)
    command = [sys.executable, "-P", "-m", "broker", "run", "--config", str(files / "consents.toml")]
    broker = start("broker", command, log=directory / "broker.log", stack=stack, stopping=stopping)
    demonstration = _Demonstration(directory=files, sandbox=sandbox, broker=broker, control=control)
    wait_until(lambda: _is_live(demonstration.socket), broker, deadline=START_DEADLINE)
    return demonstration


def _describes(files: Path, sandbox: Child) -> bool:
    """Say whether *sandbox* has written its addresses: those of an earlier one may lie there."""
    try:
        written = json.loads((files / "sandbox.json").read_bytes())
    except FileNotFoundError:
        return False
    return bool(written["pid"] == sandbox.process.pid)


def _is_live(socket: Path) -> bool:
    try:
        request_json(socket, "/livez", timeout=CALL_DEADLINE)
    except LocalError:
        return False
    return True


def _show(demonstration: _Demonstration) -> None:
    """Get a token, use it rightly and wrongly, and say what happened. Raises BrokerError where it did not."""
    addresses, control = demonstration.control.addresses, demonstration.control
    print(f"1. An authorization server is up: {addresses['issuer']}")
    print("   It is a sandbox: its certificate authority and all keys were made just now.")
    print(f"2. A broker is up (pid {demonstration.broker.process.pid}), with the certificate and the signing key;")
    print(f"   workloads reach it at {demonstration.socket}")
    began = time.monotonic()
    token = get_token(demonstration.socket, TOKEN, wait=FIRST_TOKEN_WAIT)
    waited = time.monotonic() - began
    _show_exchange(control, token)
    digest = hashlib.sha256(token.access_token.encode()).hexdigest()[:12]
    print(f"6. This process asked the socket and had the token after {waited * 1000:.0f} ms:")
    print(f"   {len(token.access_token)} characters, sha256:{digest}, good for {token.expires_in} more seconds")
    again = get_token(demonstration.socket, TOKEN)
    same = "the same token" if again.access_token == token.access_token else "a newer token"
    print(f"7. It asked again: {same}; the authorization server has seen {control.count('token')} token request(s)")
    _show_api(demonstration, again)


def _show_exchange(control: ControlClient, token: Token) -> None:
    issued = [request for request in control.requests("token") if request["outcome"] == "issued"]
    if not issued:
        raise LocalError("demo_failed", "a token was served that the sandbox did not issue")
    request = issued[-1]
    print(f"3. The broker read the server's metadata ({control.count('metadata')} request) and found the mutual TLS")
    print(f"   alias of its token endpoint: {control.addresses['mtls']}/token")
    print(
        f"4. It asked there for a token, as client {request['client']}: private_key_jwt, signed with {request['alg']},"
    )
    print(f"   on a connection with the certificate x5t#S256={request['certificate']}")
    if token.thumbprint != request["certificate"]:
        raise LocalError("demo_failed", "the token is not bound to the certificate that it was asked for with")
    print("5. The token is bound to that certificate: without its private key, which the broker keeps, it is worthless")


def _show_api(demonstration: _Demonstration, token: Token) -> None:
    hello = str(demonstration.control.addresses["hello"])
    expected = {"client": (200, "the certificate that it is bound to"), "other": (401, "another certificate")}
    for number, (certificate, (status, words)) in enumerate(expected.items(), start=8):
        answered, said = _call(hello, token, demonstration.directory, certificate)
        error = said.get("error")
        print(f"{number}. The API says {answered} to the token with {words}{f': {error}' if error else ''}")
        if answered != status:
            raise LocalError("demo_failed", f"the API answered {answered} where {status} was expected")


def _call(url: str, token: Token, directory: Path, certificate: str) -> tuple[int, dict[str, Any]]:
    """Call the API with the client certificate *certificate*; give the status and what it says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(directory / "ca.pem")
    context.load_cert_chain(directory / f"{certificate}.pem", directory / f"{certificate}.key")
    target = urlsplit(url)
    connection = http.client.HTTPSConnection(target.netloc, context=context, timeout=CALL_DEADLINE)
    try:
        connection.request("GET", target.path, headers={"Authorization": f"{token.token_type} {token.access_token}"})
        answer = connection.getresponse()
        said: dict[str, Any] = json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise LocalError("demo_failed", f"the API did not answer ({type(error).__name__})") from error
    finally:
        connection.close()
    return answer.status, said


def _stay_up(demonstration: _Demonstration, stack: ExitStack, stopping: Stopping) -> None:
    """Print what the sandbox sees until a signal comes. Raises LocalError if a process ends by itself."""
    addresses = demonstration.control.addresses
    print(
        TRY.format(
            directory=shlex.quote(str(demonstration.directory)),
            token=TOKEN,
            hello=addresses["hello"],
            control=addresses["control"],
            log=demonstration.broker.log,
        )
    )
    login = start_login(demonstration.scene(), stack, stopping)
    print(MEANWHILE, flush=True)
    last = 0.0
    while True:
        demonstration.sandbox.check()
        demonstration.broker.check()
        for line in login.news():
            print(f"  {line}".rstrip(), flush=True)
        login.show_end()
        for request in demonstration.control.requests("token"):
            if request["time"] > last:
                last = request["time"]
                clock = time.strftime("%H:%M:%S", time.localtime(last))
                whose = "" if request["grant"] is None else f" of {request['grant']}"
                outcome = request["fault"] or request["outcome"]
                print(f"  {clock}  token request{whose}: {outcome}", flush=True)
        time.sleep(WATCH)


def _tell_failure(error: BrokerError) -> None:
    say(f"the demo failed: {error.message} [{error.code}]")
    if error.hint is not None:
        say(f"  {error.hint}")
