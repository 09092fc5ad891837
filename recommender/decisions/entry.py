"""A line of the decision log on its way to the disk, and how to wait for it."""

import asyncio
import threading
from collections.abc import Iterable

from recommender.decisions.segment import Segment

_Waiter = tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | threading.Event


class Entry:
    """A line with its place. It is `written` once no killed process can lose it."""

    __slots__ = ("_waiter", "content", "offset", "request_id", "segment", "written")

    def __init__(self, segment: Segment, offset: int, content: bytes, request_id: str | None) -> None:
        self.segment, self.offset, self.content, self.request_id = segment, offset, content, request_id
        self.written = False
        self._waiter: _Waiter | None = None

    def wait(self, within_s: float) -> bool:
        """Block until the line is written, at most `within_s`, and tell whether it is."""
        event = threading.Event()
        self._waiter = event
        # Set before `written` is looked at, as the writer sets `written` before it looks for a waiter.
        if not self.written:
            event.wait(within_s)
        return self.written

    async def wait_async(self, within_s: float) -> bool:
        """As `wait`, without blocking the event loop."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiter = (loop, future)
        if not self.written:
            # A timer alone: `asyncio.wait` and `asyncio.timeout` cost several times as much.
            timer = loop.call_later(within_s, _wake, (future,))
            try:
                await future
            finally:
                timer.cancel()
        return self.written


def mark_written(entries: Iterable[Entry]) -> None:
    """Mark lines as written and wake who waits for them, each event loop once."""
    futures: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for entry in entries:
        entry.written = True
        waiter = entry._waiter
        if isinstance(waiter, threading.Event):
            waiter.set()
        elif waiter is not None:
            futures.setdefault(waiter[0], []).append(waiter[1])
    for loop, waiting in futures.items():
        try:
            loop.call_soon_threadsafe(_wake, waiting)
        except RuntimeError:  # the loop was closed meanwhile, so nobody waits any more
            continue


def _wake(futures: Iterable[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
