"""From an event to an answer that knows it, end to end: a campaign is hidden, and the next answer does not have it."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import httpx
import numpy as np

from benchmarks.decision.rows import Row
from benchmarks.events.shop import Shop, served

EVENTS_PER_S = REQUESTS_PER_S = 100
GOAL_S = 1.0
WARM_S = 3.0
"""Seconds of load before anything is measured."""
ASKED_AGAIN_S = 0.005
"""Pause before an answer that does not know the event yet is asked again."""


def rows(shop: Shop, seconds: float, say: Callable[[str], None]) -> list[Row]:
    """Measure for some seconds."""
    with served(shop) as url:
        say(f"event to changed answer: {EVENTS_PER_S} events/s beside {REQUESTS_PER_S} requests/s for {seconds:g} s")
        load = asyncio.run(_loaded(shop, url, seconds))
    facts = {"events": len(load.found_s), "requests": load.asked, "seconds": seconds, "engine": "in_process"}
    p50, p99 = (float(np.quantile(load.found_s, q)) for q in (0.5, 0.99))
    return [
        Row(name="event to changed answer, p50, s", value=p50, goal="", facts=facts),
        Row.at_most("event to changed answer, p99, s", p99, GOAL_S, **facts),
        Row.at_most("requests and events that failed beside", load.failed, 0),
    ]


@dataclass
class _Load:
    """The load on one gateway, and what came of it."""

    client: httpx.AsyncClient
    warm: float
    """When measuring begins, on the clock of `time.monotonic`."""
    found_s: list[float] = field(default_factory=list)
    asked: int = 0
    failed: int = 0
    busy: set[str] = field(default_factory=set)

    async def ask(self, user: str) -> list[str]:
        answer = await self.client.post("/v1/recommendations", json={"user_id": user})
        if answer.status_code != 200:
            self.failed += 1
            return []
        return [one["campaign_id"] for one in answer.json()["campaigns"]]

    async def ask_once(self, user: str, _: int) -> None:
        await self.ask(user)
        self.asked += 1

    async def hide(self, user: str, number: int) -> None:
        # One at a time for each user: another one's `like` would show the campaign again.
        if user not in self.busy:
            self.busy.add(user)
            await self._hide(user, number)
            self.busy.discard(user)

    async def _hide(self, user: str, number: int) -> None:
        shown = await self.ask(user)
        if not shown:
            return
        began_s = time.monotonic()
        event = {"event_id": str(number), "kind": "hide", "user_id": user, "campaign_id": shown[0]}
        answer = await self.client.post("/v1/events", json=event)
        if answer.status_code != 202:
            self.failed += 1
            return
        while shown[0] in await self.ask(user):
            await asyncio.sleep(ASKED_AGAIN_S)
        if began_s > self.warm:
            self.found_s.append(time.monotonic() - began_s)
        await self.client.post("/v1/events", json={**event, "event_id": f"{number} again", "kind": "like"})


async def _loaded(shop: Shop, url: str, seconds: float) -> _Load:
    warm, half = time.monotonic() + WARM_S, len(shop.users) // 2
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=url, timeout=20, limits=limits, trust_env=False) as client:
        load = _Load(client, warm)
        # Each `hide` is followed by a `like`, so half as many give the rate of events.
        await asyncio.gather(
            _every(EVENTS_PER_S / 2, load.hide, shop.users[:half], warm + seconds),
            _every(REQUESTS_PER_S, load.ask_once, shop.users[half:], warm + seconds),
        )
    return load


async def _every(
    per_s: float, work: Callable[[str, int], Coroutine[None, None, None]], users: list[str], ends: float
) -> None:
    number, tasks, began = 0, set[asyncio.Task[None]](), time.monotonic()
    while time.monotonic() < ends:
        task = asyncio.create_task(work(users[number % len(users)], number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
        await asyncio.sleep(max(0.0, began + number / per_s - time.monotonic()))
    await asyncio.gather(*tasks)
