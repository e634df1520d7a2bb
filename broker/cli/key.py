"""
``token-broker key new``: a private key to sign with, or to have a certificate issued for.

``keygen`` makes keys that nobody but the broker ever knows the use of, as random bytes; these have a public half,
which is printed. An existing file is never replaced.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from broker.cli.exits import DONE, say
from broker.cli.keygen import write_new

ALGS = ("ES256", "PS256", "EdDSA")
"""P-256, RSA and Ed25519, by what they sign with."""

EPILOG = """\
The file has the private key in PEM (PKCS#8), not encrypted, with mode 0600. An existing file is never replaced.
The user of the broker has to own it: run this as that user, or chown it afterwards.

The public key is printed as a JWK with its kid, as GET /v1/jwks/CLIENT publishes it: register that.

exit codes: 0 written   1 nothing was written

examples:
  token-broker key new /etc/token-broker/signing.key --alg PS256
  token-broker key new ./next.key --alg ES256 | tee next.jwk
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "key", help="make a private key", description="Make private keys to sign with.", allow_abbrev=False
    )
    kinds = parser.add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    new = kinds.add_parser(
        "new",
        help="write a new private key, and print its public half",
        description="Write a new private key to a file that only its owner can read, and print the public key.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    new.add_argument("file", type=Path, metavar="FILE", help="the file to make")
    new.add_argument("--alg", choices=ALGS, required=True, metavar="ALG", help=f"what it signs with: {', '.join(ALGS)}")
    new.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the key, and print its public half."""
    from broker.keys.making import key_pem, new_key, public_jwk  # noqa: PLC0415 - only when chosen

    key = new_key(arguments.alg)
    write_new(arguments.file, key_pem(key))
    print(json.dumps(public_jwk(key, arguments.alg), indent=2))
    say(f'in the configuration:  [key.NAME]  file = "{arguments.file.absolute()}"  alg = "{arguments.alg}"')
    return DONE
