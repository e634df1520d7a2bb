"""What ``doctor`` asks a daemon that runs, or finds out about one that does not: sockets, tokens, its own alarms."""

from __future__ import annotations

import grp
import http.client
import ipaddress
import os
import pwd
import re
import shlex
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from broker import __version__
from broker.cli.doctor_case import INIT, ROOT, Case, Runner, nobody_listens, runner_of
from broker.cli.findings import Finding, Level, failed, of_error, ok, skipped, warning
from broker.cli.local_client import Daemon, Status, TokenState, get_status, request_json
from broker.cli.tables import duration
from broker.config.settings import OpsSettings, Settings
from broker.errors import BrokerError, LocalError, RemoteError
from broker.hostenv.clock import SYSTEM_CLOCK

PATIENCE = 5.0
"""Seconds for an answer of the local API, which takes milliseconds."""

MAX_TOLD = 20
"""Tokens that are named: 10,000 of one broken issuer say no more than the first."""

MAX_METRICS = 1 << 26
"""Bytes; those of 10,000 tokens are some megabytes."""

GOOD = frozenset({"fresh", "idle"})
SERVED = frozenset({*GOOD, "stale"})

LOG = "its log says what it does: journalctl -u token-broker, or wherever its standard error goes"


SINK_SERIES = re.compile(r'(\w+)\{(?:outcome="failed",)?sink="([^"]*)"\} (\S+)')
"""A line of what the daemon counts of a token file that may tell a failure; names need no escapes."""

COMMANDS = frozenset({b"token-broker", b"broker"})
"""How a process of ours is called: by its program, or ``python -m broker``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """
    What the daemon says of itself: *plain* are the values without labels, by their names.

    *sink_failures* counts the writes of each token file that failed; *sink_ends* are the Unix times at which the
    tokens in them end, for those that are there.
    """

    plain: dict[str, float] = field(default_factory=dict)
    sink_failures: dict[str, float] = field(default_factory=dict)
    sink_ends: dict[str, float] = field(default_factory=dict)


def started(case: Case) -> str:
    """Give the advice to start the daemon."""
    config = "FILE" if case.config is None else shlex.quote(str(case.config))
    how = f"systemctl start token-broker, or token-broker run --config {config}"
    return f"start the daemon: {how}; or name the socket that it has with --socket"


def of_sockets(case: Case) -> Iterator[Finding]:
    """Look at each socket: is it there, who may connect, does somebody answer, and who is that."""
    for daemon in case.daemons:
        yield from _of_socket(daemon, case)


def _of_socket(daemon: Daemon, case: Case) -> Iterator[Finding]:
    place = f"socket {daemon}"
    if isinstance(daemon, Path):
        found = _file_of(daemon, place, case)
        yield found
        if found.level is not Level.OK:
            return
    try:
        request_json(daemon, "/livez", timeout=PATIENCE)
    except BrokerError as error:
        if isinstance(error.__cause__, PermissionError):
            advice = f"run this as root, or as somebody whom they let; {error.hint}"
            yield skipped(place, f"uid {case.uid} may not connect, so nothing is known of who answers", advice)
        else:
            is_away = isinstance(error.__cause__, ConnectionRefusedError)
            advice = started(case) if is_away else error.hint or LOG
            yield failed(place, f"{error.message} [{error.code}]", advice)
        return
    yield _answering(daemon, place)


def _file_of(path: Path, place: str, case: Case) -> Finding:
    """Look at the file of a socket."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return failed(place, "there is none", started(case))
    except OSError as error:
        why = os.strerror(error.errno or 0)
        return skipped(place, f"may not be looked at by uid {case.uid}: {why}", "run this as root")
    if not stat.S_ISSOCK(found.st_mode):
        return failed(place, "is no socket", "the path of the listener is another one, or something took its place")
    mode = stat.S_IMODE(found.st_mode)
    owner, group = _named(found.st_uid, _user), _named(found.st_gid, _group)
    whom = [owner] if mode & stat.S_IWUSR else []
    whom += [f"the group {group}"] if mode & stat.S_IWGRP else []
    whom = ["everybody"] if mode & stat.S_IWOTH else whom
    return ok(place, f"is there, mode {mode:04o}: {' and '.join(whom) or 'nobody'} may connect")


def _named(number: int, name: Callable[[int], str]) -> str:
    try:
        return f"{name(number)} ({number})"
    except KeyError:
        return str(number)


def _user(uid: int) -> str:
    return pwd.getpwuid(uid).pw_name


def _group(gid: int) -> str:
    return grp.getgrgid(gid).gr_name


def _answering(daemon: Daemon, place: str) -> Finding:
    """Say who answers."""
    runner = runner_of(daemon)
    who = "" if runner is None else f", {_opener(runner)}"
    try:
        version = request_json(daemon, "/openapi.json", timeout=PATIENCE)["info"]["version"]
    except (BrokerError, KeyError, TypeError):
        return ok(place, f"answers{who}; it does not tell its version")
    if version != __version__:
        text = f"answers{who}: version {version}, and this command is {__version__}"
        return warning(place, text, "restart the daemon, if it was upgraded")
    return ok(place, f"answers{who}, version {version}")


def _opener(runner: Runner) -> str:
    try:
        by_init = runner.pid == INIT and not is_ours(Path(f"/proc/{INIT}/cmdline").read_bytes())
    except OSError:
        by_init = False  # not known, so not said
    return "opened by the service manager" if by_init else f"process {runner.pid} of uid {runner.uid}"


def is_ours(command: bytes) -> bool:
    """Say whether a process with this *command* (proc_pid_cmdline(5)) is a broker, as process 1 of a container is."""
    words = command.rstrip(b"\0").split(b"\0")
    return b"run" in words and any(word.rpartition(b"/")[2] in COMMANDS for word in words)


def of_tokens(case: Case) -> Iterator[Finding]:
    """Ask for the states of the tokens, and whether the configuration in force is the one in the file."""
    status: Status | None = None
    refused: BrokerError | None = None
    for daemon in case.daemons:
        try:
            status = get_status(daemon)
            break
        except BrokerError as error:
            refused = error
    if status is None:
        is_no = isinstance(refused, RemoteError) or (refused and isinstance(refused.__cause__, PermissionError))
        why = f"the daemon is not for uid {case.uid}" if is_no else "no daemon answers"
        yield skipped("tokens", f"{why}, so their states are not known", "run this as root" if is_no else None)
        return
    yield from _of_states(status)
    yield from _of_reloads(status, case)


def _of_states(status: Status) -> Iterator[Finding]:
    good = [token for token in status.tokens if token.state in GOOD]
    bad = [token for token in status.tokens if token.state not in GOOD]
    if good or not bad:
        yield ok("tokens", f"{len(good)} of {len(status.tokens)} that may be seen are fresh, or wait for a caller")
    bad.sort(key=lambda token: (not token.required, not _is_failure(token)))
    yield from (_of_token(token) for token in bad[:MAX_TOLD])
    if len(bad) > MAX_TOLD:
        yield warning("tokens", f"{len(bad) - MAX_TOLD} more are not well", "see token-broker status")
    if not status.ready:
        yield failed("tokens", "the daemon is not ready: a required token cannot be served")


def _is_failure(token: TokenState) -> bool:
    return token.state == "unavailable" or (bool(token.required) and token.state not in SERVED)


def _of_token(token: TokenState) -> Finding:
    reason = "" if token.reason is None else f" ({token.reason})"
    after = "" if token.retry_in is None else f"; the next try is in {duration(token.retry_in)}"
    tell = failed if _is_failure(token) else warning
    advice = token.hint or ("docs/reference/reasons.md says what this reason means" if token.reason else None)
    return tell(f"token.{token.name}", f"{token.state}{reason}{after}", advice)


def _of_reloads(status: Status, case: Case) -> Iterator[Finding]:
    place = "running configuration"
    if status.reload_refused:
        advice = "mend the file (token-broker check), then reload: kill -HUP, or systemctl reload"
        yield failed(place, "the last reload was refused: an older configuration is in force", advice)
    if status.restart:
        yield warning(place, f"changes of {', '.join(status.restart)} wait for a restart", "restart the daemon")
    if status.reload_refused or status.restart:
        return
    if case.uid in {ROOT, case.runs_as}:
        yield ok(place, "no reload was refused, and nothing waits for a restart")
    else:
        yield skipped(place, f"uid {case.uid} is not told whether a reload was refused", "run this as root")


def of_alarms(case: Case, settings: Settings) -> Iterator[Finding]:
    """Read what the daemon itself says of its audit log and its store, in its metrics."""
    place = "alarms"
    ops = settings.ops
    if ops is None or ops.port == 0:
        why = "there is no ops listener" if ops is None else "the ops listener has another port at each start"
        yield skipped(place, f"not read: {why}")
        return
    if _waits_for_restart(case):
        yield skipped(place, "not read: a change of [ops] waits for a restart", "restart the daemon")
        return
    is_down = nobody_listens(settings)
    try:
        metrics = parse_metrics(_fetched(ops))
    except LocalError as error:
        yield skipped(place, f"not read: {error.message}") if is_down else of_error(place, error)
        return
    if is_down:
        text = f"somebody else has the ops listener's place, {ops.host} port {ops.port}: the daemon does not answer"
        yield failed(place, text, "stop that one, or give this one another port: [ops] listen")
        return
    yield from of_metrics(metrics, SYSTEM_CLOCK.wall())


def _waits_for_restart(case: Case) -> bool:
    """Say whether the daemon still has another ops listener than its file names."""
    for daemon in case.daemons:
        try:
            return "ops" in get_status(daemon).restart
        except BrokerError:
            continue  # which is told with the socket
    return False


def of_metrics(found: Metrics, wall: float) -> Iterator[Finding]:
    """Judge what the daemon says of itself, at the Unix time *wall*."""
    metrics = found.plain
    if metrics.get("token_broker_audit_healthy") == 0:
        yield failed("audit", "the daemon cannot write its audit log", "look at space and permissions of its directory")
    gaps = metrics.get("token_broker_audit_gaps_total", 0)
    if gaps:
        yield warning(
            "audit", f"{gaps:.0f} time(s) since its start records could not be written", "see audit_gap events"
        )
    if metrics.get("token_broker_store_degraded"):
        text = "the daemon cannot write its store: what it got since then is in memory alone"
        yield failed("store", text, "do not stop it before that is mended: look at space and permissions of state_dir")
    for sink, count in found.sink_failures.items():
        if count:
            yield _of_sink(sink, count, found.sink_ends.get(sink), wall)
    yield ok("alarms", f"{len(metrics)} metrics were read from the ops listener")


def _of_sink(name: str, count: float, end: float | None, wall: float) -> Finding:
    """Judge a token file that could not always be written: it fails while there is no token in it that lasts."""
    text = f"{count:.0f} time(s) since the daemon's start the token file could not be written"
    advice = "the log says why (sink_write_failed): look at space and permissions of its directory"
    if end is None or end <= wall:
        return failed(f"sink.{name}", f"{text}, and there is no good token in it now", advice)
    return warning(f"sink.{name}", f"{text}; its token is good for {duration(int(end - wall))}", advice)


def _fetched(ops: OpsSettings) -> str:
    """Fetch the metrics. Raises LocalError."""
    address = ipaddress.ip_address(ops.host)
    anywhere = "127.0.0.1" if address.version == 4 else "::1"
    connection = http.client.HTTPConnection(
        anywhere if address.is_unspecified else ops.host, ops.port, timeout=PATIENCE
    )
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read(MAX_METRICS).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        message = f"nobody answers at the ops listener, {ops.host} port {ops.port}"
        raise LocalError("ops_unreachable", message, hint=LOG) from error
    finally:
        connection.close()


def parse_metrics(text: str) -> Metrics:
    """Read what is wanted of the text format of Prometheus."""
    found = Metrics()
    of_sinks = {
        "token_broker_sink_writes_total": found.sink_failures,
        "token_broker_sink_token_expires_timestamp_seconds": found.sink_ends,
    }
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name.startswith("token_broker_") and "{" not in name:
            found.plain[name] = float(value)
        elif (sink := SINK_SERIES.fullmatch(line)) and sink[1] in of_sinks:
            of_sinks[sink[1]][sink[2]] = float(sink[3])
    return found
