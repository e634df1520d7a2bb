"""``token-broker status`` against a real broker, and against none: what it shows to whom, and on which screen."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.daemon.harness import (
    PATIENCE,
    UID_A,
    UID_B,
    BrokerProcess,
    SandboxProcess,
    broker_process,
    sandbox_process,
    wait_until,
)
from tests.daemon.test_reload import reload

MANY = 300

SCREENFUL = 80

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can call as other users")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("status"), lifetime=600) as process:
        yield process


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    """A directory that other users can pass through, unlike pytest's."""
    directory = Path(tempfile.mkdtemp(prefix="token-broker-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def broker(sandbox: SandboxProcess, sockets: Path) -> Iterator[BrokerProcess]:
    """One token that is there, one that the server refuses, many that wait for a caller; a workload with one."""
    config = (sandbox.home / "config.toml").read_text()
    config += '[token.refused]\nclient = "demo"\nscope = ["nobody:knows"]\n'
    config += f'[listener.open]\npath = "{sockets}/open.sock"\nmode = "0666"\n'
    config += f'[workload.a]\nlistener = ["open"]\nuid = [{UID_A}]\ntokens = ["demo"]\nmay = ["list"]\n'
    for number in range(MANY):
        config += f'[token.idle-{number}]\nclient = "demo"\nscope = ["hello:read"]\nrefresh = "on_demand"\n'
    with broker_process(sandbox, config=config, name="shown") as process:
        process.wait_for("token_refresh_failed", token="refused")
        yield process


AS_USER = """
import os, sys
from broker.cli import main, parser
parser()
uid = int(sys.argv[1])
os.setgroups([]); os.setgid(uid); os.setuid(uid)
sys.exit(main(sys.argv[2:]))
"""
"""All is loaded before the user changes: another one need not be able to read it."""


def status(
    socket: Path, *arguments: str, uid: int | None = None, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command, as a user."""
    begin = ["-m", "broker"] if uid is None else ["-c", AS_USER, str(uid)]
    return subprocess.run(
        [sys.executable, *begin, "status", "--socket", str(socket), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={"PATH": os.environ["PATH"], **(variables or {})},
    )


def on_terminal(socket: Path, variables: Mapping[str, str]) -> str:
    """Run the command on a terminal, and give what is on the screen."""
    outside, inside = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "broker", "status", "--socket", str(socket)],
        stdout=inside,
        stderr=inside,
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], **variables},
    ):
        os.close(inside)
        pieces = []
        try:
            while piece := os.read(outside, 65_536):
                pieces.append(piece)
        except OSError:
            pass  # how Linux says that nobody has the terminal open any more (EIO)
        finally:
            os.close(outside)
    return b"".join(pieces).decode()


def test_the_table_has_what_an_operator_asks_first(broker: BrokerProcess):
    """Is it there, for how long, and if not: why, when is the next attempt, and what is to be done."""
    done = status(broker.socket)

    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"TOKEN +STATE +REQUIRED +EXPIRES IN +NEXT TRY IN +REASON", lines[0])
    assert re.fullmatch(r"demo +fresh +yes +\d+ min \d+ s +\S.*", lines[1])
    assert re.fullmatch(r"refused +unavailable +no +- +\d+ min \d+ s +server_refused", lines[2])
    assert "refused: the client is not registered for a scope" in "\n".join(lines)
    assert lines[-2:] == ["SANDBOX, tokens worth nothing: sandbox", "ready"]


def test_json_says_the_same_to_programs(broker: BrokerProcess):
    """One object; what is not known is null, and nothing is missing."""
    done = status(broker.socket, "--json")

    body = json.loads(done.stdout)
    tokens = {token["name"]: token for token in body["tokens"]}
    assert (done.returncode, body["ready"], body["restart"]) == (0, True, [])
    assert tokens["demo"]["state"] == "fresh"
    assert tokens["demo"]["expires_in"] > 0
    assert (tokens["refused"]["reason"], tokens["refused"]["expires_in"]) == ("server_refused", None)
    assert {frozenset(token) for token in body["tokens"]} == {frozenset(tokens["demo"])}


def test_many_tokens_are_all_shown_in_their_order(broker: BrokerProcess):
    """A table is as long as it has to be."""
    lines = status(broker.socket).stdout.splitlines()

    shown = [line.split()[0] for line in lines if " idle " in line]
    assert shown == [f"idle-{number}" for number in range(MANY)]


@pytest.mark.parametrize(
    ("variables", "colored"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
    ids=["terminal", "NO_COLOR", "dumb", "no TERM"],
)
def test_colors_are_for_a_terminal_that_has_them(broker: BrokerProcess, variables: dict[str, str], colored: bool):
    """On a real terminal; and never in a pipe."""
    screen = on_terminal(broker.socket, variables)
    piped = status(broker.socket, variables=variables).stdout

    assert ("\x1b[32mfresh\x1b[0m" in screen, "\x1b[31munavailable\x1b[0m" in screen) == (colored, colored)
    assert ("\x1b" in screen) is colored
    assert "\x1b" not in piped


def test_a_narrow_terminal_cuts_nothing_off(broker: BrokerProcess):
    """What does not fit is for the terminal to break; and without long names it fits."""
    variables = {"TERM": "dumb", "COLUMNS": "44"}

    screen = on_terminal(broker.socket, variables)
    lines = screen.replace("\r\n", "\n").splitlines()

    assert "NEXT TRY IN  REASON" in lines[0]
    assert lines[-4:-2] == ["refused: the client is not registered for a", "  scope of the token"]
    assert all(len(line) <= SCREENFUL for line in lines if " idle " in line)


def test_without_a_broker_it_says_so_and_what_to_do(sandbox: SandboxProcess):
    """In two lines, and exit 1; the same for programs."""
    done = status(sandbox.home / "nobody.sock", "--json")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"there is no socket at {sandbox.home}/nobody.sock [daemon_unreachable]",
        "  start the daemon: token-broker run --config FILE; or name its socket with --socket or TOKEN_BROKER_SOCKET",
    ]


@as_root
def test_a_workload_sees_its_own_and_a_stranger_nothing(broker: BrokerProcess, sockets: Path):
    """Whoever may list sees what is theirs; nobody else sees that there is anything."""
    own = status(sockets / "open.sock", uid=UID_A)
    stranger = status(sockets / "open.sock", uid=UID_B)
    locked_out = status(broker.socket, uid=UID_A)

    assert own.returncode == 0
    assert [line.split()[0] for line in own.stdout.splitlines()[:2]] == ["TOKEN", "demo"]
    assert "refused" not in own.stdout + stranger.stdout + stranger.stderr
    assert (stranger.returncode, locked_out.returncode) == (1, 1)
    assert "not allowed to open" in locked_out.stderr
    assert stranger.stderr.strip() != ""


@as_root
def test_what_waits_for_a_restart_is_shown_to_root_until_it_is_taken_back(broker: BrokerProcess, sockets: Path):
    """After a reload that changed a listener; a workload is not told, and a metric says it, too."""
    reload(broker, ('mode = "0666"', 'mode = "0660"'))
    changed = status(broker.socket)
    workload = status(sockets / "open.sock", uid=UID_A)
    metric = broker.ops("/metrics").body

    reload(broker, ('mode = "0660"', 'mode = "0666"'))
    wait_until(lambda: "restart pending" not in status(broker.socket).stdout, "nothing waits")

    assert "restart pending: changes of listener wait for one" in changed.stdout.splitlines()
    assert changed.returncode == 0
    assert "restart" not in workload.stdout
    assert b"token_broker_configuration_restart_pending 1.0" in metric
