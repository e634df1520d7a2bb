"""Problems and how they read."""

from __future__ import annotations

from broker.config.problems import ConfigurationError, Findings, Problem


def test_a_problem_reads_place_message_hint() -> None:
    """One line an operator can act on."""
    problem = Problem(path="token.directory.client", message='no client named "a"', hint='did you mean "b"?')

    assert str(problem) == 'token.directory.client: no client named "a"; did you mean "b"?'


def test_a_problem_of_the_whole_file_names_no_place() -> None:
    """A line of TOML that cannot be read has no key yet."""
    problem = Problem(path="", message="line 3, column 1: not valid TOML")

    assert str(problem) == "line 3, column 1: not valid TOML"


def test_findings_keep_their_order() -> None:
    """The order of the file, not of the alphabet."""
    findings = Findings()
    findings.add("b", "first")
    findings.add("a", "second")

    assert [problem.path for problem in findings.problems()] == ["b", "a"]


def test_the_error_carries_every_problem() -> None:
    """The command prints them; nothing else has to parse a message."""
    problem = Problem(path="a", message="is missing")

    error = ConfigurationError("configuration_invalid", "1 problem", problems=[problem])

    assert error.problems == (problem,)
    assert error.code == "configuration_invalid"
