"""Sinks: a token that a file can hold, and a place that is nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.problems import Findings
from broker.config.sink_combinations import check_sinks
from broker.config.source import parse
from broker.config.structure import structure
from tests.unit.config.files import FakeAccounts, changed, load, only_problem, problems

END = "[workload.app]"
SINK = '[sink.app]\ntoken = "directory"\npath = "run/token"\n'
STATE = '[daemon]\nstate_dir = "state"\n'


def found(*edits: tuple[str, str]) -> list[str]:
    """Give what is wrong with the sinks of a changed file."""
    raw = parse(changed(*edits).encode(), Findings())
    assert raw is not None
    findings = Findings()
    check_sinks(structure(raw, Findings()), Path("/etc/token-broker"), findings)
    return [str(problem) for problem in findings.problems()]


@pytest.mark.parametrize(
    "more",
    ["", 'mode = "0600"', 'mode = "0440"\ngroup = 1', 'hook = ["/bin/true", "-x", ""]\nhook_timeout_seconds = 1'],
)
def test_a_file_of_its_own_is_good(more: str) -> None:
    """Nothing is said."""
    assert found((END, f"{SINK}{more}\n{END}")) == []


@pytest.mark.parametrize(
    ("edits", "problem"),
    [
        (
            [('client = "raidiam"', 'client = "raidiam"\ngrant_type = "authorization_code"\ngrants = "many"')],
            "sink.app.token: has a grant for each person",
        ),
        (
            [('certificate = "transport"', 'sender_constraint = "dpop"')],
            "sink.app.token: is bound by DPoP",
        ),
        ([('"run/token"', '"run/token"\nmode = "0600"\ngroup = 1')], "sink.app.group: has no effect"),
        ([('"run/token"', '"run/token"\nhook = ["true"]')], "sink.app.hook[0]: must be an absolute path"),
        ([('"run/token"', '"run/token"\nhook_timeout_seconds = 5')], "sink.app.hook_timeout_seconds: is for a hook"),
        ([("[sink.app]", f"{STATE}[sink.app]"), ("run/token", "state/x/token")], "sink.app.path: lies in the state"),
        ([("run/token", "x" * 251)], "sink.app.path: has a file name of more than 250 bytes"),
        ([("run/token", "run/../app.sock")], "sink.app.path: is that of listener.app.path too"),
        ([("run/token", "/etc/token-broker/signing.key")], "sink.app.path: is that of key.signing.file too"),
        ([("run/token", "transport.key")], "sink.app.path: is that of certificate.transport.key_file too"),
        ([("run/token", "audit.jsonl")], "sink.app.path: is that of audit.file too"),
        ([("run/token", "audit.key")], "sink.app.path: is that of audit.key too"),
    ],
)
def test_what_does_not_go_together_is_said(edits: list[tuple[str, str]], problem: str) -> None:
    """One problem each, with what to write."""
    (said,) = found((END, f"{SINK}\n{END}"), *edits)

    assert said.startswith(problem)
    assert "; " in said


def test_two_sinks_have_two_files() -> None:
    """However the path is written."""
    other = SINK.replace("sink.app", "sink.other").replace("run/token", "/etc/token-broker/run/token")

    (said,) = found((END, f"{SINK}{other}\n{END}"))

    assert said.startswith("sink.other.path: is that of sink.app.path too")


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (('"directory"', '"directry"'), "sink.app.token"),
        (('path = "run/token"\n', ""), "sink.app.path"),
        (('"run/token"', '"run/token"\nmode = "0644"'), "sink.app.mode"),
        (('"run/token"', '"run/token"\nmode = "0660"'), "sink.app.mode"),
        (('"run/token"', '"run/token"\nmode = "0750"'), "sink.app.mode"),
        (('"run/token"', '"run/token"\nmode = "0200"'), "sink.app.mode"),
        (('"run/token"', '"run/token"\nmode = "rw-"'), "sink.app.mode"),
        (('"run/token"', '"run/token"\nformat = "xml"'), "sink.app.format"),
        (('"run/token"', '"run/token"\nhook = "/bin/true"'), "sink.app.hook"),
        (
            ('"run/token"', '"run/token"\nhook = ["/bin/true"]\nhook_timeout_seconds = 0'),
            "sink.app.hook_timeout_seconds",
        ),
        (('"run/token"', '"run/token"\nowner = "nobody-here"'), "sink.app.owner"),
        (('"run/token"', '"run/token"\ngroup = "nobody-here"'), "sink.app.group"),
    ],
)
def test_a_single_mistake_has_its_place(tmp_path: Path, edit: tuple[str, str], place: str) -> None:
    """As for every other section."""
    assert only_problem(tmp_path, changed() + SINK.replace(*edit)).path == place


def test_a_sink_comes_out_as_it_was_written(tmp_path: Path) -> None:
    """Names are numbers, the path is absolute, and the argument vector is kept."""
    text = changed() + SINK + 'owner = "app"\ngroup = "readers"\nhook = ["/bin/true", "$x"]\nhook_timeout_seconds = 3\n'

    (made,) = load(tmp_path, text, accounts=FakeAccounts(users={"app": 7}, groups={"readers": 8})).sinks

    assert (made.name, made.token, made.path) == ("app", "directory", tmp_path / "run" / "token")
    assert (made.mode, made.uid, made.gid, made.format) == (0o640, 7, 8, "text")
    assert made.hook is not None
    assert (made.hook.argv, made.hook.timeout) == (("/bin/true", "$x"), 3.0)


def test_a_configuration_with_sinks_needs_no_workload(tmp_path: Path) -> None:
    """The file is who gets the token; without one nobody would."""
    text = changed()[: changed().index(END)]

    assert [problem.path for problem in problems(tmp_path, text)] == ["workload"]
    assert problems(tmp_path, text + SINK) == ()
    assert [warning.path for warning in load(tmp_path, text + SINK).warnings] == ["sink.app.token"]
