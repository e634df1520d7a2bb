"""The file: reading it, who may write it, and the syntax of TOML."""

from __future__ import annotations

import hashlib
import os
import tomllib
from pathlib import Path

import pytest

from broker.config.problems import ConfigurationError, Findings
from broker.config.source import (
    _SYNTAX,
    MAX_BYTES,
    Owner,
    _syntax,
    _unreadable,
    check_owner,
    check_way,
    parse,
    read_source,
)

US = 990
OUR_GROUP = 991
SOMEBODY = 1_000


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    """The audit log names the configuration by it, so that sha256sum(1) finds the file."""
    path = tmp_path / "config.toml"
    path.write_bytes(b"# \xc3\xa9\r\n")

    source = read_source(path)

    assert source.content == b"# \xc3\xa9\r\n"
    assert source.sha256 == hashlib.sha256(b"# \xc3\xa9\r\n").hexdigest()


def test_a_missing_file_is_said_with_the_ways_to_name_one(tmp_path: Path) -> None:
    """The first thing that goes wrong for a newcomer."""
    with pytest.raises(ConfigurationError) as caught:
        read_source(tmp_path / "none.toml")

    assert caught.value.code == "configuration_unreadable"
    assert "there is no configuration" in caught.value.message
    assert caught.value.hint == "name it with --config or TOKEN_BROKER_CONFIG"
    assert caught.value.problems == ()


def test_a_file_that_we_may_not_read_is_said_with_our_uid() -> None:
    """The operator's own account usually can, so the number matters. (Root, as tests may run, can read all.)"""
    error = _unreadable(Path("config.toml"), PermissionError())

    assert error.message == f"the configuration config.toml may not be read by uid {os.geteuid()}"
    assert error.hint is not None
    assert "0640" in error.hint


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    """A volume mounted where a file was meant."""
    with pytest.raises(ConfigurationError, match="is not a file"):
        read_source(tmp_path)


def test_a_fifo_does_not_hang_the_start(tmp_path: Path) -> None:
    """Opening one would wait for a writer for ever."""
    path = tmp_path / "fifo"
    os.mkfifo(path)

    with pytest.raises(ConfigurationError, match="is not a file"):
        read_source(path)


def test_a_path_with_a_file_in_its_middle_cannot_be_read(tmp_path: Path) -> None:
    """Any other error of the system is said in the system's words."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="cannot be read: Not a directory"):
        read_source(tmp_path / "file" / "config.toml")


def test_a_path_with_nul_is_no_path() -> None:
    """The standard library raises ValueError for it, not OSError."""
    with pytest.raises(ConfigurationError, match="is not a path"):
        read_source(Path("a\0b"))


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    """A log or an image named by mistake."""
    path = tmp_path / "config.toml"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)

    with pytest.raises(ConfigurationError, match="is longer than"):
        read_source(path)


@pytest.mark.parametrize(
    ("owner", "refused", "doubted"),
    [
        pytest.param(Owner(mode=0o644, uid=0, gid=0), False, False, id="root's"),
        pytest.param(Owner(mode=0o640, uid=US, gid=OUR_GROUP), False, False, id="ours"),
        pytest.param(Owner(mode=0o664, uid=0, gid=0), False, False, id="root's group may write"),
        pytest.param(Owner(mode=0o664, uid=US, gid=OUR_GROUP), False, True, id="our group may write"),
        pytest.param(Owner(mode=0o664, uid=US, gid=SOMEBODY), True, False, id="another group may write"),
        pytest.param(Owner(mode=0o646, uid=0, gid=0), True, False, id="everybody may write"),
        pytest.param(Owner(mode=0o644, uid=SOMEBODY, gid=SOMEBODY), True, False, id="somebody else's"),
    ],
)
def test_who_may_write_the_file_decides_who_gets_tokens(owner: Owner, refused: bool, doubted: bool) -> None:
    """Others are refused; whom the operator chose is said."""
    problems, warnings = Findings(), Findings()

    check_owner(owner, euid=US, egid=OUR_GROUP, problems=problems, warnings=warnings)

    assert bool(problems.problems()) == refused
    assert bool(warnings.problems()) == doubted


def test_a_file_that_somebody_else_could_replace_is_refused(tmp_path: Path) -> None:
    """Through a directory that they may write; the directory is named, with what mends it."""
    (tmp_path / "open").mkdir()
    path = tmp_path / "open" / "config.toml"
    path.write_text("")
    good, bad = Findings(), Findings()

    check_way(path, good)
    (tmp_path / "open").chmod(0o777)
    check_way(path, bad)

    assert good.problems() == ()
    (problem,) = bad.problems()
    assert f"{tmp_path / 'open'} is writable for everybody" in problem.message
    assert str(problem.hint).startswith("chmod o-w")


def test_a_way_that_cannot_be_walked_is_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """It was there a moment ago."""
    (tmp_path / "circle").symlink_to("circle")

    with pytest.raises(ConfigurationError) as caught:
        check_way(tmp_path / "circle", Findings())

    assert caught.value.code == "configuration_unreadable"


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("a = 1\nb\n", "line 2, column 2", "a key is not followed by '='"),
        ("a = 1\n  ?\n", "line 2, column 3", "no key, table or comment begins like this"),
        ("a = x", "line 1, column 5", "strings stand in quotation marks"),
        ('a = "x', "end of file", "a string is not closed"),
        ("a = 'x", "end of file", "a string is not closed"),
        ('a = "x\nb = 1', "line 1, column 7", "a string is not closed"),
        ("mode = 0600", "line 1, column 9", "a mode, like every string, stands in quotation marks"),
        ("a = [1", "end of file", "an array is not closed"),
        ("a = {b = 1", "end of file", "an inline table is not closed"),
        ("a = 1\na = 2\n", "line 2, column 6", "there already"),
        ("a = 1 b = 2", "line 1, column 7", "something follows"),
        ("[a\n", "line 1, column 3", "not closed by ']'"),
        ("[[a]\n", "line 1, column 4", "not closed by ']]'"),
        ('a = "\\q"', "line 1, column 8", "is written"),
        ("a = 2026-02-31", "line 1, column 5", "there is no such date"),
        ("[a]\n[a]", "line 2, column 3", "there already"),
        ("a = {}\n[a.b]\n", "line 2, column 5", "there already"),
        ("a = {b = 1, b = 1}", "line 1, column 18", "not valid TOML"),
    ],
)
def test_a_syntax_error_has_line_column_and_a_reason(text: str, place: str, what: str) -> None:
    """The usual slips, in words that say what to look for."""
    findings = Findings()

    parsed = parse(text.encode(), findings)

    (problem,) = findings.problems()
    assert parsed is None
    assert problem.path == ""
    assert problem.message.startswith(f"{place}: ")
    assert what in problem.message


def test_each_saying_of_ours_is_one_of_tomllib() -> None:
    """A saying that tomllib no longer has would never be shown."""
    source = Path(tomllib.__file__).with_name("_parser.py").read_text()

    for saying in _SYNTAX:
        assert repr(saying)[1:-1] in source or saying.replace("\\", "\\\\") in source


def test_an_unknown_form_of_syntax_error_is_not_passed_on() -> None:
    """Another version of the parser may say something else, and repeat the file in it."""
    assert _syntax("hunter2 is bad TOML") == "not valid TOML"
    assert _syntax("Bad 'hunter2' (at line 3, column 1)") == "line 3, column 1: not valid TOML"


@pytest.mark.parametrize(
    "text",
    [
        "passphrase = { hunter2, }",
        "passphrase = { hunter2 = 1, hunter2 = 2 }",
        "[hunter2]\n[hunter2]",
        "hunter2 = 1\n[hunter2.a]",
        "a = hunter2",
        'a = "hunter2',
        "a = 'hunter2\x01'",
    ],
)
def test_a_syntax_error_repeats_nothing_of_the_file(text: str) -> None:
    """A secret without its quotation marks is a syntax error, and must not get into a log for that."""
    findings = Findings()

    parse(text.encode(), findings)

    (problem,) = findings.problems()
    assert "hunter2" not in str(problem)


def test_bytes_that_are_not_utf8_are_said_with_their_line() -> None:
    """An editor with an old encoding."""
    findings = Findings()

    parse(b"a = 1\n# gr\xf6sser\n", findings)

    assert [problem.message for problem in findings.problems()] == ["line 2: not UTF-8"]


def test_a_file_of_brackets_is_refused_and_does_not_end_the_process() -> None:
    """The parser of the standard library is recursive."""
    findings = Findings()

    parse(b"a = " + b"[" * 100_000, findings)

    assert [problem.message for problem in findings.problems()] == ["not valid TOML: nested too deeply"]


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    """The interpreter refuses it with an error that is not one of TOML."""
    findings = Findings()

    parse(b"a = " + b"9" * 5_000, findings)

    assert [problem.message for problem in findings.problems()] == ["not valid TOML: a value has no meaning"]


@pytest.mark.parametrize("more", ["", "when = 2026-11-29\n"])
def test_what_is_parsed_is_what_the_parser_of_the_standard_library_gives(more: str) -> None:
    """Also where there is a date in it, which is packed in no way."""
    text = "a = [1, -0.5, inf, true, 'x']\n" + more + '[token."\u00e9"]\nb = { c = """d\n""", e = [[], {}] }\n'
    findings = Findings()

    parsed = parse(text.encode(), findings)

    assert parsed == tomllib.loads(text)
    assert not findings.problems()
