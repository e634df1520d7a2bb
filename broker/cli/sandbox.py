"""
``token-broker sandbox``: an authorization server on loopback, to try the broker with and to break.

A strict one, or with ``--dialect iridium`` a fake Iridium.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.cli.exits import DONE, FAILED, WRONG_USAGE, say
from broker.errors import LocalError

if TYPE_CHECKING:
    from broker.sandbox.iridium.running import Iridium
    from broker.sandbox.running import Sandbox

LISTENERS = ("issuer", "mtls", "resource", "elsewhere", "control")
"""As ``broker.sandbox.running`` has them; repeated here, because the parser must not load a server."""

OF_DIALECTS = {
    "standard": ("mtls_port", "resource_port", "elsewhere_port", "strict"),
    "iridium": ("development_port", "redirect_uri"),
}
"""The dialects, with the options, by their destinations, that no other has."""

LIFETIMES = {"standard": 60, "iridium": 3_600}
"""Of access tokens, in seconds: short enough to watch, and what Iridium's page says."""

EPILOG = """\
It makes a certificate authority, certificates and keys, new ones each time, and a configuration file
for the broker, in a directory that only you can read. It asks for private_key_jwt over mutual TLS and
issues certificate-bound access tokens that live for a minute. It listens on 127.0.0.1 only, and its
tokens are worth nothing anywhere else.

what it makes in DIR:
  config.toml                for `token-broker run --config`
  consents.toml              the same with a store, and a token that a person consents to
  ca.pem                     trust it for this server, and for nothing else
  client.pem, client.key     the client certificate that tokens are bound to
  other.pem, other.key       a client certificate to see a token refused with
  signing-*.pem              keys for client assertions: PS256, ES256, EdDSA
  control-token              lets you make it fail
  sandbox.json               its addresses

make it fail (docs/sandbox.md lists all the ways):
  curl -H "Authorization: Bearer $(cat DIR/control-token)" http://127.0.0.1:PORT/sandbox/faults \\
       -d '{"where": "token", "kind": "status", "status": 503, "retry_after": 5, "times": 2}'

a fake Iridium (docs/sandbox.md has its switches):
  token-broker sandbox --dialect iridium
  speaks https and http, has two providers to log in at, and writes config.toml and development.toml

examples:
  token-broker sandbox
  token-broker sandbox --directory ./sandbox --lifetime 20
  token-broker sandbox --directory ./sandbox --keep          the same server again, as after a restart
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "sandbox",
        help="run a strict authorization server on loopback, to try things with",
        description="Run an authorization server and an API on loopback until Ctrl-C.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help="where to write keys and configuration: empty, or of an earlier sandbox (default: a temporary one)",
    )
    parser.add_argument("--keep", action="store_true", help="go on with the keys and ports that are in --directory")
    parser.add_argument(
        "--dialect",
        choices=tuple(OF_DIALECTS),
        default="standard",
        metavar="NAME",
        help="standard: a strict server (the default); iridium: a fake Iridium",
    )
    for name in LISTENERS:
        option = "--port" if name == "issuer" else f"--{name}-port"
        parser.add_argument(
            option,
            type=_port,
            default=None,
            metavar="N",
            dest="port" if name == "issuer" else f"{name}_port",
            help=f"port of the {name} listener (default: a free one)",
        )
    parser.add_argument(
        "--development-port", type=_port, metavar="N", help="port of the fake Iridium's http listener (a free one)"
    )
    parser.add_argument(
        "--redirect-uri", metavar="URI", help="where people come back to from the fake Iridium, port included"
    )
    parser.add_argument(
        "--strict", action="store_true", default=None, help="refuse clients without a certificate by a TLS alert"
    )
    parser.add_argument(
        "--lifetime", type=_lifetime, metavar="SECONDS", help="lifetime of access tokens (60; of a fake Iridium 3600)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run a sandbox until SIGINT or SIGTERM."""
    require_sandbox()
    from broker.sandbox.commands import CommandRefusedError  # noqa: PLC0415 - only when chosen
    from broker.sandbox.layout import DirectoryRefusedError  # noqa: PLC0415 - only when chosen

    refused = _refused(arguments)
    if refused is not None:
        say(refused)
        return WRONG_USAGE
    lifetime = arguments.lifetime or LIFETIMES[arguments.dialect]
    serve = _serve_iridium if arguments.dialect == "iridium" else _serve_standard
    with ExitStack() as stack:
        directory = arguments.directory or _temporary(stack)
        try:
            serve(arguments, directory.absolute(), lifetime)
        except CommandRefusedError as error:
            say(str(error))
            return WRONG_USAGE
        except DirectoryRefusedError as error:
            say(str(error))
            return FAILED
        except OSError as error:
            say(f"the sandbox cannot run: {error.strerror or type(error).__name__}")
            return FAILED
    return DONE


def require_sandbox() -> None:
    """Refuse, where the sandbox was left out of the installation, as it is out of the image. Raises LocalError."""
    if find_spec("broker.sandbox") is None:
        raise LocalError("sandbox_missing", "the sandbox is not in this image: install the broker from its source tree")


def _refused(arguments: argparse.Namespace) -> str | None:
    """Say what is wrong with options that do not go together."""
    if arguments.keep and arguments.directory is None:
        return "--keep needs the --directory to go on with"
    foreign = [name for dialect, names in OF_DIALECTS.items() if dialect != arguments.dialect for name in names]
    given = [name for name in foreign if getattr(arguments, name) is not None]
    return None if not given else f"--{given[0].replace('_', '-')} is not for --dialect {arguments.dialect}"


def _ports(arguments: argparse.Namespace, *names: str) -> dict[str, int]:
    """Give the ports that were chosen, by the names of their listeners."""
    given = {name: getattr(arguments, "port" if name == "issuer" else f"{name}_port") for name in names}
    return {name: port for name, port in given.items() if port is not None}


def _serve_standard(arguments: argparse.Namespace, directory: Path, lifetime: int) -> None:
    from broker.sandbox.foreground import serve_until_signal  # noqa: PLC0415 - only when chosen

    serve_until_signal(
        directory,
        keep=arguments.keep,
        ports=_ports(arguments, *LISTENERS),
        strict=bool(arguments.strict),
        lifetime=lifetime,
        announce=_announce,
    )


def _serve_iridium(arguments: argparse.Namespace, directory: Path, lifetime: int) -> None:
    from broker.sandbox.foreground import run_until_signal  # noqa: PLC0415 - only when chosen
    from broker.sandbox.iridium.registry import DEFAULT_REDIRECT_URI  # noqa: PLC0415 - only when chosen
    from broker.sandbox.iridium.running import Iridium  # noqa: PLC0415 - only when chosen

    ports = _ports(arguments, "issuer", "development", "control")
    redirect_uri = arguments.redirect_uri or DEFAULT_REDIRECT_URI
    run_until_signal(
        lambda: Iridium.start(
            directory, keep=arguments.keep, ports=ports, lifetime=lifetime, redirect_uri=redirect_uri
        ),
        _announce_iridium,
    )


def _temporary(stack: ExitStack) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="token-broker-sandbox-"))
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    return directory


def _announce(sandbox: Sandbox) -> None:
    print(_described(sandbox), flush=True)


def _described(sandbox: Sandbox) -> str:
    where = sandbox.addresses
    directory = sandbox.directory
    return f"""\
authorization server   {where.issuer}
  mutual TLS           {where.mtls}/token
  tokens               bound to the client certificate, for {sandbox.lifetime} seconds
resource API           {where.hello}
faults on command      {where.control}/sandbox/faults
files                  {directory}

Next, in another terminal:

  token-broker run --config {sandbox.config_file}
  token-broker token demo --socket {directory}/api.sock

With a store, and a token that a person consents to:

  token-broker run --config {directory}/consents.toml
  token-broker login person --socket {directory}/api.sock

Ctrl-C ends it."""


def _announce_iridium(iridium: Iridium) -> None:
    print(_described_iridium(iridium), flush=True)


def _described_iridium(iridium: Iridium) -> str:
    where, directory = iridium.addresses, iridium.directory
    return f"""\
fake Iridium           {where.issuer}
  as in development    {where.development}
providers              {where.github}  {where.google}
API                    {where.api}/me
switches               {where.control}/sandbox/settings
files                  {directory}

Next, in another terminal:

  token-broker run --config {iridium.config_file}
  token-broker login github --redirect-uri {iridium.redirect_uri} --socket {directory}/api.sock

The same over http, as at a developer's desk:

  token-broker run --config {iridium.development_config_file}

Ctrl-C ends it."""


def _port(text: str) -> int:
    return _number(text, 0, 65_535)


def _lifetime(text: str) -> int:
    return _number(text, 1, 86_400)


def _number(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"must be a number from {least} to {most}")
    return int(text)
