"""The turns of the event loop: how long arrived bytes may have waited for it, and how long it takes for a request.

A turn reads what has arrived on all connections, and then runs everything that is due. While it runs, new bytes wait
in the kernel, and nothing tells later when they came. So a callback marks the beginning of each turn for as long as
turns follow each other without a pause: bytes that are read came after the mark before. That holds for uvloop, which
reads between two turns; asyncio's own loop reads within one.
"""

import asyncio
import math
import time

SMOOTHING = 0.1
"""Weight of the newest turn. Turns of a busy loop last some 10 ms, so the figures follow within tenths of a second."""

OCCUPANCY_S = 0.2
"""Time constant of the occupancy: longer than a burst of one page's requests, shorter than a client waits to retry."""


class Turns:
    """Marks the turns of one event loop, and counts the requests that were admitted in them."""

    def __init__(self, *, floor_s: float) -> None:
        self._floor_s = floor_s
        self._began_s: float | None = None
        """When the turn that now runs, or that was the last one, began. None: the loop slept since."""
        self._scheduled = self._bytes_came = False
        self._occupancy, self._marked_s = 0.0, time.perf_counter()
        self._admitted = 0
        self._mean_s, self._mean_admitted = floor_s, 1.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def arrived_s(self) -> float:
        """When bytes that are being read arrived, at the earliest, on the clock of `time.perf_counter`."""
        now_s = time.perf_counter()
        self._bytes_came = True
        if not self._scheduled:
            self._scheduled = True
            self._loop = self._loop or asyncio.get_running_loop()
            self._loop.call_soon(self._mark)
        return now_s if self._began_s is None else self._began_s

    def occupancy(self) -> float:
        """Share of the last tenths of a second in which the loop was busy, from 0 to 1."""
        if self._began_s is not None:
            return self._occupancy
        return self._occupancy * math.exp((self._marked_s - time.perf_counter()) / OCCUPANCY_S)

    def admit(self) -> None:
        """Count a request that the next turn begins to handle."""
        self._admitted += 1

    @property
    def request_s(self) -> float:
        """Seconds of the event loop for one request, at least the floor."""
        return max(self._floor_s, self._mean_s / self._mean_admitted)

    def _mark(self) -> None:
        now_s = time.perf_counter()
        kept = math.exp((self._marked_s - now_s) / OCCUPANCY_S)
        self._occupancy, self._marked_s = self._occupancy * kept, now_s
        if self._began_s is not None:
            self._occupancy += 1.0 - kept
            # Means of both, and not of their ratio: a turn may handle many requests or only finish earlier ones.
            self._mean_s += SMOOTHING * (now_s - self._began_s - self._mean_s)
            self._mean_admitted = max(1e-3, self._mean_admitted + SMOOTHING * (self._admitted - self._mean_admitted))
            self._admitted = 0
        if self._bytes_came:
            self._bytes_came, self._began_s = False, now_s
            assert self._loop is not None
            self._loop.call_soon(self._mark)
        else:
            self._began_s, self._scheduled = None, False
