"""What ``doctor`` sees in files: certificates and keys and their last days, directories, audit log, store."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from broker.cli.check import ANY_DIRECTORY
from broker.cli.doctor_case import Case, nobody_listens
from broker.cli.findings import Finding, failed, of_error, ok, skipped, warning
from broker.cli.online import DAY, FEW_DAYS, of_certificate
from broker.cli.store import CONTRADICTIONS
from broker.config.settings import AuditSettings, Settings, StoreSettings
from broker.errors import LocalError
from broker.hostenv.clock import SYSTEM_CLOCK
from broker.hostenv.state_dir import StateDirInUseError, quiet
from broker.keys.files import read_private
from broker.keys.sealing import load_sealing_key
from broker.storage.report import Report, examine
from broker.storage.vault import Place
from broker.telemetry.audit_verify import verify
from broker.wiring import Identities, load_identities
from broker.wiring.listening import unsafe_places
from broker.wiring.sinking import unsafe_sinks

MAX_VERIFIED = 64 * 1024 * 1024
"""Bytes of an audit log that are read: some seconds. ``audit verify`` reads any."""

LITTLE_SPACE = 64 * 1024 * 1024
"""Bytes free on the file system of state or audit log; a busy broker writes so much audit in some hours."""

AUDIT_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""As the daemon opens it: never through a link, which could lead root anywhere, and not waiting for a FIFO."""

WITH_CREDENTIALS = (
    "while the service runs: run this in its mount name space, with "
    "CREDENTIALS_DIRECTORY=/run/credentials/token-broker.service (docs/howto/systemd.md has the line); "
    "before that, where the keys are plain files: CREDENTIALS_DIRECTORY=/etc/credstore"
)
"""What to do about credentials that are there for the unit alone (systemd.exec(5), LoadCredential=)."""

CHUNK = 1 << 16
"""Bytes that are read at once."""


def loaded(settings: Settings) -> tuple[Identities, list[LocalError]]:
    """Load every certificate and key that can be, and say what is wrong with the others."""
    errors: list[LocalError] = []
    identities = load_identities(settings, wall_now=SYSTEM_CLOCK.wall(), on_error=errors.append)
    return identities, errors


def of_keys(case: Case, settings: Settings) -> Iterator[Finding]:
    """Load certificates and keys as a start would, and count their days."""
    place = "keys"
    if not case.may_judge:
        yield skipped(place, case.not_judged, case.judge)
        return
    identities, errors = loaded(settings)
    for error in errors:
        if str(ANY_DIRECTORY) in error.message and not case.has_credentials:
            advice = WITH_CREDENTIALS
            yield skipped(place, f"a credential of the service manager is not there for us: {error.message}", advice)
        else:
            yield of_error(place, error)
    counted = len(identities.certificates) + len(identities.keys) + len(identities.proof_keys)
    if not errors:
        yield ok(place, f"{counted} certificate(s) and key(s) are loaded; only the daemon and root can read the keys")
    ends = {f"certificate.{name}": one.not_after for name, one in identities.certificates.items()}
    ends |= {f"key.{name}": one.not_after for name, one in identities.keys.items() if one.not_after is not None}
    yield from (of_end(name, end, SYSTEM_CLOCK.wall()) for name, end in ends.items())


def of_end(place: str, not_after: float, wall: float) -> Finding:
    """Say how many days are left until *not_after*, at *wall*, both Unix seconds."""
    found = of_certificate(place.partition(".")[2], not_after, wall)
    text, _, advice = found.text.partition(": renew")
    few = (not_after - wall) / DAY < FEW_DAYS
    how = f"renew{advice}, and put the new files in the place of the old: docs/howto/rotate.md"
    if found.wrong:
        return failed(place, text, how)
    return warning(place, text, how) if few else ok(place, text)


def of_places(case: Case, settings: Settings) -> Iterator[Finding]:
    """Judge the directories of sockets, secrets, state, audit log and token files, and the space that there is."""
    place = "directories"
    if not case.may_judge:
        yield skipped(place, case.not_judged, case.judge)
        return
    unsafe = [*unsafe_places(settings), *unsafe_sinks(settings)]
    yield from (of_error(place, error) for error in unsafe)
    if not unsafe:
        yield ok(place, "those of sockets, state, audit log and token files are there, and nobody else can write them")
    audit = None if settings.audit is None else settings.audit.file.parent
    for name, path in (("state_dir", settings.daemon.state_dir), ("audit", audit)):
        if path is not None and path.is_dir():
            yield from _of_space(name, path)


def _of_space(place: str, path: Path) -> Iterator[Finding]:
    found = os.statvfs(path)
    free = found.f_bavail * found.f_frsize
    if free < LITTLE_SPACE:
        tell = warning if free else failed
        yield tell(place, f"{free // 1024} KiB are free on the file system of {path}", "make room there")
    if found.f_files and not found.f_favail:
        yield failed(place, f"the file system of {path} has room for no further file (inodes)", "remove files there")


def of_audit(case: Case, settings: Settings) -> Iterator[Finding]:
    """Verify the audit log, as far as it is not too long."""
    place = "audit"
    if settings.audit is None:
        yield warning(place, "there is no audit log: [audit] enabled is false")
    else:
        yield from _of_log(place, settings.audit, case, is_down=nobody_listens(settings))


def _of_log(place: str, wanted: AuditSettings, case: Case, *, is_down: bool) -> Iterator[Finding]:
    try:
        descriptor = os.open(wanted.file, AUDIT_FLAGS)
    except FileNotFoundError:
        yield _of_no_log(place, wanted.file, is_down=is_down)
    except PermissionError:
        yield skipped(place, f"{wanted.file} may not be read by uid {case.uid}", "run this as root")
    except OSError as error:
        is_link = error.errno == errno.ELOOP
        why = "is a symbolic link" if is_link else f"cannot be opened: {os.strerror(error.errno or 0)}"
        yield failed(
            place, f"{wanted.file} {why}", "the daemon follows none: name the file itself" if is_link else None
        )
    else:
        with os.fdopen(descriptor, "rb") as file:
            yield from _of_opened(place, file, wanted, case)


def _of_opened(place: str, file: BinaryIO, wanted: AuditSettings, case: Case) -> Iterator[Finding]:
    by_hand = f"token-broker audit verify --key KEY {wanted.file}"
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        yield failed(place, f"{wanted.file} is not a file", "something took its place; name another one")
        return
    if not found.st_size:
        yield ok(place, f"{wanted.file} is empty: nothing was recorded in it yet")
        return
    if found.st_size > MAX_VERIFIED:
        yield skipped(place, f"{wanted.file} has {found.st_size // 2**20} MiB, which take long to verify", by_hand)
        return
    report = verify([(str(wanted.file), _chunks(file))], key=_audit_key(wanted, case))
    if report.damaged:
        advice = f"it is not what the daemon wrote: keep a copy, and see {by_hand}"
        yield failed(place, f"{wanted.file}: {report.damaged} finding(s) in {report.records} record(s)", advice)
        return
    lost = f", {report.lost} record(s) lost, as the daemon itself recorded" if report.lost else ""
    proven = "authentic" if report.authenticated else "consistent, not authenticated"
    tell = warning if report.lost else ok
    yield tell(place, f"{wanted.file}: {report.records} record(s), {proven} but for the newest{lost}")


def _of_no_log(place: str, path: Path, *, is_down: bool) -> Finding:
    if is_down:
        return warning(place, f"there is no {path} yet", "the daemon makes it at its start")
    return warning(place, f"there is no {path}, and the daemon makes it at its start", "was it moved away?")


def _audit_key(wanted: AuditSettings, case: Case) -> bytes | None:
    """Give the key of the log; None where there is none for us, which the key check tells."""
    if wanted.key_file is None or not case.may_judge:
        return None
    try:
        return read_private(wanted.key_file)
    except LocalError:
        return None


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def of_store(case: Case, settings: Settings) -> Iterator[Finding]:
    """Look into the store, as ``store check`` does; while a daemon holds it, say so."""
    place = "store"
    if settings.store is None or settings.daemon.state_dir is None:
        yield ok(place, "there is none: tokens are in memory alone, and grants of people need one")
    elif not case.may_judge:
        yield skipped(place, case.not_judged, case.judge)
    elif not settings.daemon.state_dir.is_dir():
        yield ok(place, f"{settings.daemon.state_dir} is made at the first start")
    else:
        is_down = nobody_listens(settings)
        yield from _of_records(place, settings.store, settings.daemon.state_dir, is_down=is_down)


def _of_records(place: str, wanted: StoreSettings, state_dir: Path, *, is_down: bool) -> Iterator[Finding]:
    try:
        with quiet(state_dir):
            sealer = load_sealing_key(wanted.key_file)
            where = Place(directory=state_dir, sealer=sealer, anchor=wanted.anchor, wall=SYSTEM_CLOCK.wall)
            yield from of_report(place, examine(where))
    except StateDirInUseError as error:
        who = error.message.partition(": ")[2]
        yield _of_held(place, who, error, is_down=is_down)
    except LocalError as error:
        if error.code == "store_missing":
            yield ok(place, f"{error.message}; {error.hint}")
            return
        yield of_error(place, error)


def _of_held(place: str, who: str, error: LocalError, *, is_down: bool) -> Finding:
    if is_down:
        text = f"{who} holds it, and is not the daemon of this socket, where nobody answers [{error.code}]"
        return failed(place, text, "stop it, or give this one a state_dir of its own; or it starts or ends just now")
    return ok(place, f"the daemon holds it ({who}), and reads every record at its start; see alarms for the rest")


def of_report(place: str, report: Report) -> Iterator[Finding]:
    """Judge what was found in a store."""
    advice = "token-broker store check names each; docs/reference/store.md says what the daemon does"
    if not report.whole:
        text = f"{report.path} is damaged: at its next start the daemon moves it aside and goes on without it"
        yield failed(place, text, "keep a copy of it first, and put a good one back if there is one")
    if report.contradiction is not None:
        advice_of_anchor = "put back what belongs there; if that is lost: token-broker store accept"
        yield failed(place, CONTRADICTIONS[report.contradiction.value], advice_of_anchor)
    if report.suspects or report.findings:
        yield failed(place, f"{len(report.suspects)} record(s) are suspect, {len(report.findings)} damaged", advice)
    if report.sound:
        yield ok(place, f"{report.path}: {report.records} record(s), all of them sound")
