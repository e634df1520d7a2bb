"""
Whom ``doctor`` looks at, and as whom.

A file is safe or not for the user that the daemon runs as. Root therefore looks as that user, and anybody else
says what only that user can know.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.api.peers import GID, UCRED, supplementary_groups
from broker.cli.check import ANY_DIRECTORY
from broker.cli.environment import SOCKET, config_path, credentials_directory, socket_path
from broker.cli.findings import Finding, failed, of_error, ok, skipped, warning
from broker.cli.local_client import Daemon
from broker.config.load import ConfigurationError, load_settings
from broker.config.settings import ListenerSettings, Settings, TcpListenerSettings
from broker.errors import BrokerError, LocalError

SECONDS = 2.0
"""For a connection to a Unix socket: a daemon that takes longer is the socket check's to tell."""

INIT = 1
"""Process id of the service manager, which opens the sockets of a unit that it activates by them."""

ELSEWHERE = 0
"""Process id of whoever has none in our namespace: that of a daemon in a container, say."""

ROOT = 0
NOBODY = 65_534
"""The user of ids that mean nothing here (user_namespaces(7))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """
    The process that opened a socket, its user and its groups, as the kernel saw them then (unix(7), SO_PEERCRED).

    *groups* are the supplementary ones; none of a process that is not the daemon, or not of our process namespace.
    """

    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    What there is to look at.

    *runs_as* is the user of the daemon, as far as that is known; *uid* ours. *has_credentials*: credentials of a
    service manager can be read. *config* is the file that is meant, if one is.
    """

    daemons: tuple[Daemon, ...]
    runs_as: int | None = None
    uid: int
    has_credentials: bool = False
    config: Path | None = None

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
            ucred = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
            groups = supplementary_groups(connection.getsockopt)
            return parse_runner(ucred, groups)
        except (OSError, struct.error):
            return None


def parse_runner(ucred: bytes, groups: bytes) -> Runner:
    """Read what the two socket options gave. Raises struct.error for bytes that are neither."""
    pid, uid, gid = UCRED.unpack(ucred)
    is_known = pid not in {INIT, ELSEWHERE}
    return Runner(pid=pid, uid=uid, gid=gid, groups=tuple(g for (g,) in GID.iter_unpack(groups)) if is_known else ())


def tells_nothing(runner: Runner, uid: int) -> bool:
    """
    Say whether *runner* does not tell the user of the daemon to us, who have *uid*.

    The service manager opens sockets for others. And root does not believe in a daemon of root's before its files
    say so, too: the daemon's user could have put a link to another socket in the place of its own, for root to go on
    as root.
    """
    return runner.pid == INIT or (uid == ROOT and runner.uid == ROOT)


def daemons_of(given: str | None, settings: Settings | None, variables: Mapping[str, str]) -> tuple[Daemon, ...]:
    """Say where to ask: where it is said, else at each Unix socket of the configuration. Raises LocalError."""
    if given is None and not variables.get(SOCKET) and settings is not None:
        paths = [one.path for one in settings.listeners if isinstance(one, ListenerSettings) and one.upstream is None]
        if paths:
            return tuple(paths)
    return (socket_path(given, variables),)


def nobody_listens(settings: Settings) -> bool:
    """Say whether it is sure that nobody listens at any address of a configuration: its daemon does not serve."""
    return not any(_may_listen(one) for one in settings.listeners)


def _may_listen(wanted: ListenerSettings | TcpListenerSettings) -> bool:
    address: str | tuple[str, int]
    if isinstance(wanted, ListenerSettings):
        family, address = socket.AF_UNIX, str(wanted.path)
    else:
        family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
        address = (wanted.host, wanted.port)
    with socket.socket(family) as connection:
        connection.settimeout(SECONDS)
        try:
            connection.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:  # we may not connect, or it takes long: somebody may be there
            return True
    return True


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
    A link in the place of a socket or a log counts as itself: whoever made it may have let it lead to root's. Nor from
    what belongs to nobody: so a state directory looks whose ids are mapped for the service alone (systemd 257).
    """
    looks = [daemon.lstat for daemon in daemons if isinstance(daemon, Path)]
    if settings is not None:
        looks += [] if settings.daemon.state_dir is None else [settings.daemon.state_dir.stat]
        looks += [] if settings.audit is None else [settings.audit.file.lstat]
    looks += [] if config is None else [config.stat]  # the file may be theirs, and is root's more often
    for look in looks:
        try:
            found = look()
        except OSError:
            continue
        if found.st_uid not in (ROOT, NOBODY):
            return found.st_uid, found.st_gid
    return None


def become(uid: int, gid: int, groups: Sequence[int]) -> bool:
    """
    Become the user that the daemon runs as, for good; False, and nothing has changed, if we may not. For root alone.

    Each right is tried where that can be taken back, because half a change would be worse than none. Raises OSError
    where the kernel fails all the same, behind which nothing must go on.
    """
    user, group = os.getresuid(), os.getresgid()
    try:
        os.setresuid(-1, -1, uid)
        os.setresgid(-1, -1, gid)
        os.setgroups(groups)
    except OSError:
        os.setresgid(*group)
        os.setresuid(*user)
        return False
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    return True


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
        foreign = stranger and error.is_toml and not any(one.path for one in error.problems)
        tell = skipped if foreign else failed
        found = [tell(f"{place} {one.path}".rstrip(), one.message, one.hint) for one in error.problems]
        return None, found or [of_error(place, error)]
    except BrokerError as error:
        return None, [of_error(place, error)]
    doubts = [warning(f"{place} {one.path}".rstrip(), one.message, one.hint) for one in settings.warnings]
    count = f"{len(settings.tokens)} token(s), {len(settings.listeners)} listener(s)"
    return settings, [ok(place, f"{settings.path}: no mistake, {count}"), *doubts]
