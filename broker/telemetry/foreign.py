"""
What others report in our process: the event loop, the loggers of libraries, exceptions that nobody can catch.

They print what they have in hand: messages of exceptions, reprs of tasks and transports, all of which may hold
a secret or bytes from a peer. Here only the place and the types of exceptions survive, as events. Floods are
folded where events end (``sink``).
"""

from __future__ import annotations

import errno
import logging
import sys
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from broker.errors import frames_of
from broker.events import Emit, Event, LibraryReported, UnexpectedFailure

LOGGERS = ("asyncio", "aiohttp", "concurrent.futures")
"""The loggers of what runs in our process and logs through the standard library."""

LoopExceptionHandler = Callable[[AbstractEventLoop, dict[str, Any]], None]


def loop_exception_handler(emit: Emit) -> LoopExceptionHandler:
    """Make what ``loop.set_exception_handler`` takes: exceptions in callbacks and forgotten tasks, failed accepts."""

    def handle(_: AbstractEventLoop, context: dict[str, Any]) -> None:
        emit(_failure(_place(context), context.get("exception")))

    return handle


@contextmanager
def foreign_reports(emit: Emit, loop: AbstractEventLoop) -> Iterator[None]:
    """
    Turn what libraries log, and exceptions in destructors and threads, into events for as long as this lasts.

    They come from any thread, and a destructor may run in the middle of anything: so the events are emitted
    by *loop*, later.
    """

    def later(event: Event) -> None:
        try:
            loop.call_soon_threadsafe(emit, event)
        except RuntimeError:  # the loop is closed: nobody is in the middle of anything
            emit(event)

    handler = _Handler(later)
    unraisable, in_thread = sys.unraisablehook, threading.excepthook
    before = [(logger, logger.level, logger.propagate) for logger in map(logging.getLogger, LOGGERS)]
    sys.unraisablehook = lambda report: later(_failure("destructor", report.exc_value))
    threading.excepthook = lambda report: later(_failure("thread", report.exc_value))
    for logger, _, _ in before:
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = unraisable, in_thread
        for logger, level, propagate in before:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


class _Handler(logging.Handler):
    """Takes log records of libraries; never formats one."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        super().__init__(logging.WARNING)
        self._emit = emit

    def emit(self, record: logging.LogRecord) -> None:
        """Keep where it was logged, and where its exception came from."""
        error = record.exc_info[1] if record.exc_info else None
        self._emit(
            LibraryReported(
                library=record.name,
                where=f"{record.filename}:{record.lineno} {record.funcName}",
                error=None if error is None else name_of(error),
                frames=None if error is None else frames_of(error),
            )
        )


def name_of(error: BaseException) -> str:
    """Name the type of *error*, with the code that the system gave if it is the system's."""
    code = errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None
    return type(error).__name__ + (f" {code}" if code else "")


def _failure(where: str, error: BaseException | None) -> UnexpectedFailure:
    return UnexpectedFailure(
        where=where,
        incident="",
        error="none" if error is None else name_of(error),
        frames="" if error is None else frames_of(error),
    )


def _place(context: Mapping[str, Any]) -> str:
    """Say what the loop was doing, in our words: its own message is made of reprs."""
    task = context.get("task") or context.get("future")
    if task is not None:
        coroutine = task.get_coro() if hasattr(task, "get_coro") else None
        return f"task {getattr(coroutine, '__qualname__', 'without a coroutine')}"
    for key, place in (
        ("handle", "callback"),
        ("asyncgen", "asynchronous generator"),
        ("transport", "transport"),
        ("socket", "accept"),
    ):
        if key in context:
            return place
    return "event loop"
