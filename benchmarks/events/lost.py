"""Acknowledged events that killed gateways lost: SIGKILL at any moment, and the next process of the same folder."""

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

import httpx
import psycopg
import redis

from benchmarks.decision.rows import Row
from benchmarks.served_shop import Shop
from recommender.events.postgres import seen_table
from recommender.storage.home import Home, ServingState
from serving.deployer.endpoint import start_gateway
from serving.deployer.processes import find
from serving.online_store.client import OnlineStoreClient

KILLS, SENDERS = 10, 8
START_S, READ_S = 60.0, 20.0


def rows(shop: Shop, number: int, say: Callable[[str], None]) -> list[Row]:
    """Send events until `number` are acknowledged, killing the gateway ten times on the way."""
    item, acknowledged, sent = shop.catalogue.item_ids[1], list[str](), 0
    for life in range(KILLS + 1):
        wanted = number * (life + 1) // (KILLS + 1)
        running = start_gateway(shop.settings)
        try:
            sent = asyncio.run(_send(shop, item, acknowledged, sent, wanted, kills=life < KILLS))
        finally:
            running.stop()
        say(f"{len(acknowledged):,} events acknowledged, {min(life + 1, KILLS)} kills")
    folder = Home.of(shop.settings).events
    lines = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    logged = {line.get("event_id") for line in lines}
    in_store, num_lines = _in_store(shop)
    lost = len(set(acknowledged) - logged)
    facts = {"acknowledged": len(acknowledged), "sent": sent, "kills": KILLS}
    return [
        Row.at_most("acknowledged events lost from the log over ten SIGKILLs", lost, 0, **facts),
        Row.at_most(
            "acknowledged events lost from the online store over ten SIGKILLs",
            len(set(acknowledged) - in_store) + max(0, len(in_store) - num_lines),
            0,
            **facts,
        ),
    ]


def _in_store(shop: Shop) -> tuple[set[str], int]:
    """The ids that the store has noted, and the number of lines in users' tails."""
    settings = shop.settings
    if settings.store.kind == "redis":
        with closing(redis.Redis.from_url(settings.store.redis_url)) as client:
            prefix = settings.store.project.encode() + b":event:"
            ids = {key.removeprefix(prefix).decode() for key in client.scan_iter(prefix + b"*", count=1_000)}
    elif settings.store.kind == "postgres":
        address = settings.store.postgres
        with psycopg.connect(host=address.host, dbname=address.database, user=address.user) as connection:
            query = f"SELECT event_id FROM {seen_table(settings.store.project)}"
            ids = {event_id for (event_id,) in connection.execute(query.encode())}
    else:
        with closing(sqlite3.connect(Home.of(settings).feature_store.event_tails)) as file:
            ids = {event_id for (event_id,) in file.execute("SELECT event_id FROM seen")}
    with closing(OnlineStoreClient.open(settings)) as store:
        rows = [store.read(user, READ_S) for user in shop.users]
    return ids, sum(row.tail.count(b"\n") for row in rows if row is not None)


async def _send(shop: Shop, item: str, acknowledged: list[str], sent: int, wanted: int, *, kills: bool) -> int:
    """Send over several connections until enough are acknowledged, and then kill the gateway in the middle."""
    numbers = iter(range(sent, 10**9))
    last = sent
    async with httpx.AsyncClient(base_url=shop.url, timeout=20, trust_env=False) as client:
        await _started(client)

        async def sender() -> None:
            nonlocal last
            while len(acknowledged) < wanted or kills:
                last = next(numbers)
                event = {"event_id": f"e{last}", "kind": "view", "user_id": shop.users[last % len(shop.users)]}
                try:
                    answer = await client.post("/v1/events", json={**event, "item_id": item})
                except httpx.TransportError:
                    return
                if answer.status_code == 202:
                    acknowledged.append(event["event_id"])

        async def killer() -> None:
            while len(acknowledged) < wanted:
                await asyncio.sleep(0.01)
            process = find(ServingState.of(shop.settings).pid_file("gateway"))
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)

        await asyncio.gather(*(sender() for _ in range(SENDERS)), *([killer()] if kills else []))
    return last + 1


async def _started(client: httpx.AsyncClient) -> None:
    ends = time.monotonic() + START_S
    while True:
        try:
            await client.get("/healthz")
            return
        except httpx.TransportError:
            if time.monotonic() > ends:
                raise
            await asyncio.sleep(0.05)
