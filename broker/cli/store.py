"""
``token-broker store``: look at the store, seal it with another key, or accept it after it was put back.

All of it while the daemon is stopped: they hold the state directory, as the daemon does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.cli.check import load
from broker.cli.exits import DONE, FAILED, IN_USE, WRONG_USAGE, explain, say

if TYPE_CHECKING:
    from broker.storage.vault import Place, Vault

Action = Callable[["Place", argparse.Namespace], int]

EPILOG = """\
The daemon has to be stopped. Run it as the user that the daemon runs as.

exit codes:
  0  done; for check: nothing is wrong
  1  not done; for check: something is wrong or suspect, and is named
  2  wrong usage or configuration
  3  the daemon runs: it holds the state directory
"""

CONTRADICTIONS = {
    "later": "the anchor knows of a later write: this store is an older copy, or only one of the two was restored",
    "other_store": "the anchor is another store's: one of the two was put here from elsewhere",
    "missing": "the anchor is missing: nothing says whether this is the newest store",
    "unreadable": "the anchor cannot be read, is damaged, or was written with another key",
}
"""By ``storage.anchor.Contradiction``, which is imported only where a command is chosen."""


def add_parser(commands: Any) -> None:
    """Add the command."""
    group = commands.add_parser(
        "store",
        help="check the store, change its key, or accept an older copy",
        description="Work on the store of grants and refresh tokens.",
        allow_abbrev=False,
    )
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = _action(actions, "check", _check, "find every damage, and change nothing", "Look at each record.")
    rekey = _action(actions, "rekey", _rekey, "seal it with another key", "Seal each record with another key.")
    accept = _action(actions, "accept", _accept, "take it for the newest", "Take an older copy of the store for it.")
    rekey.add_argument("--new-key", type=Path, metavar="FILE", required=True, help="the file of the new key")
    for parser in (check, rekey, accept):
        parser.add_argument("--config", type=Path, metavar="FILE", help="the file (default: TOKEN_BROKER_CONFIG)")


def _action(actions: Any, name: str, action: Action, summary: str, description: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name,
        help=summary,
        description=description,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, action=action)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Do it while holding the state directory."""
    from broker.hostenv.clock import SystemClock  # noqa: PLC0415 - only when chosen
    from broker.hostenv.state_dir import StateDirInUseError, held  # noqa: PLC0415 - only when chosen
    from broker.keys.sealing import load_sealing_key  # noqa: PLC0415 - only when chosen
    from broker.storage.vault import Place  # noqa: PLC0415 - only when chosen

    settings, code = load(arguments.config, warn=False)
    if settings is None:
        return code
    state_dir = settings.daemon.state_dir
    if settings.store is None or state_dir is None:
        say(f"{settings.path}: has no [store]")
        return WRONG_USAGE
    action: Action = arguments.action
    try:
        with held(state_dir):
            sealer = load_sealing_key(settings.store.key_file)
            wall = SystemClock().wall
            return action(Place(directory=state_dir, sealer=sealer, anchor=settings.store.anchor, wall=wall), arguments)
    except StateDirInUseError as error:
        explain(error)
        return IN_USE


def _check(place: Place, _: argparse.Namespace) -> int:
    from broker.storage.report import examine  # noqa: PLC0415 - only when chosen

    report = examine(place)
    for finding in report.findings:
        fate = "can be read, and will be tried once" if finding.kept else "is lost"
        print(f"{finding.name}: {finding.fault.value}; it {fate}")
    for name in sorted(set(report.suspects) - {finding.name for finding in report.findings}):
        print(f"{name}: suspect since an earlier damage; it can be read, and will be tried once")
    if report.contradiction is not None:
        print(CONTRADICTIONS[report.contradiction.value])
        print("  put back what belongs there; if that is lost, to go on with this:  token-broker store accept")
    if not report.whole:
        print("the file is damaged: at its next start the broker keeps it under another name and goes on without it")
    suspect = f"{len(report.suspects)} of them suspect"
    print(f"{report.path}: {report.records} record(s), {suspect}; {report.counter} write(s)")
    return DONE if report.sound else FAILED


def _rekey(place: Place, arguments: argparse.Namespace) -> int:
    from broker.keys.sealing import load_sealing_key  # noqa: PLC0415 - only when chosen

    new_key = load_sealing_key(arguments.new_key)
    vault = _opened(place)
    try:
        vault.rekey(new_key)
        print(f"{len(vault)} record(s) are sealed with {arguments.new_key}; the old key opens none of them")
        print(f'in the configuration, under [store]:  key = {{ file = "{arguments.new_key.absolute()}" }}')
        if vault.anchor_behind:
            say("the anchor could not be written: after the next start, use token-broker store accept")
    finally:
        vault.close()
    return DONE


def _accept(place: Place, _: argparse.Namespace) -> int:
    vault = _opened(place)
    try:
        if not vault.rolled_back:
            print("there is nothing to accept: the anchor does not contradict the store")
            return DONE
        vault.accept()
        print(f"accepted: {len(vault)} record(s). A refresh token in it may be an old one, and is tried once.")
    finally:
        vault.close()
    return DONE


def _opened(place: Place) -> Vault:
    """Open the store that is there: a command makes none."""
    from broker.storage.report import examine  # noqa: PLC0415 - only when chosen
    from broker.storage.vault import open_vault  # noqa: PLC0415 - only when chosen

    examine(place)
    return open_vault(place)
