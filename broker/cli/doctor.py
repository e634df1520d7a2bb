"""
``token-broker doctor``: the one command for when something is wrong.

It is made of what other commands know (``check``, ``check --online``, ``status``, ``store check``,
``audit verify``) and changes nothing. Each group of checks stands by itself: one that breaks or hangs is a
finding, and the others are made.
"""

from __future__ import annotations

import argparse
import codecs
import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.cli.environment import environment
from broker.cli.exits import DONE, FAILED
from broker.cli.findings import Finding, Level, as_json, as_lines, failed, of_error, ok, skipped
from broker.cli.tables import has_colors
from broker.errors import BrokerError, frames_of

if TYPE_CHECKING:
    from broker.cli.doctor_case import Case
    from broker.config.settings import Settings

DEADLINE = 30.0
"""Seconds for everything: an issuer that hangs takes 10 for each place of its metadata, and all are asked at once."""

WIDEST = 100
"""Columns from which on a sentence is no easier to read."""

NO_HINDRANCE = ("socket", "issuer", "upstream", "clock")
"""Places whose failures keep no daemon from a start."""

EPILOG = """\
It looks at: the socket (is it there, who may connect, who answers), the tokens and why they are not well, the
running configuration and the file, certificates and keys and their last days, directories and their
permissions, token files, the audit log, the store, the clock, and whether each issuer and each API can be
reached.

Run it as root, or as the user that the daemon runs as: root looks at files as that user. Anybody else is told
which checks could not be made. It works without a daemon, with a configuration that has mistakes, and without
one (then the socket alone is looked at). It changes nothing and asks for no token.

Each line begins with  ok, warning, FAILED  or  skipped (not known, and why); below it, what to do. The last
line counts them, and says if nothing could be judged.

exit codes:
  0  nothing failed; there may be warnings     1  something failed     2  wrong usage

examples:
  token-broker doctor --config /etc/token-broker/config.toml
  token-broker doctor --json | jq -r '.findings[] | select(.level == "failed") | .text'
"""

Look = Callable[[], Iterable[Finding]]


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor",
        help="find out what is wrong, and what to do",
        description="Look at everything that a broker needs, and say what is wrong and what to do about it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the file (default: TOKEN_BROKER_CONFIG)")
    parser.add_argument("--socket", metavar="PATH", help="the daemon's socket (default: those of the configuration)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Look at everything, and print what was found."""
    variables = environment()
    case, settings, findings = case_of(arguments, variables)
    found, finished = examine(groups(case, settings), DEADLINE)
    findings = in_order(findings + found, case)
    if arguments.json:
        print(as_json(findings))
    else:
        is_terminal = sys.stdout.isatty()
        width = min(shutil.get_terminal_size().columns, WIDEST) if is_terminal else None
        colors = has_colors(variables, is_terminal=is_terminal)
        print("\n".join([*as_lines(findings, colors=colors, width=width), "", summary(findings)]))
    code = FAILED if any(finding.level is Level.FAILED for finding in findings) else DONE
    if not finished:
        sys.stdout.flush()
        os._exit(code)  # a name look-up that hangs cannot be ended, and would keep the process
    return code


def case_of(arguments: argparse.Namespace, variables: Mapping[str, str]) -> tuple[Case, Settings | None, list[Finding]]:
    """Find out what there is to look at and whose it is; become that user, if we are root. Raises LocalError."""
    from broker.cli import doctor_case as cases  # noqa: PLC0415 - only when chosen

    _load_everything()
    uid = os.geteuid()
    settings, _ = cases.read_configuration(arguments.config, variables, stranger=True)
    daemons = cases.daemons_of(arguments.socket, settings, variables)
    runner = next((one for one in map(cases.runner_of, daemons) if one is not None), None)
    known = None if runner is None or cases.tells_nothing(runner, uid) else (runner.uid, runner.gid)
    owner = known or cases.owner_of(cases.configured(arguments.config, variables), settings, daemons)
    runs_as = None if owner is None else owner[0]
    findings: list[Finding] = []
    if owner is not None and uid == cases.ROOT and owner[0] != cases.ROOT:
        groups = () if runner is None or known is None else runner.groups
        findings.append(_switched(owner[0]) if cases.become(*owner, groups) else _not_switched(owner[0]))
    stranger = runs_as not in {None, os.geteuid()} or (runs_as is None and uid != cases.ROOT)
    settings, found = cases.read_configuration(arguments.config, variables, stranger=stranger)
    case = cases.Case(
        daemons=cases.daemons_of(arguments.socket, settings, variables),
        runs_as=runs_as,
        uid=os.geteuid(),
        has_credentials=bool(variables.get("CREDENTIALS_DIRECTORY")),
        config=cases.configured(arguments.config, variables),
    )
    return case, settings, findings + found


def _switched(uid: int) -> Finding:
    return ok("doctor", f"looks as uid {uid}, whom the daemon's files belong to")


def _not_switched(uid: int) -> Finding:
    text = f"may not become uid {uid}, whom the daemon's files belong to"
    return skipped("doctor", text, f"run this with CAP_SETUID and CAP_SETGID, or as uid {uid}")


def _load_everything() -> None:
    """Import whatever the checks need while we can: the user that we become need not be able to read it."""
    from broker.cli import doctor_daemon, doctor_files, doctor_servers  # noqa: F401, PLC0415 - only when chosen

    codecs.lookup("idna")  # loaded by the first look-up of a host's name otherwise


def groups(case: Case, settings: Settings | None) -> list[tuple[str, Look]]:
    """Give the groups of checks in the order in which they are told; without *settings* there are few."""
    from broker.cli import doctor_daemon, doctor_files, doctor_servers  # noqa: PLC0415 - only when chosen

    of_daemon: list[tuple[str, Look]] = [
        ("socket", partial(doctor_daemon.of_sockets, case)),
        ("tokens", partial(doctor_daemon.of_tokens, case)),
    ]
    of_settings = {
        "alarms": doctor_daemon.of_alarms,
        "keys": doctor_files.of_keys,
        "directories": doctor_files.of_places,
        "audit": doctor_files.of_audit,
        "store": doctor_files.of_store,
        "issuers": doctor_servers.of_issuers,
        "upstreams": doctor_servers.of_upstreams,
    }
    if settings is None:
        missing = skipped(", ".join(of_settings), "not looked at, for want of a configuration that can be used")
        return [*of_daemon, ("configuration", lambda: [missing])]
    return of_daemon + [(place, partial(look, case, settings)) for place, look in of_settings.items()]


@dataclass(slots=True)
class _Group:
    """A group of checks at work: what it has found so far. Only its thread writes here until that is joined."""

    place: str
    look: Look
    found: list[Finding] = field(default_factory=list)

    def run(self) -> None:
        """Make the checks; what breaks is a finding."""
        try:
            for finding in self.look():
                self.found.append(finding)
        except BrokerError as error:
            self.found.append(of_error(self.place, error))
        except Exception as error:  # noqa: BLE001 - the boundary: one group must not take the others along
            advice = f"please report this as a mistake of token-broker doctor: {frames_of(error)}"
            self.found.append(failed(self.place, "this check broke", advice))


def examine(wanted: Sequence[tuple[str, Look]], seconds: float) -> tuple[list[Finding], bool]:
    """Make all groups of checks side by side, for *seconds* at most; say, too, whether all of them came to an end."""
    until = time.monotonic() + seconds
    running = []
    for place, look in wanted:
        group = _Group(place, look)
        thread = threading.Thread(target=group.run, daemon=True)
        thread.start()
        running.append((group, thread))
    findings: list[Finding] = []
    for group, thread in running:
        thread.join(max(0.0, until - time.monotonic()))
        findings += tuple(group.found)
        if thread.is_alive():
            advice = "something that it asks does not answer at all: a name server, a network disk"
            findings.append(failed(group.place, f"not finished within {seconds:.0f} s", advice))
    return findings, not any(thread.is_alive() for _, thread in running)


def in_order(findings: Sequence[Finding], case: Case) -> list[Finding]:
    """Where a daemon is to be started, say first what would keep it from that."""
    from broker.cli.doctor_daemon import started  # noqa: PLC0415 - only when chosen

    start = started(case)
    failures = [one for one in findings if one.level is Level.FAILED]
    if not any(one.advice != start and not one.place.startswith(NO_HINDRANCE) for one in failures):
        return list(findings)
    after = f"mend what else is FAILED, then {start}"
    return [replace(one, advice=after) if one.advice == start else one for one in findings]


def summary(findings: Sequence[Finding]) -> str:
    """Count what was found, and say so if it tells nothing: each place that was looked at has its gap."""
    counted = Counter(finding.level for finding in findings)
    parts = [f"{counted[level]} {level}" for level in (Level.FAILED, Level.WARNING, Level.SKIPPED, Level.OK)]
    unknown = {one.place for one in findings if one.level is Level.SKIPPED}
    told = {one.place for one in findings if one.level is not Level.SKIPPED}
    judged = told - unknown - {"doctor"}
    return ", ".join(parts) + ("" if judged or not unknown else ": nothing could be judged")
