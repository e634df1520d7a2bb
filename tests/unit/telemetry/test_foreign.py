from __future__ import annotations

import asyncio
import errno
import gc
import logging
import sys
import threading
from typing import Any

import pytest
from aiohttp.log import server_logger

from broker.events import Event, LibraryReported, UnexpectedFailure
from broker.telemetry.foreign import LOGGERS, foreign_reports, loop_exception_handler, name_of
from tests.fakes import Events

CANARY = "s3cret-canary-0001"


def raising(error: BaseException) -> BaseException:
    """Raise *error* with the canary among the locals, and give it with its traceback."""

    def fail(local: str) -> None:
        assert local
        raise error

    with pytest.raises(type(error)) as caught:
        fail(CANARY)
    return caught.value


def handled(context: dict[str, Any]) -> UnexpectedFailure:
    """Give the event that a report of the loop becomes."""
    events = Events()
    with asyncio.Runner() as runner:
        loop_exception_handler(events)(runner.get_loop(), context)
    (event,) = events.of(UnexpectedFailure)
    return event


def test_an_exception_in_the_loop_is_a_place_and_types():
    """Neither its message, nor its locals, nor what the loop says about it."""
    event = handled({"message": f"Exception in callback {CANARY}", "exception": raising(ValueError(CANARY))})

    assert event.error == "ValueError"
    assert "test_foreign.py" in event.frames
    assert CANARY not in repr(event)


@pytest.mark.parametrize(
    ("context", "where"),
    [
        ({"message": "socket.accept() out of system resource", "socket": object()}, "accept"),
        ({"handle": CANARY}, "callback"),
        ({"transport": CANARY, "protocol": CANARY}, "transport"),
        ({"asyncgen": CANARY}, "asynchronous generator"),
        ({"future": asyncio.Future[None]}, "task without a coroutine"),
        ({"message": CANARY}, "event loop"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_report_without_an_exception_still_says_what_it_was_about(context: dict[str, Any], where: str):
    """In our words: those of the loop are made of reprs."""
    event = handled({"message": CANARY} | context)

    assert (event.where, event.error, event.frames) == (where, "none", "")


def test_running_out_of_descriptors_is_named():
    """The code of the system is worth more than the type."""
    event = handled({"message": "", "socket": object(), "exception": raising(OSError(errno.EMFILE, CANARY))})

    assert (event.where, event.error) == ("accept", "OSError EMFILE")
    assert name_of(OSError("no code")) == "OSError"


async def test_a_task_that_nobody_waited_for_is_named_by_its_function():
    """The function's name is in our source; the task's repr is not shown."""
    events = Events()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(loop_exception_handler(events))

    async def forgotten(secret: str) -> None:
        raise ValueError(secret)

    task = loop.create_task(forgotten(CANARY), name=CANARY)
    await asyncio.sleep(0)
    del task
    gc.collect()

    (event,) = events.of(UnexpectedFailure)
    assert event.where.startswith("task ")
    assert event.where.endswith("forgotten")
    assert event.error == "ValueError"
    assert CANARY not in repr(event)


async def reported(act: Any) -> list[Event]:
    """Give the events that come of *act* while foreign reports are taken."""
    events = Events()
    with foreign_reports(events, asyncio.get_running_loop()):
        act()
        assert events.seen == []  # later: it may come from the middle of anything
        await asyncio.sleep(0)
    return events.seen


@pytest.mark.parametrize("name", [*LOGGERS, "aiohttp.server", "asyncio.child"])
async def test_what_libraries_log_keeps_its_place_and_loses_its_words(name: str, caplog: pytest.LogCaptureFixture):
    """Messages and arguments are made of what came from a peer."""

    def act() -> None:
        logging.getLogger(name).error("cannot read s3cret-canary-0001 %r", CANARY, exc_info=raising(ValueError(CANARY)))

    (event,) = await reported(act)

    assert isinstance(event, LibraryReported)
    assert event.library == name
    assert event.where.startswith("test_foreign.py:")
    assert event.error == "ValueError"
    assert CANARY not in repr(event)
    assert caplog.text == ""


async def test_only_warnings_and_worse_are_reported():
    """Libraries chat a lot."""

    def act() -> None:
        server_logger.info("chat")
        server_logger.debug("chat")
        server_logger.warning("worse")

    (event,) = await reported(act)

    assert isinstance(event, LibraryReported)
    assert (event.error, event.frames) == (None, None)


async def test_an_exception_in_a_destructor_is_a_place_and_types(capsys: pytest.CaptureFixture[str]):
    """Python would print its message."""

    class Fragile:
        def __del__(self) -> None:
            raise ValueError(CANARY)

    def act() -> None:
        fragile = Fragile()
        del fragile
        gc.collect()

    (event,) = await reported(act)

    assert isinstance(event, UnexpectedFailure)
    assert (event.where, event.error) == ("destructor", "ValueError")
    assert CANARY not in repr(event) + capsys.readouterr().err


@pytest.mark.real_time
async def test_an_exception_in_a_thread_is_a_place_and_types(capsys: pytest.CaptureFixture[str]):
    """It is emitted by the loop, not by the thread."""
    emitted_by: list[int] = []
    events = Events()

    def emit(event: Event) -> None:
        emitted_by.append(threading.get_ident())
        events(event)

    def work() -> None:
        raise ValueError(CANARY)

    with foreign_reports(emit, asyncio.get_running_loop()):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        await asyncio.sleep(0)

    (event,) = events.of(UnexpectedFailure)
    assert event.where == "thread"
    assert emitted_by == [threading.get_ident()]
    assert CANARY not in repr(event) + capsys.readouterr().err


async def test_a_report_after_the_end_of_the_loop_is_not_lost():
    """The last destructors run late."""
    events = Events()
    other = asyncio.new_event_loop()
    other.close()

    with foreign_reports(events, other):
        server_logger.warning("late")

    assert len(events.of(LibraryReported)) == 1


async def test_everything_is_as_it_was_afterwards():
    """Loggers and hooks belong to the process, and tests run several daemons in one."""
    before = (sys.unraisablehook, threading.excepthook, [_state(name) for name in LOGGERS])

    with foreign_reports(Events(), asyncio.get_running_loop()):
        during = [_state(name) for name in LOGGERS]

    assert (sys.unraisablehook, threading.excepthook, [_state(name) for name in LOGGERS]) == before
    assert during != before[2]


def _state(name: str) -> tuple[int, bool, list[logging.Handler]]:
    logger = logging.getLogger(name)
    return logger.level, logger.propagate, list(logger.handlers)
