"""``token-broker init``: a first configuration for one issuer, to be read and completed. It fetches nothing."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from broker.cli.exits import DONE, WRONG_USAGE, explain
from broker.errors import LocalError

CONFIG = "config.toml"

TEMPLATE = """\
# Written by `token-broker init`. Relative paths begin at this file; docs/reference/configuration.md has every key.

[issuer.main]
issuer = {issuer}
profile = "fapi2"                       # or "fapi1_advanced", "oidc", "oauth2": what the server promises
{ca_file}
[certificate.transport]                 # for mutual TLS: tokens are bound to it
cert_file = "transport.pem"
key_file = "transport.key"

[key.signing]                           # signs client assertions
file = "signing.pem"
alg = "PS256"                           # or "ES256", "EdDSA"

[client.app]                            # as it is registered at the issuer
issuer = "main"
client_id = {client_id}
client_auth_method = "private_key_jwt"
signing_keys = ["signing"]
certificate = "transport"
sender_constraint = "certificate"

[token.main]                            # what a workload asks for by name
client = "app"
scope = {scope}

[listener.app]                          # where workloads ask
path = "api.sock"
mode = "0600"

[workload.app]                          # who may have the token
listener = ["app"]
uid = [{uid}]
tokens = ["main"]
may = ["get"]

[ops]                                   # health and metrics
listen = "127.0.0.1:9464"

[audit]                                 # who got which token
file = "audit.log"
key = {{ file = "audit.key" }}
"""

NEXT = """\
{file}: written

Next:
  1. read it: profile, alg, client_auth_method and scope are guesses
  2. token-broker keygen audit {directory}/audit.key
  3. put the certificate and its key to {directory}/transport.pem and transport.key, the signing key
     to {directory}/signing.pem; the keys with mode 0600, all owned by the user of the broker
  4. token-broker check --online --config {file}
  5. token-broker run --config {file}
  6. token-broker token main --socket {directory}/api.sock"""

EPILOG = """\
An existing file is never replaced. The file passes `check --syntax` as it is written. A directory that is not
there yet is made, for you alone.

exit codes: 0 written   1 nothing was written   2 wrong usage, or the issuer is not one

example:
  token-broker init --issuer https://as.bank.example --client-id app-1 --scope accounts --directory /etc/token-broker
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "init",
        help="write a first configuration",
        description="Write a commented configuration for one issuer, and say what to do next.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--issuer", required=True, metavar="URL", help="the issuer, exactly as its metadata has it")
    parser.add_argument("--client-id", default="app-1", type=_word, metavar="ID", help="as registered (app-1)")
    parser.add_argument(
        "--scope", action="append", type=_word, metavar="SCOPE", help="a scope to ask for; can be given again (read)"
    )
    parser.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="the only authority to trust for the issuer (the system's)"
    )
    parser.add_argument(
        "--directory", type=Path, default=Path(), metavar="DIR", help="where to write config.toml (this one)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the file, and say what to do next."""
    from broker.cli.keygen import write_new  # noqa: PLC0415 - only when chosen
    from broker.oauth.metadata import check_issuer  # noqa: PLC0415 - only when chosen

    try:
        check_issuer(arguments.issuer, allow_insecure_loopback=False)
    except LocalError as error:
        explain(error)
        return WRONG_USAGE
    directory = _made(arguments.directory.absolute())
    text = TEMPLATE.format(
        issuer=json.dumps(arguments.issuer),
        ca_file="" if arguments.ca_file is None else _ca_file(arguments.ca_file, directory),
        client_id=json.dumps(arguments.client_id),
        scope=json.dumps(arguments.scope or ["read"]),
        uid=os.getuid(),
    )
    write_new(directory / CONFIG, text.encode())
    print(NEXT.format(file=directory / CONFIG, directory=directory))
    return DONE


def _made(directory: Path) -> Path:
    """Make *directory*, but not those above it, if it is not there. Raises LocalError."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError as error:
        raise LocalError("directory_missing", f"{directory.parent}: there is no such directory") from error
    except OSError as error:
        raise LocalError("directory_missing", f"{directory}: cannot be made ({error.strerror})") from error
    return directory


def _ca_file(path: Path, directory: Path) -> str:
    """Write the line of the authority: as seen from the configuration, if it lies beside or below that."""
    absolute = path.absolute()
    seen = absolute.relative_to(directory) if absolute.is_relative_to(directory) else absolute
    try:
        str(seen).encode()
    except UnicodeEncodeError:
        raise LocalError("path_not_text", "a configuration is UTF-8, and the path of the authority is not") from None
    # JSON's strings are TOML's, but for this one character.
    quoted = json.dumps(str(seen), ensure_ascii=False).replace("\x7f", "\\u007F")
    return f"ca_file = {quoted}\n"


def _word(text: str) -> str:
    """Accept what OAuth allows in a scope token (RFC 6749 section 3.3), which fits client identifiers as well."""
    if not text or any(not "!" <= letter <= "~" or letter in '"\\' for letter in text):
        raise argparse.ArgumentTypeError("must be printable ASCII without spaces, quotation marks and backslashes")
    return text
