"""
The pages that a person sees at the end of ``token-broker login``, and the words for what went wrong.

Each page is static once it is made: names from the configuration and sentences of this file, nothing that a
server or a URL said (rules.md R4). No script, no image, nothing to load; the terminal says the same.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from html import escape

from broker.cli.local_client import DaemonError
from broker.errors import BrokerError

STYLE = """\
:root { color-scheme: light dark; --page: #f4f5f7; --card: #ffffff; --text: #1b1f24; --soft: #4f5761;
  --line: #d5d9de; --good: #17693a; --bad: #a8231b; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171a; --card: #1e2226; --text: #e9ecef; --soft: #b3bac2;
    --line: #3a4047; --good: #6fd394; --bad: #ff9a91; }
}
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.25rem;
  background: var(--page); color: var(--text); font: 1.0625rem/1.55 system-ui, sans-serif; }
main { width: 100%; max-width: 34rem; padding: 2.25rem 2rem 2rem; border: 1px solid var(--line);
  border-radius: 0.5rem; background: linear-gradient(var(--mark), var(--mark)) top / 100% 4px no-repeat var(--card); }
.good { --mark: var(--good); }
.bad { --mark: var(--bad); }
.from { margin: 0 0 0.25rem; color: var(--soft); font-size: 0.9375rem; }
h1 { margin: 0 0 1rem; color: var(--mark); font-size: 1.5rem; line-height: 1.25; }
h2 { margin: 1.5rem 0 0.25rem; font-size: 1.0625rem; }
p { margin: 0 0 0.75rem; }
p:last-child { margin-bottom: 0; }
dl { margin: 0 0 1.25rem; padding: 1rem 0 0.25rem; border-top: 1px solid var(--line);
  border-bottom: 1px solid var(--line); }
dt { color: var(--soft); font-size: 0.9375rem; }
dd { margin: 0 0 0.75rem; overflow-wrap: anywhere; }
code { font: 0.9375em/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
ul { margin: 0; padding-left: 1.25rem; }
@media (max-width: 30rem) {
  body { padding: 0.75rem; place-items: start center; }
  main { padding: 1.25rem; }
}
"""

STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}")
"""RFC 6749 section 3.3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What went wrong, in sentences for the person at the browser and at the terminal alike."""

    heading: str
    explanation: str
    remedy: str


REFUSED = Problem(
    heading="Consent was refused",
    explanation="Nothing was granted, because the request was declined at the server.",
    remedy="If that was a mistake, run the command again and agree.",
)
OTHER_PERSON = Problem(
    heading="This was another account",
    explanation="The consent that was to be renewed belongs to another account. It was left as it is.",
    remedy="Log out at the server, run the command again, and log in with the account that consented first.",
)
USED_TWICE = Problem(
    heading="The link was opened twice",
    explanation="A login link works once. As it was opened a second time, perhaps by somebody else, "
    "the login was given up. Nothing was granted.",
    remedy="Run the command again, open the new link once, and show it to nobody.",
)
EXPIRED = Problem(
    heading="It took too long",
    explanation="The time for this login is over. Nothing was granted.",
    remedy="Run the command again.",
)
GIVEN_UP = Problem(
    heading="The login was given up",
    explanation="The command was ended in the terminal. Nothing was granted.",
    remedy="Run the command again if you want to go on.",
)
UNREACHABLE = Problem(
    heading="The broker cannot be reached",
    explanation="The server's answer came back to this machine, but the broker could not be told in time.",
    remedy="Look into the terminal. When the broker runs again, run the command again.",
)
NOT_ALLOWED = Problem(
    heading="The broker does not allow this",
    explanation="The broker's configuration does not let you ask for this consent.",
    remedy="Look into the terminal, and ask whoever runs the broker.",
)
TRY_LATER = Problem(
    heading="The broker cannot do this now",
    explanation="The broker, its store or the server is not able to finish a login at this moment.",
    remedy="Wait a minute, and run the command again.",
)
SERVER_REFUSED = Problem(
    heading="The server declined the login",
    explanation="The server sent you back with an error instead of a consent. Nothing was granted.",
    remedy="The terminal names the error. Run the command again; if it comes again, ask whoever runs the broker.",
)
CLIENT_REFUSED = Problem(
    heading="The server refused the broker",
    explanation="The server answered a request of the broker itself with an error: that was not about you or your "
    "consent. Nothing was granted.",
    remedy="The terminal names the error. Show it to whoever runs the broker: token-broker doctor looks for the cause.",
)
NOT_ACCEPTED = Problem(
    heading="The server's answer was not accepted",
    explanation="What came back from the server is not an answer that the broker may accept. Nothing can be used.",
    remedy="Run the command again. If that does not help, the terminal and the broker's log say which check failed.",
)

BY_CODE = {
    "subject_mismatch": OTHER_PERSON,
    "access_denied": NOT_ALLOWED,
    "not_found": EXPIRED,
    "daemon_unreachable": UNREACHABLE,
    "daemon_silent": UNREACHABLE,
    "secret_unreadable": UNREACHABLE,
    "temporarily_unavailable": TRY_LATER,
    "slow_down": TRY_LATER,
}

GONE = 410


def problem_of(error: BrokerError) -> Problem:
    """Choose the words for *error*; what the daemon said of it is only for the terminal."""
    if isinstance(error, DaemonError):
        if error.status == GONE:
            return EXPIRED
        if error.server_error is not None:
            if error.server_error == "access_denied":
                return REFUSED
            return CLIENT_REFUSED if error.check is None else SERVER_REFUSED  # a check is made of what a browser brings
    return BY_CODE.get(error.code, NOT_ACCEPTED)


def done_page(token: str, scope: str) -> bytes:
    """Say what was granted: the token by its name, the scope by those of its words that are words of a scope."""
    words = [f"<li><code>{escape(word)}</code></li>" for word in scope.split(" ") if SCOPE_TOKEN.fullmatch(word)]
    granted = f"<ul>{''.join(words)}</ul>" if words else "as the server has it"
    return _page(
        "good",
        "Consent given",
        f"<dl><dt>Token</dt><dd><code>{escape(token)}</code></dd>\n<dt>Scope</dt><dd>{granted}</dd></dl>\n"
        "<p>The broker has what it needs, and goes on by itself.</p>\n"
        "<p><strong>You may close this window.</strong></p>",
    )


def failed_page(problem: Problem) -> bytes:
    """Say what went wrong and what to do."""
    return _page(
        "bad",
        problem.heading,
        f"<p>{escape(problem.explanation)}</p>\n<h2>What to do</h2>\n<p>{escape(problem.remedy)}</p>\n"
        "<p><strong>You may close this window.</strong></p>",
    )


def _page(kind: str, heading: str, content: str) -> bytes:
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(heading)} · Token Broker</title>
<style>{STYLE}</style>
</head>
<body>
<main class="{kind}">
<p class="from">Token Broker</p>
<h1>{escape(heading)}</h1>
{content}
</main>
</body>
</html>
""".encode()
