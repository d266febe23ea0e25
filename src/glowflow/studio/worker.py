"""One thread that computes, and a queue before it."""

import asyncio
import ctypes
import itertools
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from enum import IntEnum
from typing import Any, TypeVar

from ..errors import GlowflowError

Result = TypeVar("Result")


class BusyError(GlowflowError):
    """More is asked for than can wait."""


class Urgency(IntEnum):
    """Which of those that wait goes first."""

    DRAGGED = 0
    """Somebody's finger is on a slider."""
    ASKED = 1
    """Somebody has pressed a button."""
    BACKGROUND = 2
    """Nobody waits."""


class Worker:
    """Runs functions one after another in a thread of its own, the urgent ones first.

    A model computes with all cores already: two at a time would each take twice as long.

    Args:
        waiting: functions that can wait; more are refused.
    """

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self._jobs: queue.PriorityQueue[tuple[int, int, Callable[[], None] | None]]
        self._jobs = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._last_urgent = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="glow-studio", daemon=True)
        self._thread.start()

    async def run(
        self, urgency: Urgency, function: Callable[..., Result], *arguments: Any, **named: Any
    ) -> Result:
        """The function's result, when it is its turn.

        Raises:
            BusyError: too many wait already.
        """
        return await asyncio.wrap_future(self.submit(urgency, function, *arguments, **named))

    def submit(
        self, urgency: Urgency, function: Callable[..., Result], *arguments: Any, **named: Any
    ) -> "Future[Result]":
        """`run`, for who is not in an event loop."""
        if urgency is not Urgency.BACKGROUND:
            self._last_urgent = time.monotonic()
        ahead = self._jobs.qsize()
        if ahead >= self.waiting:
            raise BusyError(f"The studio is busy: {ahead} requests wait. Try again in a moment.")
        future: Future[Result] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return  # whoever asked has gone
            try:
                future.set_result(function(*arguments, **named))
            except BaseException as error:
                future.set_exception(error)

        self._jobs.put((urgency, next(self._numbers), job))
        return future

    @property
    def idle_seconds(self) -> float:
        """Since somebody has asked for something."""
        return time.monotonic() - self._last_urgent

    def close(self) -> None:
        """End the thread after what it does now."""
        self._jobs.put((-1, -1, None))
        self._thread.join()

    def _work(self) -> None:
        while True:
            urgency, _, job = self._jobs.get()
            if job is None:
                return
            job()
            if urgency != Urgency.DRAGGED and self._jobs.empty():
                give_back()


def give_back() -> None:
    """Let the C library return to the system what a large picture needed, where it can."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
