"""From an event to an answer that knows it, end to end: a campaign is hidden, and the next answer does not have it."""

import asyncio
import time
from collections.abc import Callable

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
        found_s, asked, failed = asyncio.run(_load(shop, url, seconds))
    facts = {"events": len(found_s), "requests": asked, "failed": failed, "seconds": seconds, "engine": "in_process"}
    p50, p99 = (float(np.quantile(found_s, q)) for q in (0.5, 0.99))
    return [
        Row(name="event to changed answer, p50, s", value=p50, goal="", facts=facts),
        Row.at_most("event to changed answer, p99, s", p99, GOAL_S, **facts),
        Row.at_most("requests and events that failed beside", failed, 0),
    ]


async def _load(shop: Shop, url: str, seconds: float) -> tuple[list[float], int, int]:
    found_s: list[float] = []
    counts = {"asked": 0, "failed": 0}
    ends, warm = time.monotonic() + WARM_S + seconds, time.monotonic() + WARM_S
    half, busy = len(shop.users) // 2, set[str]()
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=url, timeout=20, limits=limits, trust_env=False) as client:

        async def ask(user: str) -> list[str]:
            answer = await client.post("/v1/recommendations", json={"user_id": user})
            if answer.status_code != 200:
                counts["failed"] += 1
                return []
            return [one["campaign_id"] for one in answer.json()["campaigns"]]

        async def hide(user: str, number: int) -> None:
            # One at a time for each user: another one's `like` would show the campaign again.
            if user not in busy:
                busy.add(user)
                await hide_once(user, number)
                busy.discard(user)

        async def hide_once(user: str, number: int) -> None:
            shown = await ask(user)
            if not shown:
                return
            began_s = time.monotonic()
            event = {"event_id": str(number), "kind": "hide", "user_id": user, "campaign_id": shown[0]}
            answer = await client.post("/v1/events", json=event)
            if answer.status_code != 202:
                counts["failed"] += 1
                return
            while shown[0] in await ask(user):
                await asyncio.sleep(ASKED_AGAIN_S)
            if began_s > warm:
                found_s.append(time.monotonic() - began_s)
            again = {**event, "event_id": f"{number} again", "kind": "like"}
            await client.post("/v1/events", json=again)

        async def other(user: str, _: int) -> None:
            await ask(user)
            counts["asked"] += 1

        async def every(per_s: float, work: Callable[..., object], users: list[str]) -> None:
            number, tasks = 0, set[asyncio.Task[None]]()
            began = time.monotonic()
            while time.monotonic() < ends:
                task = asyncio.ensure_future(work(users[number % len(users)], number))  # type: ignore[call-overload]
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                number += 1
                await asyncio.sleep(max(0.0, began + number / per_s - time.monotonic()))
            await asyncio.gather(*tasks)

        # Each `hide` is followed by a `like`, so half as many give the rate of events.
        await asyncio.gather(
            every(EVENTS_PER_S / 2, hide, shop.users[:half]), every(REQUESTS_PER_S, other, shop.users[half:])
        )
    return found_s, counts["asked"], counts["failed"]
