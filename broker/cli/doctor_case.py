"""
Whom ``doctor`` looks at, and as whom.

A file is safe or not for the user that the daemon runs as. Root therefore looks as that user, and anybody else
says what only that user can know.
"""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.api.peers import UCRED
from broker.cli.check import ANY_DIRECTORY
from broker.cli.environment import SOCKET, config_path, credentials_directory, socket_path
from broker.cli.findings import Finding, failed, of_error, ok, skipped, warning
from broker.cli.local_client import Daemon
from broker.config.load import ConfigurationError, load_settings
from broker.config.settings import ListenerSettings, Settings
from broker.errors import BrokerError, LocalError

SECONDS = 2.0
"""For a connection to a Unix socket: a daemon that takes longer is the socket check's to tell."""

INIT = 1
"""Process id of the service manager, which opens the sockets of a unit that it activates by them."""

ROOT = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """The process that opened a socket, and its user and group, as the kernel saw them then (unix(7), SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    What there is to look at.

    *runs_as* is the user of the daemon, as far as that is known; *uid* ours. *has_credentials*: credentials of a
    service manager can be read.
    """

    daemons: tuple[Daemon, ...]
    runs_as: int | None = None
    uid: int
    has_credentials: bool = False

    @property
    def may_judge(self) -> bool:
        """Whether a file is to us what it is to the daemon."""
        return self.runs_as in {None, self.uid}

    @property
    def not_judged(self) -> str:
        """Why not."""
        return f"not looked at: the daemon runs as uid {self.runs_as}, and this is uid {self.uid}"

    @property
    def judge(self) -> str:
        """Who can."""
        return f"run this as root, or as uid {self.runs_as}"


def runner_of(daemon: Daemon) -> Runner | None:
    """Say who opened the socket *daemon*; None over TCP, and where nobody listens or we may not connect."""
    if not isinstance(daemon, Path):
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        try:
            connection.connect(str(daemon))
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
        except OSError:
            return None
    pid, uid, gid = UCRED.unpack(raw)
    return Runner(pid=pid, uid=uid, gid=gid)


def daemons_of(given: str | None, settings: Settings | None, variables: Mapping[str, str]) -> tuple[Daemon, ...]:
    """Say where to ask: where it is said, else at each Unix socket of the configuration. Raises LocalError."""
    if given is None and not variables.get(SOCKET) and settings is not None:
        paths = [one.path for one in settings.listeners if isinstance(one, ListenerSettings) and one.upstream is None]
        if paths:
            return tuple(paths)
    return (socket_path(given, variables),)


def configured(given: Path | None, variables: Mapping[str, str]) -> Path | None:
    """Give the path of the configuration that is meant, if one is."""
    try:
        return config_path(given, variables)
    except LocalError:
        return None


def owner_of(config: Path | None, settings: Settings | None, daemons: Sequence[Daemon]) -> tuple[int, int] | None:
    """
    Guess the user and the group of a daemon that cannot be asked: those of what it made, or of its configuration.

    Nothing is guessed from what belongs to root: a service manager opens sockets, and audit logs are put in place.
    """
    made: list[Path | None] = [daemon for daemon in daemons if isinstance(daemon, Path)]
    if settings is not None:
        made += [settings.daemon.state_dir, None if settings.audit is None else settings.audit.file]
    for path in (*made, config):  # the file may be theirs, and is root's more often
        try:
            found = None if path is None else path.stat()
        except OSError:
            continue
        if found is not None and found.st_uid != ROOT:
            return found.st_uid, found.st_gid
    return None


def become(uid: int, gid: int, pid: int | None) -> None:
    """Become the user that the daemon runs as, with the groups of process *pid*, for good. For root alone."""
    os.setgroups(_groups_of(pid))
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _groups_of(pid: int | None) -> list[int]:
    """Give the supplementary groups of a process (proc_pid_status(5)); none where they cannot be read."""
    try:
        text = "" if pid is None else Path(f"/proc/{pid}/status").read_text("ascii")
    except (OSError, UnicodeError):
        return []
    return [int(number) for line in text.splitlines() if line.startswith("Groups:") for number in line.split()[1:]]


def read_configuration(
    given: Path | None, variables: Mapping[str, str], *, stranger: bool
) -> tuple[Settings | None, list[Finding]]:
    """
    Load the configuration, and say what there is to say of it; None where there is none that could be used.

    *stranger*: we are not the user that the daemon runs as, so that we need not be able to read it, nor trust whose
    file it is: such problems have no place in it.
    """
    place = "configuration"
    try:
        path = config_path(given, variables)
    except LocalError as error:
        return None, [skipped(place, "none was named", error.hint)]
    try:
        settings = load_settings(path, credentials_directory=credentials_directory(variables) or ANY_DIRECTORY)
    except ConfigurationError as error:
        if stranger and isinstance(error.__cause__, PermissionError):
            told = skipped(place, error.message, "run this as root, or as the user of the daemon")
            return None, [told]
        foreign = stranger and _parses(path) and not any(one.path for one in error.problems)
        tell = skipped if foreign else failed
        found = [tell(f"{place} {one.path}".rstrip(), one.message, one.hint) for one in error.problems]
        return None, found or [of_error(place, error)]
    except BrokerError as error:
        return None, [of_error(place, error)]
    doubts = [warning(f"{place} {one.path}".rstrip(), one.message, one.hint) for one in settings.warnings]
    count = f"{len(settings.tokens)} token(s), {len(settings.listeners)} listener(s)"
    return settings, [ok(place, f"{settings.path}: no mistake, {count}"), *doubts]


def _parses(path: Path) -> bool:
    """Say whether a file is TOML, so that what is wrong with it as a whole is whose it is."""
    try:
        tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return True
