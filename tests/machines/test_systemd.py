"""
The broker as a service of a real systemd, installed by the commands of the guide.

The tests of one machine stand on each other: it is installed once, and each leaves the service running.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machines.systemd_machine import (
    CHECKOUT,
    GUIDE,
    PATIENCE,
    RELEASES,
    ROOT,
    Machine,
    Release,
    booted,
    lacks,
    make_root,
    sandbox_config,
)

SOCKET = "/run/token-broker/api.sock"
TOKEN = "/v1/tokens/api"
CONFIG = "/etc/token-broker/config.toml"
DROP_INS = "/etc/systemd/system/token-broker.service.d"
ENOUGH = 600
"""Requests, of which none may fail."""

RESTARTS = 6


@pytest.fixture(scope="module", params=RELEASES, ids=lambda release: release.name)
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which the guide was followed, up to its last step; the service was not started yet."""
    reason = lacks()
    if reason is not None:
        pytest.skip(reason)
    release: Release = request.param
    root = tmp_path_factory.mktemp("machine") / release.name
    try:
        make_root(release, root)
        with booted(root) as made:
            install(made)
            yield made
    finally:
        shutil.rmtree(root, ignore_errors=True)  # it is large, and pytest would keep it


def install(machine: Machine) -> None:
    for user in ("app", "other"):
        machine.good("useradd", "--create-home", user)
    for heading in ("Packages", "The program", "The group", "The configuration"):
        machine.guide(heading)
    start_sandbox(machine)
    machine.file(CONFIG).write_text(sandbox_config(machine))
    machine.guide("The keys")
    machine.good("install", "-m", "0644", "/srv/sandbox/ca.pem", "/etc/token-broker/ca.pem")
    units = [f"{CHECKOUT}/deploy/systemd/token-broker.{kind}" for kind in ("socket", "service")]
    machine.good("install", "-m", "0644", *units, "/etc/systemd/system/")
    machine.good("systemctl", "daemon-reload")


def start_sandbox(machine: Machine) -> None:
    """Start the server that the broker has a token of, and put its keys where the guide has ours."""
    program = "/opt/token-broker/bin/token-broker"
    machine.good("systemd-run", "--quiet", "--unit=sandbox", program, "sandbox", "--directory", "/srv/sandbox")
    machine.until("the sandbox is there", "sandbox.json", "ls", "/srv/sandbox")
    for name, kind in (("client.key", "transport.key"), ("client.pem", "transport.pem")):
        machine.good("cp", f"/srv/sandbox/{name}", f"{CHECKOUT}/{kind}")
    machine.good("sh", "-c", f"cp /srv/sandbox/signing-ps256.pem {CHECKOUT}/signing.key")


def ask(machine: Machine, user: str = "app", target: str = TOKEN) -> tuple[int, Any]:
    """Ask as *user*; give curl's exit code and what came."""
    curl = ("curl", "--silent", "--fail-with-body", "--max-time", "30", "--unix-socket", SOCKET)
    done = machine.as_user(user, *curl, f"http://localhost{target}")
    return done.code, json.loads(done.out) if done.out else None


def served(machine: Machine) -> bool:
    code, body = ask(machine)
    return code == 0 and body["token_type"] == "Bearer" and body["expires_in"] > 0


def drop_in(machine: Machine, name: str, text: str) -> None:
    """Change the unit for a test, and restart the service."""
    folder = machine.file(DROP_INS)
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.conf").write_text(f"[Service]\n{text}\n")
    machine.good("systemctl", "daemon-reload")
    machine.settled()
    machine.good("systemctl", "restart", "token-broker.service")


def no_drop_in(machine: Machine, name: str) -> None:
    (machine.file(DROP_INS) / f"{name}.conf").unlink()
    machine.good("systemctl", "daemon-reload")
    machine.settled()
    machine.good("systemctl", "restart", "token-broker.service")


@pytest.fixture
def running(machine: Machine) -> Machine:
    """The machine with a service that was started anew, and none of its failures counted."""
    machine.settled()
    return machine


def test_the_first_request_starts_the_service(machine: Machine):
    """systemd listens; whoever connects waits until the broker is there, and gets a real token."""
    machine.good("systemctl", "start", "token-broker.socket")
    before = machine.property("ActiveState")

    good = served(machine)

    assert before == "inactive"
    assert good
    assert machine.property("ActiveState") == "active"
    assert machine.property("StatusText") == "Serving with configuration 1"


def test_the_commands_of_the_guide_start_it(running: Machine):
    """And its way to look whether all is well says so."""
    assert "api" in running.guide("The service")
    assert running.property("UnitFileState", "token-broker.socket") == "enabled"


def test_members_of_the_group_are_served_and_nobody_else(running: Machine):
    """The socket is root's; others do not even get in, and root gets no token."""
    member, (other, _), (root, refusal) = ask(running), ask(running, "other"), ask(running, "root")

    assert member[0] == 0
    assert running.good("stat", "--format=%U:%G %a", SOCKET).strip() == "root:token-broker 660"
    assert other == 7  # curl: could not connect
    assert (root, refusal["error"]) == (22, "access_denied")


def test_the_process_has_nothing_but_what_it_needs(running: Machine):
    """A user of its own, no capability and no way to one, filtered system calls, no core, no look into its memory."""
    served(running)
    pid = running.main_pid()
    lines = running.good("cat", f"/proc/{pid}/status").splitlines()
    status = {name: value.split() for name, value in (line.split(":", 1) for line in lines)}
    limits = running.good("cat", f"/proc/{pid}/limits")

    assert int(status["Uid"][0]) >= 61_184  # systemd's range of dynamic users
    assert {int(status[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"])
    assert next(line.split()[4:6] for line in limits.splitlines() if "core file" in line) == ["0", "0"]
    assert running.good("stat", "--format=%u", f"/proc/{pid}/environ").strip() == "0"  # not dumpable: proc(5)


def test_what_it_keeps_is_its_own(running: Machine):
    """State and audit log, in directories that only it can enter; the log says who got the token."""
    served(running)

    modes = running.good("stat", "--format=%a", "/var/lib/private/token-broker", "/var/log/private/token-broker")
    records = [json.loads(line) for line in running.good("cat", "/var/log/token-broker/audit.jsonl").splitlines()]

    assert modes.split() == ["700", "750"]
    assert "lock" in running.good("ls", "/var/lib/token-broker").split()
    assert {"daemon_started", "token_served"} <= {record["event"] for record in records}


def test_keys_are_nowhere_but_in_its_credentials(running: Machine):
    """No other user sees them, and they are none of the service's variables."""
    pid = running.main_pid()

    assert running.as_user("other", "ls", "/run/credentials/token-broker.service").code != 0
    assert running.as_user("other", "ls", "/etc/credstore").code != 0
    assert "PRIVATE KEY" not in running.good("cat", f"/proc/{pid}/environ")


def test_a_reload_puts_a_good_file_to_use(running: Machine):
    """In the same process; systemd hears when it is done."""
    pid, config = running.main_pid(), running.file(CONFIG)
    before = config.read_text()
    try:
        config.write_text(before.replace("[token.api]", "[token.second]").replace('["api"]', '["second"]'))
        running.good("systemctl", "reload", "token-broker.service")
        running.until("the reload", "configuration 2", "systemctl", "show", "--property=StatusText", "token-broker")

        assert ask(running, target="/v1/tokens/second")[0] == 0
        assert ask(running)[0] == 22
        assert running.main_pid() == pid
    finally:
        config.write_text(before)
        running.guide("A changed configuration")
        running.until("the reload", "configuration 3", "systemctl", "show", "--property=StatusText", "token-broker")


def test_a_reload_refuses_a_bad_file(running: Machine):
    """systemctl fails and the journal says what is wrong; sent by hand, the status says so; nothing else changes."""
    pid, config = running.main_pid(), running.file(CONFIG)
    before = config.read_text()
    try:
        config.write_text(before.replace('client = "app"', 'client = "apq"'))
        refused = running.run("systemctl", "reload", "token-broker.service")
        running.until("what is wrong", 'did you mean "app"?', "journalctl", "--output=cat", "--unit=token-broker")
        running.good("kill", "-HUP", pid)
        running.until("the refusal", "was refused", "systemctl", "show", "--property=StatusText", "token-broker")

        assert refused.code != 0
        assert served(running)
        assert (running.main_pid(), running.property("ActiveState")) == (pid, "active")
    finally:
        config.write_text(before)
        running.good("systemctl", "reload", "token-broker.service")


def test_a_broker_that_stands_still_is_killed_and_started_again(running: Machine):
    """The watchdog: it is not fed, systemd aborts the process, no core is left, and the next request is served."""
    drop_in(running, "watchdog", "WatchdogSec=2s\nTimeoutAbortSec=5s")
    try:
        served(running)
        time.sleep(4.0)  # it is fed meanwhile
        pid = running.main_pid()
        restarts = running.property("NRestarts")
        running.good("kill", "-STOP", pid)
        running.until("the watchdog", "result 'watchdog'", "journalctl", "--output=cat", "--unit=token-broker")

        assert served(running)
        assert restarts == "0"
        assert running.main_pid() != pid
        assert "dumped" not in running.journal()
    finally:
        no_drop_in(running, "watchdog")


def test_the_network_can_be_shut_but_for_some_addresses(running: Machine):
    """The example's lines: with the server's address a new token is there, without it none can be fetched."""
    example = f"{CHECKOUT}/deploy/systemd/token-broker.service.d/addresses.conf.example"
    running.good("install", "-D", "-m", "0644", example, f"{DROP_INS}/addresses.conf")
    running.good("systemctl", "daemon-reload")
    running.good("systemctl", "restart", "token-broker.service")
    with_the_server = served(running)
    drop_in(running, "shut", "IPAddressAllow=\nIPAddressAllow=192.0.2.10")
    try:
        code, answer = ask(running, target=f"{TOKEN}?wait=3")
    finally:
        running.file(f"{DROP_INS}/addresses.conf").unlink()
        no_drop_in(running, "shut")

    assert with_the_server
    assert (code, answer["error"]) == (22, "temporarily_unavailable")
    assert served(running)


def test_an_encrypted_key_is_as_good(running: Machine):
    """By the commands of the guide: sealed to the machine; the plain one is gone."""
    running.guide("Keys that are encrypted, too")

    assert served(running)
    assert b"PRIVATE KEY" not in running.file("/etc/credstore.encrypted/token-broker.signing.key").read_bytes()
    assert not running.file("/etc/credstore/token-broker.signing.key").exists()


def test_a_missing_credential_is_refused_with_the_path_and_the_fix(running: Machine):
    """In the journal, once for each that is missing; put back, it starts."""
    store, audit = (running.file(f"/etc/credstore/token-broker.{name}.key") for name in ("store", "audit"))
    kept = store.rename(store.with_suffix(".away")), audit.rename(audit.with_suffix(".away"))
    try:
        failed = running.run("systemctl", "restart", "token-broker.service")
        said = running.journal()
    finally:
        kept[0].rename(store)
        kept[1].rename(audit)
        running.settled()

    assert failed.code != 0
    for name in ("store", "audit"):
        path = f"/run/credentials/token-broker.service/token-broker.{name}.key"
        assert f"{path}: there is no such file [file_missing]" in said
    assert "put it into /etc/credstore" in said
    assert served(running)


def test_a_socket_that_is_no_listeners_is_refused_with_what_to_write(running: Machine):
    """The names of the two files do not agree."""
    config = running.file(CONFIG)
    before = config.read_text()
    try:
        config.write_text(before.replace("[listener.app]", "[listener.apps]").replace('["app"]', '["apps"]'))
        failed = running.run("systemctl", "restart", "token-broker.service")
        said = running.journal()
    finally:
        config.write_text(before)
        running.settled()

    assert failed.code != 0
    assert "[listener_inherited_unknown]" in said
    assert "write FileDescriptorName=apps into token-broker.socket" in said


def test_a_program_reads_its_token_from_a_file(running: Machine):
    """By the guide: the group gets in and nobody else; after a restart there is another file, and after a stop none."""
    config, path = running.file(CONFIG), "/run/token-broker-files/api.token"
    before = config.read_text()
    (section,) = re.findall(r"```toml\n(\[sink\.api\].*?)```", GUIDE.read_text(), re.DOTALL)
    try:
        config.write_text(f"{before}\n{section}")
        running.guide("Token files")
        running.until("the file", "api.token", "ls", "/run/token-broker-files")
        read, other = running.as_user("app", "cat", path), running.as_user("other", "cat", path)
        confined = before.replace("[daemon]", "[daemon]\nlandlock = true")
        config.write_text(f"{confined}\n{section}")
        running.good("systemctl", "restart", "token-broker.service")
        running.until("another file", "api.token", "ls", "/run/token-broker-files")
        again = running.as_user("app", "cat", path)
        running.good("systemctl", "stop", "token-broker.socket", "token-broker.service")
        left = running.run("ls", path)
    finally:
        config.write_text(before)
        running.file(f"{DROP_INS}/files.conf").unlink()
        running.good("systemctl", "daemon-reload")
        running.settled()

    assert (read.code, len(read.out) > 100) == (0, True)
    assert other.code != 0
    assert (again.code, again.out != read.out) == (0, True)
    assert left.code != 0
    assert "sink_write_failed" not in running.journal()


def test_logrotate_moves_the_audit_log_and_the_broker_begins_another(running: Machine):
    """By the lines of the guide: nothing is lost between the two files, and the older one is compressed."""
    (place,) = re.findall(r"`(/etc/logrotate\.d/[\w-]+)`", GUIDE.read_text())
    (lines,) = re.findall(
        r"^```\n(/var/log/token-broker/audit\.jsonl \{.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL
    )
    running.file(place).write_text(lines)
    running.file(place).chmod(0o644)
    for _ in range(2):
        served(running)
        running.good("logrotate", "--force", place)
        running.until("another file", "audit.jsonl\n", "ls", "-1", "/var/log/token-broker/")
    served(running)

    numbers: list[int] = []
    for command in ("zcat /var/log/token-broker/audit.jsonl.2.gz", "cat /var/log/token-broker/audit.jsonl.1",
                    "cat /var/log/token-broker/audit.jsonl"):  # fmt: skip
        numbers += [json.loads(line)["seq"] for line in running.good(*command.split()).splitlines()]
    running.file(place).unlink()

    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_landlock_keeps_it_to_the_files_that_it_names(running: Machine):
    """It serves as ever, and a reload that names a file elsewhere says that it needs a restart."""
    config = running.file(CONFIG)
    before = config.read_text()
    try:
        config.write_text(before.replace("[daemon]", "[daemon]\nlandlock = true"))
        running.good("systemctl", "restart", "token-broker.service")
        confined = "process_confined" in running.journal()
        good = served(running)
        config.write_text(config.read_text().replace('"ca.pem"', '"/srv/sandbox/ca.pem"'))
        running.good("systemctl", "reload", "token-broker.service")
        running.until("the refusal", "was refused", "systemctl", "show", "--property=StatusText", "token-broker")
    finally:
        config.write_text(before)
        running.good("systemctl", "restart", "token-broker.service")

    assert (confined, good) == (True, True)
    assert "/srv/sandbox" in running.journal()
    assert "restart the broker: it may use other files only from its start on" in running.journal()


def test_a_second_broker_on_its_state_is_refused(running: Machine):
    """It names the process that holds the directory, and exits with 3; the first goes on."""
    served(running)
    names = ("store", "audit", "transport")
    settings = ["DynamicUser=yes", "User=token-broker-daemon", "StateDirectory=token-broker"]
    settings += ["StateDirectoryMode=0700", "LogsDirectory=token-broker"]
    settings += [f"LoadCredential=token-broker.{name}.key" for name in names]
    settings += ["LoadCredentialEncrypted=token-broker.signing.key"]
    options = [part for setting in settings for part in ("--property", setting)]

    second = running.run(
        "systemd-run", "--quiet", "--wait", "--pipe", "--unit=second", *options,
        "/opt/token-broker/bin/token-broker", "run", "--config", CONFIG,
    )  # fmt: skip

    assert second.code == 3
    assert f"another broker holds the state directory /var/lib/token-broker: process {running.main_pid()}" in second.err
    assert served(running)


class Load:
    """Clients in the machine that ask all the time."""

    def __init__(self, machine: Machine, name: str) -> None:
        folder = f"/srv/{name}"
        machine.good("install", "-d", "-o", "app", folder)
        self._machine, self._folder = machine, machine.file(folder)
        program = f"{CHECKOUT}/{Path(__file__).with_name('load_clients.py').relative_to(ROOT)}"
        arguments = [SOCKET, TOKEN, f"{folder}/counts", f"{folder}/stop"]
        options = ("--quiet", f"--unit={name}", "--uid=app", "--property=SupplementaryGroups=token-broker")
        machine.good("systemd-run", *options, "python3", program, *arguments)
        self.unit = name

    def counts(self) -> dict[str, Any]:
        try:
            counts: dict[str, Any] = json.loads((self._folder / "counts").read_text())
        except FileNotFoundError:
            return {"requests": 0}
        return counts

    def until(self, requests: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.counts()["requests"] < requests:
            assert time.monotonic() < deadline, (self.counts(), self._machine.journal(self.unit))
            time.sleep(0.05)

    def ended(self) -> dict[str, Any]:
        (self._folder / "stop").touch()
        deadline = time.monotonic() + PATIENCE
        while self._machine.property("ActiveState", self.unit) == "active":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return self.counts()


def test_restarts_fail_no_request_and_cost_no_retry(running: Machine):
    """New connections, kept ones, requests under way: what was accepted is answered, the rest waits for the next."""
    load, pids = Load(running, "restarts"), {running.main_pid()}
    for number in range(1, RESTARTS + 1):
        load.until(number * ENOUGH // RESTARTS)
        running.good("systemctl", "restart", "token-broker.service")
        pids.add(running.main_pid())
    load.until(load.counts()["requests"] + 100)
    counts = load.ended()

    print(f"{len(pids) - 1} restarts: {counts}")
    assert len(pids) == RESTARTS + 1
    assert counts["requests"] >= ENOUGH
    assert (counts["failed"], counts["retries"]) == (0, 0), counts


def test_a_killed_broker_fails_no_request_that_is_tried_again(running: Machine):
    """What was under way is cut; one retry on a new connection, which waits for the next broker, is enough."""
    load = Load(running, "kills")
    for number in range(1, RESTARTS):
        load.until(number * ENOUGH // RESTARTS)
        pid = running.main_pid()
        running.good("kill", "-KILL", pid)
        running.until("it is back", "yes", "sh", "-c", f"[ $(systemctl show -P MainPID token-broker) -gt 0 ] && "
                      f"[ $(systemctl show -P MainPID token-broker) != {pid} ] && echo yes")  # fmt: skip
    load.until(ENOUGH)
    counts = load.ended()

    print(f"{RESTARTS - 1} kills: {counts}")
    assert counts["requests"] >= ENOUGH
    assert counts["failed"] == 0, counts


def test_a_newer_version_is_installed_as_the_guide_says(running: Machine):
    """And is the one that serves."""
    pid = running.main_pid()
    running.guide("A newer version")

    assert running.main_pid() != pid
    assert served(running)


def test_nothing_but_what_cannot_be_made_again_is_left(machine: Machine):
    """The last commands of the guide."""
    machine.settled()
    machine.guide("Away with it")

    assert not machine.file("/opt/token-broker").exists()
    assert machine.run("systemctl", "cat", "token-broker.service").code != 0
    assert machine.file("/etc/credstore/token-broker.store.key").exists()
    assert machine.file("/var/lib/private/token-broker").exists()
