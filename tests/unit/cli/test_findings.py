"""Tests of ``broker/cli/findings.py``: a line each, what to do below it, and nothing that steers a terminal."""

from __future__ import annotations

import json

from broker.cli.findings import Level, as_json, as_lines, failed, of_error, ok, skipped, warning
from broker.errors import LocalError

FINDINGS = [ok("a", "good"), warning("b", "soon", "do this"), failed("c", "broken", "do that"), skipped("d", "unknown")]


def test_each_finding_is_a_line_and_its_advice_another():
    """In the words that scripts look for, aligned."""
    assert as_lines(FINDINGS, colors=False, width=None) == [
        "ok      a: good",
        "warning b: soon",
        "        -> do this",
        "FAILED  c: broken",
        "        -> do that",
        "skipped d: unknown",
    ]


def test_on_a_terminal_lines_are_broken_at_its_edge():
    """And what goes on stands under the text."""
    lines = as_lines([failed("c", "word " * 30, "advice " * 20)], colors=False, width=80)

    assert max(map(len, lines)) <= 80
    assert all(line.startswith(("FAILED", "        ")) for line in lines)


def test_colors_are_for_the_first_word_alone():
    """What is broken or long stays readable."""
    assert as_lines([failed("c", "broken")], colors=True, width=80) == ["\x1b[31mFAILED \x1b[0m c: broken"]


def test_what_a_peer_says_cannot_steer_the_terminal():
    """Findings hold names from files and answers."""
    assert "\x1b" not in "".join(as_lines([failed("\x1b[2J", "\x1b[2J", "\x1b[2J")], colors=False, width=None))


def test_an_error_is_a_finding_with_its_code_and_hint():
    """The code is what the reference is searched for."""
    found = of_error("p", LocalError("some_code", "it is so", hint="do so"))

    assert (found.level, found.text, found.advice) == (Level.FAILED, "it is so [some_code]", "do so")


def test_json_says_at_its_head_whether_anything_failed():
    """For a script that wants no more."""
    whole, good = json.loads(as_json(FINDINGS)), json.loads(as_json(FINDINGS[:2]))

    assert (whole["ok"], good["ok"]) == (False, True)
    assert whole["findings"][2] == {"level": "failed", "place": "c", "text": "broken", "advice": "do that"}
