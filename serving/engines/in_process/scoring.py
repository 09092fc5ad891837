"""The gateway's half: a pool of worker processes for each version that the deployer wants.

wanted.json   {version: {"asked": …, "bundle": …}}, written by the deployer
loaded.json   {version: {"asked": …, "ready": …, "of": …, "failed": …, "problem": …}}, written here, and touched
              every second
"""

import asyncio
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from recommender.settings import Settings
from recommender.storage.home import ServingState
from recommender.storage.manifest import write_text
from serving.engines.contract import Reply
from serving.engines.in_process.workers import Pool
from serving.request import PROBE

TOUCH_S = 1.0
"""Seconds between signs of life to the deployer."""
END_S = 1.0
"""Seconds for workers to end with the gateway, which has answered everything by then."""
UNKNOWN = b'{"error":"not_found","message":"the version is not loaded"}'


@dataclass(frozen=True)
class Wanted:
    """What the deployer wants of one version."""

    asked: int
    """Grows with each attempt, so that the outcome of an earlier one is not taken for this one's."""
    bundle: str


@dataclass(frozen=True)
class Loaded:
    """What became of it."""

    asked: int
    ready: int = 0
    of: int = 0
    failed: bool = False
    problem: str = ""


class InProcessScoring:
    """Scores in worker processes of this one."""

    def __init__(self, settings: Settings, arrived_s: Callable[[], float]) -> None:
        self._settings, self._arrived_s = settings, arrived_s
        self._state = ServingState.of(settings)
        self._seen: tuple[int, int] | None = None
        self._wanted: dict[str, Wanted] = {}
        self._pools: dict[str, tuple[int, Pool]] = {}
        self._closing: list[Pool] = []
        self._said: dict[str, Loaded] | None = None
        self._said_s = 0.0

    async def score(self, version: str, body: bytes) -> Reply:
        """See `Scoring`. Cancelling it takes the request out of the queue, unless a worker has it."""
        known = self._pools.get(version)
        if known is None:
            return Reply(404, UNKNOWN, time.perf_counter())
        return await known[1].score(body)

    async def probe(self, version: str) -> int:
        """See `Scoring`."""
        return (await self.score(version, orjson.dumps(PROBE))).status

    async def follow(self) -> None:
        """Start and end workers as the deployer wants, and say what became of them."""
        self._wanted = await asyncio.to_thread(self._read)
        for version in [known for known in self._pools if known not in self._wanted]:
            self._close(version)
        for version, wanted in self._wanted.items():
            asked, pool = self._pools.get(version, (None, None))
            if pool is not None and (asked == wanted.asked or not pool.failed):
                self._pools[version] = (wanted.asked, pool)  # a version that works is not loaded again
                pool.look()
                continue
            self._close(version)
            self._pools[version] = (wanted.asked, self._pool(version, wanted))
        for pool in self._closing:
            pool.look()
        said = {
            version: Loaded(asked, pool.num_ready, pool.size, pool.failed, pool.problem)
            for version, (asked, pool) in self._pools.items()
        }
        await asyncio.to_thread(self._say, said)

    def close(self) -> None:
        """End all workers."""
        for version in list(self._pools):
            self._close(version)
        for pool in self._closing:
            pool.reap(END_S)
        self._state.loaded.unlink(missing_ok=True)

    def _pool(self, version: str, wanted: Wanted) -> Pool:
        return Pool(version, Path(wanted.bundle), self._settings, self._arrived_s)

    def _close(self, version: str) -> None:
        _, pool = self._pools.pop(version, (0, None))
        if pool is not None:
            pool.close()
            self._closing.append(pool)

    def _read(self) -> dict[str, Wanted]:
        try:
            stat = self._state.wanted.stat()
        except FileNotFoundError:
            self._seen = None
            return {}
        seen = (stat.st_ino, stat.st_mtime_ns)
        wanted = self._wanted if seen == self._seen else read_wanted(self._state)
        self._seen = seen
        return wanted

    def _say(self, said: dict[str, Loaded]) -> None:
        now_s = time.monotonic()
        if said != self._said:
            document = {version: asdict(one) for version, one in said.items()}
            write_text(self._state.loaded, json.dumps(document, indent=1))
            self._said, self._said_s = said, now_s
        elif now_s - self._said_s > TOUCH_S:
            os.utime(self._state.loaded)
            self._said_s = now_s


def read_wanted(state: ServingState) -> dict[str, Wanted]:
    """What the deployer wants, by version. Nothing, where the file is missing."""
    try:
        document = json.loads(state.wanted.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {version: Wanted(**one) for version, one in document.items()}


def read_loaded(state: ServingState) -> dict[str, Loaded]:
    """What the gateway says, by version. Nothing, where the file is missing."""
    try:
        document = json.loads(state.loaded.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {version: Loaded(**one) for version, one in document.items()}
