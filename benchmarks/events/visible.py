"""From an event to an answer that knows it, end to end: a campaign is hidden, and the next answer does not have it.

The client's figures count from the moment at which an event was due, so a client that is late counts as well. Beside
them stand the gateway's own figures of the stages, from the first byte of an event to the store.
"""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.decision.rows import Row
from benchmarks.decision_log.requests import HOST, Connections
from benchmarks.served_shop import Shop, served
from recommender.storage.home import ServingState
from serving.deployer.processes import find
from serving.load.generator import post

EVENTS_PER_S = REQUESTS_PER_S = 100
GOAL_S = 1.0
WARM_S = 3.0
"""Seconds of load before anything is measured."""
ASKED_AGAIN_S = 0.005
"""Pause before an answer that does not know the event yet is asked again."""
STAGES = ("checked", "logged", "stored")


def rows(shop: Shop, seconds: float, say: Callable[[str], None]) -> list[Row]:
    """Measure for some seconds."""
    with served(shop) as url:
        say(f"event to changed answer: {EVENTS_PER_S} events/s beside {REQUESTS_PER_S} requests/s for {seconds:g} s")
        gateway = find(ServingState.of(shop.settings).pid_file("gateway"))
        assert gateway is not None
        gateway_s, client_s, began_s = _cpu_s(gateway.pid), time.process_time(), time.monotonic()
        load = asyncio.run(_loaded(shop, seconds))
        wall_s = time.monotonic() - began_s
        facts = {
            "events": load.events,
            "requests": load.asked,
            "seconds": seconds,
            "engine": "in_process",
            "asked_again": load.asked_again,
            "gateway_cpu_share": (_cpu_s(gateway.pid) - gateway_s) / wall_s,
            "client_cpu_share": (time.process_time() - client_s) / wall_s,
            "machine_load": os.getloadavg()[0],
        }
        # Given out by the gateway itself.
        stages = _stages(httpx.get(f"{url}/metrics", trust_env=False).text)
    found = [Row(name="event to changed answer, p50, s", value=_quantile(load.found_s, 0.5), goal="", facts=facts)]
    found.append(Row.at_most("event to changed answer, p99, s", _quantile(load.found_s, 0.99), GOAL_S, **facts))
    for name, times_s in (
        ("event due to acknowledged, p99, s", load.acknowledged_s),
        ("answer asked beside events, p99, s", load.answered_s),
        ("client behind its own plan, p99, s", load.behind_s),
    ):
        found.append(Row(name=name, value=_quantile(times_s, 0.99), goal="", facts={"times": len(times_s)}))
    for stage, (mean_s, at_most_s, number) in stages.items():
        name = f"in the gateway, {stage}, mean, s"
        found.append(Row(name=name, value=mean_s, goal="", facts={"p99_at_most_s": at_most_s, "times": number}))
    return [*found, Row.at_most("requests and events that failed beside", load.failed.total(), 0, **load.failed)]


@dataclass
class _Load:
    """The load on one gateway, and what came of it."""

    connections: Connections
    warm: float
    """When measuring begins, on the clock of `time.monotonic`."""
    found_s: list[float] = field(default_factory=list)
    acknowledged_s: list[float] = field(default_factory=list)
    answered_s: list[float] = field(default_factory=list)
    behind_s: list[float] = field(default_factory=list)
    asked: int = 0
    asked_again: int = 0
    events: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """What was not answered as it should be, by path and answer."""
    busy: set[str] = field(default_factory=set)

    async def ask(self, user: str) -> list[str]:
        """The campaigns of an answer. A failure counts, and has none."""
        self.asked += 1
        status, body = await self._post("/v1/recommendations", {"user_id": user})
        if status != 200:
            self.failed[f"recommendations: {status} {body[:200].decode()}"] += 1
            return []
        return [one["campaign_id"] for one in json.loads(body)["campaigns"]]

    async def ask_once(self, user: str, _: int, due: float) -> None:
        await self.ask(user)
        self._note(self.answered_s, due)

    async def send(self, event: dict[str, str]) -> bool:
        """Whether an event was taken as a new one."""
        self.events += 1
        status, body = await self._post("/v1/events", event)
        taken = status == 202 and json.loads(body)["accepted"] == 1
        if not taken:
            self.failed[f"events: {status} {body[:200].decode()}"] += 1
        return taken

    async def hide(self, user: str, number: int, due: float) -> None:
        """Hide the first campaign of a user's answer, wait until it is gone, and let it be shown again."""
        # One at a time for each user: another one's `like` would show the campaign again.
        if user in self.busy:
            return
        self.busy.add(user)
        self._note(self.behind_s, due)
        shown = await self.ask(user)
        if shown:
            # The event is due when the user has seen the answer.
            began_s = time.monotonic()
            event = {"event_id": str(number), "kind": "hide", "user_id": user, "campaign_id": shown[0]}
            if await self.send(event):
                self._note(self.acknowledged_s, began_s)
                while shown[0] in await self.ask(user):
                    self.asked_again += 1
                    await asyncio.sleep(ASKED_AGAIN_S)
                self._note(self.found_s, began_s)
                await self.send({**event, "event_id": f"{number} again", "kind": "like"})
        self.busy.discard(user)

    def _note(self, times_s: list[float], since: float) -> None:
        if since > self.warm:
            times_s.append(time.monotonic() - since)

    async def _post(self, path: str, document: dict[str, str]) -> tuple[int, bytes]:
        # httpx took 4.7 ms of CPU time for a request with hundreds of tasks under way: at this rate it measured itself.
        return await self.connections.ask(post(path, json.dumps(document).encode(), host=HOST))


async def _loaded(shop: Shop, seconds: float) -> _Load:
    warm, half = time.monotonic() + WARM_S, len(shop.users) // 2
    load = _Load(Connections(shop.settings.serving.port), warm)
    # Each `hide` is followed by a `like`, so half as many give the rate of events.
    await asyncio.gather(
        _every(EVENTS_PER_S / 2, load.hide, shop.users[:half], warm + seconds),
        _every(REQUESTS_PER_S, load.ask_once, shop.users[half:], warm + seconds),
    )
    load.connections.close()
    return load


async def _every(
    per_s: float, work: Callable[[str, int, float], Coroutine[None, None, None]], users: list[str], ends: float
) -> None:
    number, tasks, began = 0, set[asyncio.Task[None]](), time.monotonic()
    while (due := began + number / per_s) < ends:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(work(users[number % len(users)], number, due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
    await asyncio.gather(*tasks)


def _quantile(times_s: list[float], q: float) -> float:
    return float(np.quantile(times_s, q)) if times_s else float("inf")


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process so far: user and system, fields 14 and 15 of /proc/PID/stat."""
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 (no path of ours)
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _stages(metrics: str) -> dict[str, tuple[float, float, int]]:
    """For each stage its mean, the bound of the bucket that holds its p99, and how many there were."""
    families = {family.name: family.samples for family in text_string_to_metric_families(metrics)}
    found = {}
    for stage in (*STAGES, "folded"):
        name = "recommender_event_fold_seconds" if stage == "folded" else "recommender_event_stage_seconds"
        own = [one for one in families[name] if one.labels.get("stage", "folded") == stage]
        total = {one.name.rpartition("_")[2]: one.value for one in own if "le" not in one.labels}
        buckets = sorted((float(one.labels["le"]), one.value) for one in own if "le" in one.labels)
        number = int(total["count"])
        at_most_s = next(bound for bound, below in buckets if below >= 0.99 * number)
        found[stage] = total["sum"] / max(1, number), at_most_s, number
    return found
