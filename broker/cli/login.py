"""
``token-broker login NAME``: have a person consent, in a browser on this machine or, with ``--paste``, on another.

The daemon asks the server and redeems what comes back; this command only carries it from the browser to the
daemon's socket, and ties it to the person who typed the command. It never sees a token.
"""

from __future__ import annotations

import argparse
import re
from typing import Any
from urllib.parse import urlsplit

from broker.cli.environment import environment, socket_path
from broker.cli.exits import WRONG_USAGE, say

EPILOG = """\
The link that it prints leads to a port of 127.0.0.1, works once, and for one browser. Open it yourself, and
give it to nobody: whoever opens it decides whose consent the broker gets.

From another machine, forward the port first, with the same number at both ends:
  you$  ssh -L 8765:127.0.0.1:8765 host
  host$ token-broker login NAME --port 8765

Without any of that, --paste prints the address of the server. After the login the browser ends at an address
that may show nothing: copy it whole, and paste it into the terminal, where it is not shown.

The client's redirect_uris in the configuration need http://127.0.0.1/callback (any port matches), and the
server has to know it; for a server that wants to know the port, too, use --port.

exit codes:
  0  there is a grant     1  there is none; it is said why     2  wrong usage     130  interrupted

examples:
  token-broker login directory
  token-broker login ledger --grant ID              # renews a consent, by the same person
  token-broker login ledger --paste --redirect-uri https://app.example/callback
"""

CALLBACK = "/callback"

PORTS = range(1, 65_536)

RESERVED_PATH = re.compile(r"/(start/.*|held/.*|done|failed)", re.DOTALL)


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "login",
        help="give a consent in a browser",
        description="Have a person log in at the authorization server and consent to what a token needs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help="the name of a [token.NAME] section of the daemon")
    parser.add_argument("--grant", metavar="ID", help="renew this grant, as the person who gave it")
    parser.add_argument("--label", metavar="TEXT", help="a name for the grant, for the list of grants")
    parser.add_argument("--no-browser", action="store_true", help="only print the link, and open no browser")
    parser.add_argument("--paste", action="store_true", help="no port: paste the address where the browser ended")
    parser.add_argument("--port", type=int, metavar="N", help="the port to listen on (a free one)")
    parser.add_argument("--redirect-uri", metavar="URL", help="another one of the client's redirect_uris")
    parser.add_argument("--socket", metavar="PATH", help="the daemon's socket (default: TOKEN_BROKER_SOCKET)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Go through a login."""
    mistake = _mistake(arguments)
    if mistake is not None:
        say(mistake)
        return WRONG_USAGE
    from broker.cli.login_flow import Order, by_browser, by_paste  # noqa: PLC0415 - only when chosen

    variables = environment()
    order = Order(
        daemon=socket_path(arguments.socket, variables),
        token=arguments.name,
        grant=arguments.grant,
        label=arguments.label,
    )
    if arguments.paste:
        return by_paste(order, redirect_uri=arguments.redirect_uri or _loopback(arguments.port))
    port, path = _place(arguments)
    return by_browser(order, port=port, path=path, variables=variables, opens=not arguments.no_browser)


def _loopback(port: int | None) -> str | None:
    """Give the redirect URI for a port that nobody needs to listen on."""
    return None if port is None else f"http://127.0.0.1:{port}{CALLBACK}"


def _place(arguments: argparse.Namespace) -> tuple[int, str]:
    """Say where to listen: a port, 0 for a free one, and the path of the callback."""
    if arguments.redirect_uri is None:
        return arguments.port or 0, CALLBACK
    parts = urlsplit(arguments.redirect_uri)
    return parts.port or 0, parts.path


def _mistake(arguments: argparse.Namespace) -> str | None:
    if arguments.port is not None and arguments.port not in PORTS:
        return "--port is a number from 1 to 65535"
    if arguments.redirect_uri is None:
        return None
    if arguments.port is not None:
        return "--redirect-uri has its port in it: leave --port out"
    if not arguments.paste and not _is_served_here(arguments.redirect_uri):
        return "without --paste the --redirect-uri is http://127.0.0.1:PORT/PATH: no other can be listened for"
    return None


def _is_served_here(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return False
    at = "127.0.0.1" if port is None else f"127.0.0.1:{port}"
    return (
        (parts.scheme, parts.netloc) == ("http", at)
        and port != 0
        and re.fullmatch(r"/[\x21\x24-\x3e\x40-\x7e]*", parts.path) is not None
        and uri == f"http://{at}{parts.path}"
        and not RESERVED_PATH.fullmatch(parts.path)
    )
