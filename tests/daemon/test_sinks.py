"""Token files with a real broker: what a program that can only read a file finds there, and what its hook is given."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.harness import (
    UID_A,
    BrokerProcess,
    SandboxProcess,
    broker_process,
    get,
    sandbox_process,
    wait_until,
)
from tests.daemon.test_consent import place as consent_place
from tests.daemon.test_consent import send

LIFETIME = 6
"""Seconds: a token is refreshed after half of it, and a test sees it end."""

IS_ROOT = os.geteuid() == 0
OWNER = UID_A if IS_ROOT else os.geteuid()
GROUP = UID_A if IS_ROOT else os.getegid()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("sinks"), lifetime=LIFETIME) as process:
        yield process


@pytest.fixture
def place(sandbox: SandboxProcess) -> Iterator[Path]:
    """A directory that others can pass through, with one in it that the owner of the file can write."""
    sandbox.control.clear_faults()
    (sandbox.home / "audit.log").unlink(missing_ok=True)
    for old in sandbox.directory.glob("sunk.*"):
        old.unlink()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        out = Path(directory, "out")
        out.mkdir()
        os.chown(out, OWNER, GROUP)
        yield Path(directory)


def section(path: Path, more: str = "", *, name: str = "app", form: str = "json") -> str:
    owner = f"owner = {OWNER}\ngroup = {GROUP}\n" if IS_ROOT else ""
    return f'[sink.{name}]\ntoken = "demo"\npath = "{path}"\nformat = "{form}"\n{owner}{more}\n'


def configured(sandbox: SandboxProcess, *sections: str) -> str:
    return (sandbox.home / "config.toml").read_text() + "\n".join(("", *sections))


def hooked(place: Path, script: str, timeout: int = 10) -> str:
    """Give the lines of a hook that runs *script* in the directory that it can write."""
    program = place / "hook"
    program.write_text(f"#!/bin/sh\ncd {place / 'out'}\n{script}\n")
    program.chmod(0o755)
    return f'hook = ["{program}", "an argument"]\nhook_timeout_seconds = {timeout}'


def reload(broker: BrokerProcess, text: str) -> None:
    before = len(broker.log("configuration_loaded"))
    broker.config.write_text(text)
    assert broker.process is not None
    broker.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(broker.log("configuration_loaded")) > before, "the configuration is loaded")


def content(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_bytes()))


def token_in(path: Path) -> str | None:
    """Give the token in a file of JSON, None while there is none: it may come and go while a test looks."""
    try:
        return str(content(path)["access_token"])
    except (FileNotFoundError, ValueError):
        return None


def keep_secret(broker: BrokerProcess, path: Path) -> str:
    """Take in the token of a file as something that must come out nowhere."""
    token = str(content(path)["access_token"])
    broker.secrets.add(token)
    return token


def test_a_file_holds_what_a_caller_gets_and_the_next_one_in_time(sandbox: SandboxProcess, place: Path):
    """With owner, group and mode, and a record of each before it; the members are those of the local API."""
    path = place / "token.json"
    with broker_process(sandbox, config=configured(sandbox, section(path)), name="sunk") as broker:
        broker.wait_for("sink_written")
        first, served = content(path), broker.token().json()
        keep_secret(broker, path)
        found = path.stat()
        wait_until(lambda: token_in(path) not in {None, first["access_token"]}, "a refresh reaches the file")
        second = keep_secret(broker, path)
        records = broker.records("token_filed")
        metrics = broker.ops("/metrics").body.decode()

        assert first == {name: served[name] for name in first}
        assert set(served) - set(first) == {"expires_in", "stale"}
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o640, OWNER, GROUP)
        assert second == broker.token().json()["access_token"]
        assert len(records) >= 2
        assert {(record["sink"], record["token"], record["path"]) for record in records} == {("app", "demo", str(path))}
        assert 'token_broker_sink_writes_total{outcome="written",sink="app"}' in metrics
        assert 'token_broker_sink_token_expires_timestamp_seconds{sink="app"}' in metrics
        assert sorted(one.name for one in place.iterdir()) == ["out", "token.json"]


def test_the_bare_token_is_the_whole_of_a_text_file(sandbox: SandboxProcess, place: Path):
    """``$(cat FILE)`` is it, and so is what a library reads."""
    path = place / "token"
    with broker_process(sandbox, config=configured(sandbox, section(path, form="text")), name="sunk") as broker:
        broker.wait_for("sink_written")

        assert path.read_text() == broker.token().json()["access_token"]


def test_who_reads_again_and_again_never_sees_half_a_token_or_one_that_has_ended(sandbox: SandboxProcess, place: Path):
    """Over three lifetimes, the last of them with the server down: then there is no file."""
    path = place / "token.json"
    seen: set[str] = set()
    wrong: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                raw = path.read_bytes()
            except FileNotFoundError:
                continue
            now = time.time()
            try:
                members = json.loads(raw)
            except ValueError:
                wrong.append(f"torn: {len(raw)} bytes")
                continue
            seen.add(members["access_token"])
            if members["expires_at"] <= now:
                wrong.append(f"ended {now - members['expires_at']} s ago")

    with broker_process(sandbox, config=configured(sandbox, section(path)), name="sunk") as broker:
        reader = threading.Thread(target=read)
        reader.start()
        try:
            wait_until(lambda: len(seen) >= 3, "three tokens were read")
            sandbox.control.fault("token", "status", status=503, times=1_000)
            gone = broker.wait_for("sink_file_removed")
            there = path.exists()
            sandbox.control.clear_faults()
            wait_until(path.exists, "the file is back")
        finally:
            done.set()
            reader.join()

        assert wrong == []
        assert gone["reason"] == "expired"
        assert not there
        assert broker.records("sink_file_removed")[0]["sink"] == "app"


def test_the_file_stays_when_the_broker_stops_and_is_replaced_when_it_is_back(sandbox: SandboxProcess, place: Path):
    """A restart disturbs no program, and after a crash nothing half-written is left."""
    path, litter = place / "token.json", place / ".token.json.new"
    with broker_process(sandbox, config=configured(sandbox, section(path)), name="sunk") as broker:
        broker.wait_for("sink_written")
        broker.stop()
        after_stop = content(path)["access_token"]
        litter.write_text("half a tok")
        broker.up()
        wait_until(lambda: token_in(path) not in {None, after_stop}, "the file is replaced")
        keep_secret(broker, path)
        broker.stop(signal.SIGKILL)
        stays = path.exists()
        broker.up()
        wait_until(lambda: len(broker.log("sink_written")) >= 3, "the file is written again")

        assert stays
        assert not litter.exists()


def test_an_old_file_of_which_nothing_is_known_is_removed_at_the_start(sandbox: SandboxProcess, place: Path):
    """Nobody can tell whether what is in it is good."""
    path = place / "token.json"
    path.write_text("an-old-token")
    sandbox.control.fault("token", "status", status=503, times=1_000)

    with broker_process(sandbox, config=configured(sandbox, section(path)), name="sunk", ready=False) as broker:
        gone = broker.wait_for("sink_file_removed")

        assert gone["reason"] == "outdated"
        assert not path.exists()


def test_a_killed_writer_leaves_the_old_file_or_the_new(place: Path):
    """Wherever it is hit; and whoever starts next removes what is half-written."""
    path = place / "token"
    program = (
        "import itertools, sys; from pathlib import Path\n"
        "from broker.sinks.files import Mark, write; from broker.sinks.spec import Sink\n"
        f"sink = Sink(name='app', token='demo', path=Path({str(path)!r}), mode=0o640)\n"
        "for n in itertools.count():\n"
        "    write(sink, b'%07d' % n * 5000, Mark(token='demo', written_at=1, ends_at=2))\n"
        "    n or print('begun', flush=True)\n"
    )
    for turn in range(8):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.01 + turn * 0.007)
            writer.kill()
        whole = path.read_bytes()

        assert len(whole) == 35_000
        assert whole == whole[:7] * 5_000

    prepared = (
        "from pathlib import Path; from broker.sinks.place import prepare; from broker.sinks.spec import Sink\n"
        f"prepare(Sink(name='app', token='demo', path=Path({str(path)!r}), mode=0o640))\n"
    )
    subprocess.run([sys.executable, "-c", prepared], check=True)
    assert sorted(one.name for one in place.iterdir()) == ["out", "token"]


FACTS = """
{ env; echo "arguments=$# $1"; } > facts.new
ls -l /proc/self/fd > descriptors
grep -E '^(Uid|Gid|Groups|NoNewPrivs|CapEff|CapAmb|SigBlk)' /proc/self/status >> facts.new
for f in mem environ fd maps; do
  if cat /proc/$PPID/$f > broker.$f 2> /dev/null || ls /proc/$PPID/fd > broker.fd 2> /dev/null; then
    echo "read=$f" >> facts.new
  fi
done
cut -d ' ' -f 6 /proc/self/stat | sed 's/^/session=/' >> facts.new
echo "pid=$$" >> facts.new
cat "$TOKEN_BROKER_SINK_FILE" > token
echo canary-on-stdout; echo canary-on-stderr >&2
mv facts.new facts
"""


def test_a_hook_gets_the_name_of_the_file_and_nothing_else_of_the_broker(sandbox: SandboxProcess, place: Path):
    """No descriptor, no variable, no privilege, not our memory; a session and, under root, a user of its own."""
    path, facts = place / "token.json", place / "out" / "facts"
    config = configured(sandbox, section(path, hooked(place, FACTS)))
    with broker_process(sandbox, config=config, name="sunk") as broker:
        broker.environment = {"A_SECRET": "canary-of-the-environment"}
        broker.stop()
        broker.up()
        broker.wait_for("sink_hook_ended", sink="app")
        wait_until(facts.exists, "the hook has run")
        said = facts.read_text()
        lines = said.splitlines()
        descriptors = (place / "out" / "descriptors").read_text()
        read = (place / "out" / "token").read_text()

        assert {line.partition("=")[0] for line in lines if "=" in line} - {"arguments", "session", "pid"} == {
            "PATH",
            "LANG",
            "PWD",
            "TOKEN_BROKER_SINK",
            "TOKEN_BROKER_SINK_FILE",
        } | ({"OLDPWD"} if "OLDPWD=" in said else set())
        assert f"TOKEN_BROKER_SINK_FILE={path}" in lines
        assert "arguments=1 an argument" in lines
        assert "canary" not in said
        assert not [line for line in lines if line.startswith("read=")]
        assert "socket:" not in descriptors
        assert "NoNewPrivs:\t1" in lines
        assert "CapEff:\t0000000000000000" in lines or not IS_ROOT
        assert "CapAmb:\t0000000000000000" in lines
        assert "SigBlk:\t0000000000000000" in lines
        assert f"Uid:\t{OWNER}\t{OWNER}\t{OWNER}\t{OWNER}" in lines
        assert f"Gid:\t{GROUP}\t{GROUP}\t{GROUP}\t{GROUP}" in lines
        assert next(line for line in lines if line.startswith("Groups:")).split()[1:] == [] or not IS_ROOT
        assert [line[8:] for line in lines if line.startswith("session=")] == [
            line[4:] for line in lines if line.startswith("pid=")
        ]
        assert set(json.loads(read)) == set(content(path))
        assert "canary-on" not in broker.said()


SAME_USER = """
import asyncio, ctypes, os, sys
from pathlib import Path
from broker.hostenv.hardening import harden
from broker.sinks.hook import run_hook
from broker.sinks.spec import Hook, Sink
uid, gid, hardened, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "hardened", sys.argv[4]
os.setgroups([]) if os.geteuid() == 0 else None
os.setgid(gid); os.setuid(uid)
harden() if hardened else ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
steal = f"for f in mem environ fd maps; do head -c 1 /proc/$PPID/$f && echo $f >> {out}; "
steal += f"ls /proc/$PPID/$f/ && echo $f >> {out}; done; true"
sink = Sink(name="app", token="demo", path=Path("/nowhere"), mode=0o640)
print(asyncio.run(run_hook(sink, Hook(argv=("/bin/sh", "-c", steal), timeout=30.0))).outcome)
"""


@pytest.mark.parametrize(("hardened", "read"), [("hardened", set()), ("open", {"environ", "fd", "maps"})])
def test_a_hook_of_the_brokers_own_user_cannot_look_into_it(place: Path, hardened: str, read: set[str]):
    """Neither its memory nor its descriptors; without what ``harden`` does, it could."""
    out = place / "out" / "stolen"

    done = subprocess.run(
        [sys.executable, "-c", SAME_USER, str(OWNER), str(GROUP), hardened, str(out)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "ok\n", done.stderr
    stolen = set(out.read_text().split()) if out.exists() else set()
    assert stolen - {"mem"} == read  # some kernels let nobody attach to a parent (Yama)


def processes_in(place: Path) -> list[int]:
    """Give the processes whose working directory is that of the hooks."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        try:
            if (one / "cwd").readlink() == place / "out":
                found.append(int(one.name))
        except OSError:
            continue
    return found


def test_a_hook_that_hangs_is_killed_with_its_children(sandbox: SandboxProcess, place: Path):
    """At its time-out, which is an event and a metric; the file is there, and the broker serves."""
    path = place / "token.json"
    hook = hooked(place, "sleep 300 & echo $$ >> runs; sleep 300", timeout=1)
    with broker_process(sandbox, config=configured(sandbox, section(path, hook)), name="sunk") as broker:
        failed = broker.wait_for("sink_hook_failed", sink="app")
        metrics = broker.ops("/metrics").body.decode()
        runs = (place / "out" / "runs").read_text().split()

        assert failed["reason"] == "timeout"
        assert 1.0 <= failed["duration"] < 10.0
        assert 'token_broker_sink_hooks_total{outcome="timeout",sink="app"}' in metrics
        assert not Path("/proc", runs[0]).exists()
        assert path.exists()


def test_no_hook_is_left_running_when_the_broker_stops(sandbox: SandboxProcess, place: Path):
    """Nor what it has started in its process group."""
    path = place / "token.json"
    hook = hooked(place, "sleep 300 & echo $$ >> runs; sleep 300", timeout=300)
    with broker_process(sandbox, config=configured(sandbox, section(path, hook)), name="sunk") as broker:
        wait_until((place / "out" / "runs").exists, "the hook runs")
        wait_until(lambda: len(processes_in(place)) >= 2, "its children run")
        code = broker.stop()

        assert code == 0
        assert processes_in(place) == []
        assert path.exists()


def test_what_a_hook_leaves_in_the_background_ends_with_it(sandbox: SandboxProcess, place: Path):
    """A hook that forks and ends is at its end."""
    path = place / "token.json"
    hook = hooked(place, "sleep 300 & sleep 300 & exit 0")
    with broker_process(sandbox, config=configured(sandbox, section(path, hook)), name="sunk") as broker:
        broker.wait_for("sink_hook_ended")
        wait_until(lambda: processes_in(place) == [], "nothing of it is left")


def test_the_exit_code_of_a_hook_is_told_and_it_is_run_again_after_the_next_token(sandbox: SandboxProcess, place: Path):
    """One run after the other, never two at once."""
    path = place / "token.json"
    script = "mkdir busy || echo twice > overlapped; echo run >> runs; sleep 0.3; rmdir busy; exit 7"
    with broker_process(sandbox, config=configured(sandbox, section(path, hooked(place, script))), name="sunk") as one:
        failed = one.wait_for("sink_hook_failed")
        wait_until(lambda: len(one.log("sink_hook_failed")) >= 2, "it runs again")
        wait_until(lambda: len(one.log("sink_written")) >= 2, "the file is kept")

        assert (failed["reason"], failed["status"]) == ("exit", 7)
        assert not (place / "out" / "overlapped").exists()


def test_sinks_come_change_and_go_with_a_reload(sandbox: SandboxProcess, place: Path):
    """Without a restart; what is not configured any more is removed, what did not change is not touched."""
    stays, goes, comes = place / "stays.json", place / "goes.json", place / "comes"
    before = configured(sandbox, section(stays, name="stays"), section(goes, name="goes"))
    after = configured(sandbox, section(stays, name="stays"), section(comes, name="comes", form="text"))
    with broker_process(sandbox, config=before, name="sunk") as broker:
        wait_until(lambda: stays.exists() and goes.exists(), "both files are there")
        inode, token = stays.stat().st_ino, token_in(stays)
        reload(broker, after)
        wait_until(lambda: comes.exists() and not goes.exists(), "one is there for the other")
        gone = broker.wait_for("sink_file_removed", sink="goes")
        same = stays.stat().st_ino == inode or token_in(stays) != token
        reload(broker, after.replace('format = "text"', 'format = "json"'))
        wait_until(lambda: token_in(comes) is not None, "the format has changed")
        reload(broker, configured(sandbox))
        wait_until(lambda: not comes.exists() and not stays.exists(), "all are gone")

        assert gone["reason"] == "unconfigured"
        assert same


def test_a_reload_with_a_place_that_is_not_safe_changes_nothing(sandbox: SandboxProcess, place: Path):
    """The path and the fix are said, as at a start."""
    path, elsewhere = place / "token.json", place / "open"
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    with broker_process(sandbox, config=configured(sandbox, section(path)), name="sunk") as broker:
        wait_until(path.exists, "the file is there")
        broker.config.write_text(configured(sandbox, section(elsewhere / "token.json")))
        assert broker.process is not None
        broker.process.send_signal(signal.SIGHUP)
        refused = broker.wait_for("configuration_refused")

        assert refused["reason"] == "files_unusable"
        assert "sink_directory_unsafe" in refused["problems"]
        assert str(elsewhere) in refused["problems"]
        assert path.exists()


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda place: (place / "token.json").mkdir(), "sink_occupied"),
        (lambda place: (place / "token.json").symlink_to("elsewhere"), "sink_occupied"),
        (lambda place: (place / "token.json").write_text("a file\nof somebody\n"), "sink_occupied"),
        (lambda place: place.chmod(0o777), "sink_directory_unsafe"),
        (lambda place: (place / "hook").chmod(0o777), "sink_hook_unsafe"),
        (lambda place: (place / "hook").chmod(0o644), "sink_hook_missing"),
        (lambda place: (place / "hook").unlink(), "sink_hook_missing"),
        (shutil.rmtree, "sink_failed"),
    ],
)
def test_a_place_that_is_not_safe_keeps_the_broker_from_starting(
    sandbox: SandboxProcess, place: Path, spoil: Any, code: str
):
    """With the path and the fix; `check` says the same, and nothing is touched."""
    path = place / "token.json"
    config = configured(sandbox, section(path, hooked(place, "true")))
    spoil(place)
    try:
        with broker_process(sandbox, config=config, name="sunk", start=False) as broker:
            broker.arguments = ["run", "--config", str(broker.config)]
            broker.start()
            assert broker.process is not None
            exit_code = broker.process.wait(30)
            said = broker.said()
            checked = subprocess.run(
                [sys.executable, "-m", "broker", "check", "--config", str(broker.config)],
                capture_output=True,
                text=True,
                check=False,
            )

            assert exit_code == 1
            assert f"[{code}]" in said
            assert str(place) in said
            assert checked.returncode == 2
            assert f"[{code}]" in checked.stderr
    finally:
        place.mkdir(exist_ok=True)


def test_a_token_on_demand_is_kept_fresh_by_its_file(sandbox: SandboxProcess, place: Path):
    """The file is somebody who asks all the time."""
    path = place / "token.json"
    config = configured(sandbox, section(path)).replace("required = true", 'refresh = "on_demand"')
    with broker_process(sandbox, config=config, name="sunk") as broker:
        wait_until(path.exists, "the first is fetched")
        first = keep_secret(broker, path)
        wait_until(lambda: token_in(path) not in {None, first}, "and the next")

        assert broker.log("sink_file_removed") == []
        assert broker.log("token_lapsed") == []


def test_a_grant_has_its_file_from_the_consent_to_its_end(tmp_path: Path, place: Path):
    """The person gives it up, and the file is gone; without a consent there is none."""
    path = place / "person.json"
    with consent_place(tmp_path) as at:
        text = at.broker.config.read_text()
        reload(at.broker, text + section(path).replace('"demo"', '"person"'))
        before = path.exists()
        grant = at.consent(at.a).json()["grant"]
        wait_until(path.exists, "the file is there")
        token = keep_secret(at.broker, path)
        served = get(at.a, "/v1/tokens/person").json()["access_token"]
        given_up = send(at.a, "DELETE", f"/v1/grants/{grant}")
        gone = at.broker.wait_for("sink_file_removed", sink="app")

        assert not before
        assert token == served
        assert given_up.status == 200
        assert gone["reason"] == "consent_required"
        assert not path.exists()
        assert [record["grant"] for record in at.broker.records("token_filed")] == [grant]


@pytest.mark.skipif(not IS_ROOT, reason="only root has a small disk mounted")
def test_a_full_disk_costs_nothing_but_the_file(sandbox: SandboxProcess, place: Path):
    """The old file stays while its token is good; said, counted, and written when there is room again."""
    disk = place / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        path, ballast = disk / "token.json", disk / "ballast"
        with broker_process(sandbox, config=configured(sandbox, section(path)), name="sunk") as broker:
            wait_until(path.exists, "the file is there")
            with ballast.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"x" * 4096)
                except OSError:
                    pass
            failed = broker.wait_for("sink_write_failed", sink="app")
            stayed = path.exists()
            served = broker.token().status
            ballast.unlink()
            written = len(broker.log("sink_written"))
            wait_until(lambda: len(broker.log("sink_written")) > written, "it is written again")

            assert failed["reason"] == "enospc"
            assert failed["serving"]
            assert stayed
            assert served == 200
            assert path.exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
