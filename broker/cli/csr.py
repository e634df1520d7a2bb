"""``token-broker csr``: a request for a certificate (PKCS#10), as directories and certificate authorities take it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from broker.cli.exits import DONE, WRONG_USAGE, say
from broker.cli.key import ALGS
from broker.cli.keygen import write_new

DEFAULT_ALG = "PS256"
"""What all directories take."""

REQUEST_MODE = 0o644
"""There is nothing secret in a request."""

EPILOG = """\
The subject is a string as in RFC 4514, the most specific attribute first. Attributes are CN, O, OU, L, ST, C,
STREET, DC, UID, and serialNumber, businessCategory, organizationIdentifier, jurisdictionCountryName, emailAddress,
givenName, surname, postalCode; any other one by its number (2.5.4.97=...). A comma in a value is written as \\,.

transport   asks for digitalSignature (with RSA keyEncipherment, too) and clientAuth: for [certificate.NAME]
signing     asks for digitalSignature and nonRepudiation: for [key.NAME] cert_file

Nothing is ever replaced: neither a key nor a request.

exit codes: 0 made   1 nothing was made, or the new key only   2 wrong usage

examples:
  token-broker csr --new-key transport.key --use transport --out transport.csr \\
    --subject 'UID=67c57882-043b,CN=app.bank.example,organizationIdentifier=OFBBR-d7384bd0,O=Bank,C=BR' \\
    --san DNS:app.bank.example
  token-broker csr --key signing.key --use signing --subject 'CN=Bank seal,O=Bank,C=BR'
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "csr",
        help="make a request for a certificate",
        description="Make a request for a certificate of a private key, as PKCS#10 in PEM.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    keys = parser.add_mutually_exclusive_group(required=True)
    keys.add_argument("--key", type=Path, metavar="FILE", help="the private key, in PEM")
    keys.add_argument("--new-key", type=Path, metavar="FILE", help="make a new private key in this file")
    parser.add_argument(
        "--alg",
        choices=ALGS,
        metavar="ALG",
        help="of a new key: PS256 (RSA, default), ES256, EdDSA",
    )
    parser.add_argument("--passphrase-file", type=Path, metavar="FILE", help="opens an encrypted key")
    parser.add_argument("--subject", required=True, metavar="NAME", help="who it is for (RFC 4514)")
    parser.add_argument(
        "--san", action="append", default=[], metavar="NAME", help="DNS:, URI:, IP: or email:, as often as needed"
    )
    parser.add_argument(
        "--use", choices=("transport", "signing"), required=True, metavar="USE", help="transport, signing"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write it (default: print it)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make the request, and the key if it is to be new."""
    from broker.keys.files import read_private  # noqa: PLC0415 - only when chosen
    from broker.keys.making import certificate_request, key_pem, new_key  # noqa: PLC0415 - only when chosen
    from broker.keys.private_keys import parse_pem  # noqa: PLC0415 - only when chosen

    if arguments.new_key is not None:
        key = new_key(arguments.alg or DEFAULT_ALG)
    elif arguments.alg is not None:
        say("--alg is for --new-key: a key that is there is of one kind already")
        return WRONG_USAGE
    else:
        key = parse_pem(read_private(arguments.key), arguments.key, arguments.passphrase_file)
    # The request first: a mistake in the subject shall not leave a key that is in the way of the next try.
    request = certificate_request(key, subject=arguments.subject, names=arguments.san, use=arguments.use)
    if arguments.new_key is not None:
        write_new(arguments.new_key, key_pem(key))
        say(f"{arguments.new_key.absolute()}: a new private key, mode 0600")
    if arguments.out is None:
        sys.stdout.write(request.decode())
    else:
        write_new(arguments.out, request, mode=REQUEST_MODE)
        say(f"{arguments.out.absolute()}: the request, to be sent to the directory")
    return DONE
