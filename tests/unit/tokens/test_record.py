from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.tokens.record import count, flag, number, optional_number, optional_text, text, texts


def test_what_is_right_is_given_as_it_is():
    """A list becomes a tuple, as all values that are kept."""
    assert (text("a"), optional_text("a"), optional_text(None)) == ("a", "a", None)
    assert (texts(["a", "b"]), texts([])) == (("a", "b"), ())
    assert (number(1.5), number(2), optional_number(None), count(7), flag(False)) == (1.5, 2, None, 7, False)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (text, 1),
        (text, None),
        (optional_text, ["a"]),
        (texts, "ab"),
        (texts, ["a", 1]),
        (number, True),
        (number, "1"),
        (number, None),
        (optional_number, "1"),
        (count, 1.0),
        (count, False),
        (flag, 1),
        (flag, None),
    ],
)
def test_anything_else_is_an_error_that_says_nothing_of_it(read: Callable[[object], object], value: object):
    """It may be a secret."""
    with pytest.raises(TypeError) as raised:
        read(value)

    assert str(raised.value) == ""
