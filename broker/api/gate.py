"""
What a request over TCP has to show before anything else about it is looked at: the secret, and a literal ``Host``.

There is no exception for health and for the API's own description: names of tokens are in the answers, and
a probe of Kubernetes cannot reach a loopback address anyway. Probes have the ops listener, or a Unix socket.
``localhost`` is a name like any other here: a page in a browser that was made to reach this port by DNS
rebinding sends the name that it was loaded from.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import replace

from broker.api import problems
from broker.api.guard import FIXED_HOSTS, Incoming, check_headers
from broker.api.problems import ProblemError
from broker.api.secret_file import digest_of

BEARER = re.compile(r"Bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
"""RFC 6750 section 2.1."""

HOST_REFUSED = replace(
    problems.HOST_REFUSED,
    hint="over TCP, call the listener by its address and port, and not by a name",
    close=True,
    linger=False,
)


class Gate:
    """Lets requests of one TCP listener through; nothing before it is told the secret."""

    def __init__(self, hosts: frozenset[str]) -> None:
        """*hosts*: what the operator lists beside the address, in lower case."""
        self._hosts = hosts - FIXED_HOSTS
        self._digest: bytes | None = None

    def arm(self, digest: bytes, hosts: frozenset[str]) -> None:
        """Ask for the secret with this *digest* from now on; *hosts* are those of the address."""
        self._hosts |= hosts
        self._digest = digest

    def check(self, incoming: Incoming, others: frozenset[str] = frozenset(), *, passing: bool = False) -> None:
        """Check headers and secret; *others* are hosts that are accepted, too. Raises ProblemError."""
        try:
            check_headers(incoming, self._hosts | others, fixed=frozenset(), passing=passing)
        except ProblemError as refused:
            raise ProblemError(HOST_REFUSED if refused.problem is problems.HOST_REFUSED else refused.problem) from None
        given = incoming.values("authorization")
        if not given:
            raise ProblemError(problems.SECRET_MISSING)
        found = BEARER.fullmatch(given[0])
        shown = digest_of(found[1]) if found and len(given) == 1 else b""
        if self._digest is None or not hmac.compare_digest(shown, self._digest):
            raise ProblemError(problems.SECRET_WRONG)
