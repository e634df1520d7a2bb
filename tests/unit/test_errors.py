"""Errors that can be shown: stable codes, hints, and nothing of what a peer sent."""

from __future__ import annotations

import pickle

import pytest

from broker.errors import BrokerError, LocalError, Outcome, RemoteError, frames_of


def test_an_error_has_a_code_a_message_and_a_hint() -> None:
    """The code is for programs, the message for people, the hint for who can act."""
    error = LocalError("file_missing", "there is no file", hint="create it")

    assert (error.code, error.message, error.hint) == ("file_missing", "there is no file", "create it")
    assert str(error) == "there is no file"


def test_a_hint_is_not_always_known() -> None:
    """Without one there is None, and no empty line for people."""
    assert LocalError("file_missing", "there is no file").hint is None


def test_the_families_are_apart() -> None:
    """Who catches the other side's errors does not swallow ours."""
    assert issubclass(LocalError, BrokerError)
    assert issubclass(RemoteError, BrokerError)
    assert not issubclass(LocalError, RemoteError)
    assert not issubclass(RemoteError, LocalError)


def test_a_remote_error_says_what_became_of_the_request() -> None:
    """The outcome decides what may be sent again; it has no default that could be wrong."""
    error = RemoteError(
        "rate_limited", "slow down", outcome=Outcome.REFUSED, status=429, server_error="unrecognized", retry_after=7.0
    )

    assert (error.outcome, error.status, error.server_error, error.retry_after) == (
        Outcome.REFUSED,
        429,
        "unrecognized",
        7.0,
    )
    with pytest.raises(TypeError, match="outcome"):
        RemoteError("rate_limited", "slow down")  # type: ignore[call-arg]


def test_a_remote_error_without_an_answer_has_no_status() -> None:
    """Nothing is made up for a request that nobody answered."""
    error = RemoteError("timed_out", "no answer", outcome=Outcome.UNKNOWN)

    assert (error.status, error.server_error, error.retry_after, error.hint) == (None, None, None, None)


def test_outcomes_are_those_of_the_rules() -> None:
    """They are labels of logs: their text is an interface."""
    assert {str(outcome) for outcome in Outcome} == {"not_sent", "refused", "unknown", "answered"}


def test_frames_tell_where_and_nothing_of_what() -> None:
    """A message and a local variable may hold a secret; neither is in the frames."""
    canary = "canary-in-message"

    def fail() -> None:
        held_in_a_local = "canary-in-local"
        raise ValueError(canary + held_in_a_local)

    error = raised_by(fail)

    told = frames_of(error)

    assert told.startswith("ValueError at test_errors.py:")
    assert told.endswith(" fail")
    assert "canary" not in told


def test_frames_follow_the_cause() -> None:
    """The chain is told from the last error to the first."""

    def fail() -> None:
        try:
            look_up()
        except KeyError as error:
            raise LocalError("broken", "it broke") from error

    told = frames_of(raised_by(fail))

    last, first = told.split(" <- ")
    assert last.startswith("LocalError at ")
    assert first.startswith("KeyError at ")
    assert "secret" not in told


def test_frames_follow_the_context_of_an_error_in_a_handler() -> None:
    """An error that happened while another was handled tells both."""

    def fail() -> None:
        try:
            look_up()
        except KeyError:
            raise RuntimeError("again")  # noqa: B904 - the implicit context is what is tested

    assert [part.split(" at ")[0] for part in frames_of(raised_by(fail)).split(" <- ")] == ["RuntimeError", "KeyError"]


def test_frames_stop_where_a_foreign_exception_was_cut_off() -> None:
    """``from None`` keeps what a library knew out of the frames, too."""

    def fail() -> None:
        try:
            look_up()
        except KeyError:
            raise LocalError("broken", "it broke") from None

    told = frames_of(raised_by(fail))

    assert " <- " not in told
    assert "KeyError" not in told


def test_frames_of_an_error_that_causes_itself_end() -> None:
    """A circle of causes is told once around."""
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first

    assert frames_of(first) == "ValueError at unknown place <- KeyError at unknown place"


def test_frames_of_an_error_that_was_never_raised() -> None:
    """It has no place, and is still told."""
    assert frames_of(ValueError("secret")) == "ValueError at unknown place"


def test_frames_name_no_folder() -> None:
    """The path of an installation is nobody's business."""
    told = frames_of(raised_by(lambda: pickle.loads(b"not a pickle")))

    assert "/" not in told


def look_up() -> str:
    """Fail as a library would, with something secret in the message."""
    table: dict[str, str] = {}
    return table["secret"]


def raised_by(act: object) -> BaseException:
    """Give the error that *act* raises, with its traceback."""
    assert callable(act)
    try:
        act()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked at
        return error
    raise AssertionError("nothing was raised")
