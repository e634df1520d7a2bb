"""
A broker whose system calls fail or kill it, from the moment in which a refresh begins.

The broker is a real process, and strace(1) makes the kernel do what it is told. strace is attached to one thread
while the broker waits for the metadata of its server, which comes first in a refresh: call number one is the first
one of that thread behind it, however many there were while the broker started.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from broker.keys.sealing import load_sealing_key
from broker.oauth.secret import AccessToken, RefreshToken
from broker.storage.vault import Place, open_vault
from broker.tokens.grant import Grant, SealedAccess
from broker.tokens.storing import Put
from tests.daemon.harness import PATIENCE, POLL, Answer, BrokerProcess, get, wait_until
from tests.daemon.rotating_server import Family, RotatingServer

CONFIG = """
[daemon]
state_dir = "state"
[store]
key = { file = "store.key" }
[audit]
file = "audit.log"
[ops]
listen = "127.0.0.1:0"
[issuer.server]
issuer = "ISSUER"
profile = "oauth2"
allow_insecure_loopback = true
refresh_rotation = "ROTATION"
[client.app]
issuer = "server"
client_id = "our-client"
client_auth_method = "none"
sender_constraint = "none"
redirect_uris = ["http://127.0.0.1/callback"]
[token.person]
client = "app"
grant_type = "authorization_code"
scope = ["read"]
[listener.app]
path = "api.sock"
mode = "0600"
[workload.app]
listener = ["app"]
tokens = ["person"]
may = ["get", "refresh"]
"""

GRANT = "grant-1"

CALLS = (
    *("openat", "close", "read", "write", "pread64", "pwrite64", "fdatasync", "fsync", "ftruncate", "rename", "unlink"),
    *("socket", "connect", "sendto", "sendmsg", "recvfrom", "recvmsg", "accept4", "getsockopt", "shutdown", "fcntl"),
)
"""What a broker does to anything outside itself; the others change nothing that outlives it."""

DISK_CALLS = ("openat", "pread64", "pwrite64", "fdatasync", "fsync", "ftruncate", "rename", "unlink")
"""What a disk can refuse."""

MAIN, WRITER = 0, 1
"""Threads of the broker in the order in which they began: the one of the loop, then that of the store."""

SETTLES = 0.3
"""Seconds in which whatever follows an answer has happened."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The *number*-th *call* of the thread that began as number *thread*."""

    thread: int
    call: str
    number: int

    def __str__(self) -> str:
        return f"{'main' if self.thread == MAIN else f'thread-{self.thread}'}-{self.call}-{self.number}"


@dataclass
class Caller:
    """A workload that waits for the token while the broker goes through a refresh."""

    socket: Path
    answer: Answer | None = None
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        try:
            self.answer = get(self.socket, "/v1/tokens/person?wait=20&min_valid=20")
        except (OSError, ValueError, IndexError):
            self.answer = None  # the broker is gone

    def result(self) -> Answer | None:
        """Wait for the answer; None if there was none."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the caller was left waiting"
        return self.answer

    def has_result(self) -> bool:
        return not self._thread.is_alive()


@dataclass
class Story:
    """One grant, its server, and brokers that come and go on the same directory; *died*: by a system call."""

    home: Path
    server: RotatingServer
    died: bool = False
    family: Family = field(init=False)
    broker: BrokerProcess = field(init=False)

    def __post_init__(self) -> None:
        config = CONFIG.replace("ISSUER", self.server.issuer).replace("ROTATION", self.server.mode)
        (self.home / "config.toml").write_text(config)
        (self.home / "state").mkdir(mode=0o700)
        self.broker = BrokerProcess(
            name="crash",
            directory=self.home,
            arguments=["run", "--config", str(self.home / "config.toml")],
            config=self.home / "config.toml",
            socket=self.home / "api.sock",
            audit=self.home / "audit.log",
        )

    def seed(self, *, good_for: float | None = None) -> None:
        """Put one grant into the store, with an access token that has so many seconds left, or without."""
        grant = Grant(
            id=GRANT,
            token="person",
            owner="app",
            issuer=self.server.issuer,
            client_id="our-client",
            created_at=time.time(),
            scope=("read",),
            refresh_token=RefreshToken(self.server.grant()),
        )
        if good_for is not None:
            access = SealedAccess(
                access_token=AccessToken("the-one-before"),
                token_type="Bearer",
                scope=("read",),
                obtained_at=time.time() - 100,
                expires_at=time.time() + good_for,
                binding="none",
            )
            grant = replace(grant, access=access)
        self.family = self.server.families[-1]
        vault = open_vault(self._place(self.home / "state"))
        vault.commit([Put(name=f"grant/{GRANT}", value=grant.to_bytes())])
        vault.close()

    def begin(self) -> Caller:
        """Start the broker, with a caller that waits, and stop where the refresh is about to begin."""
        self.server.hold_description()
        self.start()
        caller = Caller(self.broker.socket)
        assert self.server.described.wait(PATIENCE), self.broker.said()
        time.sleep(5 * POLL)
        return caller

    def start(self) -> None:
        """Start the broker and wait until somebody can connect to it."""
        started = self._started()
        self.broker.start()

        def listens() -> bool:
            assert self.broker.running(), self.broker.said()
            return self._started() > started

        wait_until(listens, "the broker listens")

    def _started(self) -> int:
        """Count the brokers that said they serve: a socket is there before it can be connected to."""
        return self.broker.said().count('"daemon_started"') if self.broker.out.exists() else 0

    def kill(self) -> None:
        self.broker.stop(signal.SIGKILL)

    def sent(self) -> list[str]:
        """Give the refresh tokens of this grant that the server was asked with, in their order."""
        asked = (request["refresh_token"] for request in self.server.requests)
        return [token for token in asked if token in self.family.tokens]

    def knows_newest(self) -> bool:
        """Say whether the next broker will find the refresh token in its store that works."""
        token = self.stored().refresh_token
        return token is not None and token.reveal() == self.family.tokens[-1]

    def stored(self) -> Grant:
        """Read the grant as the next broker will, from a copy."""
        copy = self.home / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.home / "state", copy)
        vault = open_vault(self._place(copy))
        records = {record.name: record.value for record in vault.records()}
        vault.close()
        return Grant.from_bytes(records[f"grant/{GRANT}"])

    def _place(self, directory: Path) -> Place:
        return Place(directory=directory, sealer=load_sealing_key(self.home / "store.key"), anchor=None, wall=time.time)


@contextmanager
def traced(pid: int, thread: int, *options: str) -> Iterator[None]:
    """Attach strace to one thread of *pid* and wait until it is; the process may die under it."""
    threads = sorted(int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir())
    command = ["strace", "-e", "signal=none", "-p", str(threads[thread]), *options]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, bufsize=1)
    assert strace.stderr is not None
    first = strace.stderr.readline()
    assert "attached" in first, first
    try:
        yield
    finally:
        strace.send_signal(signal.SIGINT)
        strace.communicate(timeout=PATIENCE)


def moments_of(story: Story) -> list[Moment]:
    """Go through one refresh without faults; give the system calls of both threads."""
    traces = {thread: story.home / f"trace-{thread}" for thread in (MAIN, WRITER)}
    caller = story.begin()
    with ExitStack() as stack:
        for thread, trace in traces.items():
            options = ("-o", str(trace), "-e", f"trace={','.join(CALLS)}")
            stack.enter_context(traced(story.broker.pid, thread, *options))
        story.server.release()
        answer = caller.result()
        time.sleep(SETTLES)
    assert answer is not None
    assert answer.status == 200
    story.kill()
    return [moment for thread, trace in traces.items() for moment in counted(thread, trace.read_text().splitlines())]


def killed_at(story: Story, moment: Moment) -> Caller:
    """Let the broker be killed at *moment* of a refresh, or behind it where it does not come; give who waited."""
    caller = story.begin()
    inject = f"inject={moment.call}:signal=KILL:when={moment.number}"
    with traced(story.broker.pid, moment.thread, "-o", "/dev/null", "-e", f"trace={moment.call}", "-e", inject):
        story.server.release()
        wait_until(lambda: caller.has_result() or not story.broker.running(), "the end of the refresh")
        deadline = time.monotonic() + SETTLES
        while story.broker.running() and time.monotonic() < deadline:
            time.sleep(POLL)
        story.died = not story.broker.running()
    story.kill()
    caller.result()
    time.sleep(5 * POLL)  # a request that is on its way to the server is processed
    return caller


def refused_at(story: Story, moment: Moment, error: str, *, on: bool, patience: float) -> Caller:
    """
    Let the *moment* of a refresh fail with *error*, with *on* every later call of the kind, too.

    That ends when the caller has its answer, or after *patience* seconds; the broker runs on.
    """
    caller = story.begin()
    inject = f"inject={moment.call}:error={error}:when={moment.number}{'+' if on else ''}"
    with traced(story.broker.pid, moment.thread, "-o", "/dev/null", "-e", f"trace={moment.call}", "-e", inject):
        story.server.release()
        deadline = time.monotonic() + patience
        while not caller.has_result() and time.monotonic() < deadline:
            time.sleep(POLL)
        time.sleep(SETTLES)
    return caller


def counted(thread: int, lines: Sequence[str]) -> list[Moment]:
    """Number the calls in a trace, each among those of its kind."""
    names = [match[1] for line in lines if (match := re.match(r"(\w+)\(", line))]
    counts: Counter[str] = Counter()
    moments = []
    for name in names:
        counts[name] += 1
        moments.append(Moment(thread, name, counts[name]))
    return moments
