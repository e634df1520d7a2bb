"""
``token-broker audit verify``: whether an audit log is what the broker wrote.

It reads the files and asks nobody: neither the daemon nor its configuration is needed. Files are streamed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.cli.exits import DONE, FAILED, WRONG_USAGE, explain, say
from broker.errors import LocalError

if TYPE_CHECKING:
    from broker.telemetry.audit_verify import Finding, Report

CHUNK = 1 << 16
"""Bytes that are read at once: the memory needed does not grow with the file."""

OTHERS = "the log belongs to the user of the broker: run this as that user, or as root"

MAX_TOLD = 50
"""Findings that are printed; of a file of junk every line is one."""

MEANINGS = {
    "edited": "edited: something before this line, or the line itself, is not what was written",
    "removed": "removed: records are missing before this line",
    "reordered": "reordered: this record comes too late, or a second time",
    "cut": "cut: the file ended later than this once, or one before it did",
    "forged": "forged: this checkpoint claims the key and was not made with it",
    "uncovered": "not authenticated: a checkpoint that was not made with this key, or a number that none covers",
    "restarted": "restarted: the chain begins anew here; the broker could not follow the file, or two were joined",
    "unknown_format": "unknown format: a later version of the broker wrote this file",
}
"""In words, for each ``Damage``."""

EPILOG = """\
Give the files of one log oldest first, rotated ones included; the first may be one from the middle.

With --key everything up to the last checkpoint is proven to be what the broker wrote. What comes after it is
the unprotected tail, and its size is named: whoever could write the file could have changed it. Without --key
a log can only be consistent: whoever could write it could have made it so.

A log that was cut exactly at a checkpoint looks whole. --expect-seq N, a number known from another place (a
shipped copy of the log), finds that.

exit codes:
  0  nothing was found (there may be an unprotected tail: it is named)
  1  the log is damaged; or there is a --key, and not one checkpoint was made with it
  2  wrong usage, or a file or the key cannot be read: nothing is known of the log

examples:
  token-broker audit verify --key audit.key audit.log.2 audit.log.1 audit.log
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    group = commands.add_parser(
        "audit",
        help="check an audit log",
        description="Work on the audit log of a broker.",
        allow_abbrev=False,
    )
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    parser = actions.add_parser(
        "verify",
        help="find every edit, removal, swap and cut",
        description="Check that an audit log is what the broker wrote, and name what is wrong and what is unprotected.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="the files of one log, oldest first")
    parser.add_argument("--key", type=Path, metavar="FILE", help="the file of the audit key")
    parser.add_argument("--expect-seq", type=_seq, metavar="N", help="a sequence number known to have been written")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check the files, and print what was found."""
    from broker.keys.files import read_private  # noqa: PLC0415 - only when chosen
    from broker.telemetry.audit_verify import verify  # noqa: PLC0415 - only when chosen

    try:
        key = None if arguments.key is None else read_private(arguments.key)
        files = ((str(path), _chunks(path)) for path in arguments.files)
        report = verify(files, key=key, expect_seq=arguments.expect_seq)
    except LocalError as error:
        explain(error)
        return WRONG_USAGE
    _tell_findings(report)
    _tell_summary(report)
    return DONE if report.intact and not _proves_nothing(report) else FAILED


def _chunks(path: Path) -> Iterator[bytes]:
    """Read a file piece by piece. Raises LocalError."""
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError as error:
        raise LocalError(
            "audit_file_unreadable",
            f"{path}: cannot be read: {error.strerror or type(error).__name__}",
            hint=OTHERS if isinstance(error, PermissionError) else None,
        ) from error


def _tell_findings(report: Report) -> None:
    for finding in report.findings[:MAX_TOLD]:
        say(f"{_place(finding)}: {MEANINGS[finding.damage]}")
    if report.damaged > MAX_TOLD:
        say(f"... and {report.damaged - MAX_TOLD} more")


def _place(finding: Finding) -> str:
    return f"{finding.file}:{finding.line}" if finding.line else f"{finding.file}, its end"


def _tell_summary(report: Report) -> None:
    print(f"{report.records} record(s), {report.checkpoints} checkpoint(s), last number {report.last_seq or 'none'}")
    if report.tail_bytes:
        torn = f", {report.torn_bytes} of them an unfinished last line" if report.torn_bytes else ""
        where = "from the beginning" if report.covered_seq is None else f"after number {report.covered_seq}"
        end = f", up to number {report.last_seq}" if report.tail_records else ""
        print(f"unprotected tail: {report.tail_records} record(s), {report.tail_bytes} byte(s){torn}, {where}{end}")
    if report.recovered:
        print(f"taken over unprotected at a start: {report.recovered} record(s)")
    if report.lost:
        print(f"lost, as the broker itself recorded: {report.lost} record(s)")
    print(_verdict(report))


def _verdict(report: Report) -> str:
    if _is_of_another_key(report):
        return "NOT PROVEN: the log was made with another key, or with none"
    if not report.intact:
        return f"DAMAGED: {report.damaged} finding(s)"
    if not report.authenticated:
        return "consistent, not authenticated: give the key of the log with --key"
    if _proves_nothing(report):
        return "NOT PROVEN: no checkpoint was made with this key"
    return f"authentic up to number {report.covered_seq}"


def _is_of_another_key(report: Report) -> bool:
    """Say whether all that is wrong with the log is that no checkpoint of it names the key that was given."""
    kinds = {finding.damage.value for finding in report.findings}
    return _proves_nothing(report) and report.checkpoints > 0 and kinds <= {"uncovered"}


def _proves_nothing(report: Report) -> bool:
    """Say whether a key was given and vouches for nothing: a log made up by somebody else looks so, too."""
    return report.authenticated and report.covered_seq is None


def _seq(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0):
        raise argparse.ArgumentTypeError("must be a whole number from 1")
    return int(text)
