"""Answers of the real endpoint while each write of the decision log takes 3 s: how late they are, and what is logged.

Requests are sent at fixed times, whether or not earlier ones were answered, and a latency counts from the time at which
its request should have been sent. The same requests are sent before, with an undisturbed disk.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.decision.rows import Row
from benchmarks.decision_log.requests import HOST, Connections
from benchmarks.serving import MOST_SHOWN, users_of
from recommender.decision_tables import read_decisions
from recommender.decisions.log import folders_of
from recommender.errors import RecommenderError
from recommender.settings import Settings
from recommender.storage.home import Home
from serving import config
from serving.deployer.endpoint import serve
from serving.deployer.torchserve import free_port
from serving.load.generator import get, post

DELAY_S = 3.0
"""Seconds that each write takes: the fault of the task."""
ADDED_MS = 50.0
"""Milliseconds above the deadline that the 99th percentile may take: the goal of the task."""
RATE, SECONDS = 100.0, 20.0
"""Requests a second, a fifth of what two cores answer, and for how long. By hand: 2,000 requests and six writes."""
PATH = "/v1/recommendations"
WARM_UP = 50
"""Requests before each phase. By hand."""
HEALTH_S = 0.1
"""Seconds between health checks. By hand."""
INJECTED = """
import os, sys, time

if any("serving.gateway" in word for word in sys.orig_argv):
    pwrite = os.pwrite

    def delayed(descriptor, content, offset):
        if os.path.exists(os.environ["BENCH_DELAYED"]):
            time.sleep({delay})
        return pwrite(descriptor, content, offset)

    os.pwrite = delayed
"""


@dataclass
class Measured:
    """Latencies of one phase, milliseconds."""

    answers: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    late: int = 0
    """Answers that were marked `decision_log`."""
    refused: int = 0
    """Requests that were refused as too many at once."""


def rows(settings: Settings, chosen: argparse.Namespace, say: Callable[[str], None]) -> list[Row]:
    """Start an endpoint of this home's champion, measure with and without the fault, and stop it."""
    ports = {key: free_port() for key in ("port", "inference_port", "management_port", "metrics_port")}
    folder = Home.of(settings).benchmark("decision_log_delayed").resolve()
    own = config.absolute(settings.updated(serving={**ports, "state": folder}))
    site, flag = folder / "site", folder / "delayed"
    site.mkdir(parents=True, exist_ok=True)
    flag.unlink(missing_ok=True)
    # Python imports `sitecustomize` before anything else: the gateway is the product's own, on a disk that hangs.
    (site / "sitecustomize.py").write_text(INJECTED.format(delay=DELAY_S), encoding="utf-8")
    os.environ |= {"PYTHONPATH": str(site), "BENCH_DELAYED": str(flag)}
    users, rate = users_of(own), chosen.rate
    with serve(own):
        undisturbed = asyncio.run(_measure(own.serving.port, users, rate))
        flag.touch()
        delayed = asyncio.run(_measure(own.serving.port, users, rate))
        flag.unlink()
        _wait_written(own, delayed)
    logged = [str(decision["request_id"]) for decision in read_decisions(own)]
    known = set(delayed.request_ids)
    wrong = len(known - set(logged)) + len(logged) - len(set(logged))
    limit = own.serving.deadline_ms + ADDED_MS
    facts = {
        "p50": _percentile(delayed.answers, 50),
        "undisturbed_p99": _percentile(undisturbed.answers, 99),
        "undisturbed_p50": _percentile(undisturbed.answers, 50),
        "answers": len(delayed.answers),
        "marked": delayed.late,
        "refused": delayed.refused,
        "undisturbed_refused": undisturbed.refused,
        "rate": rate,
        "delay_s": DELAY_S,
    }
    say(f"{facts}")
    return [
        Row.at_most(
            "p99 of answers, decision-log write delayed 3 s, ms", _percentile(delayed.answers, 99), limit, **facts
        ),
        Row.at_most(
            "p99 of /healthz, decision-log write delayed 3 s, ms",
            _percentile(delayed.health, 99),
            100,
            undisturbed=_percentile(undisturbed.health, 99),
            checks=len(delayed.health),
        ),
        Row.at_least(
            "share of answers marked decision_log, decision-log write delayed 3 s",
            delayed.late / len(delayed.answers),
            1,
        ),
        Row.at_most("records lost or doubled, decision-log write delayed 3 s", wrong, 0, answers=len(known)),
    ]


async def _measure(port: int, users: list[str], rate: float) -> Measured:
    measured, connections = Measured(), Connections(port)
    asking = [post(PATH, orjson.dumps({"user_id": user}), host=HOST) for user in users]
    for request in asking[:WARM_UP]:
        await connections.ask(request)
    began = time.perf_counter() + 0.1
    asked = [
        _ask(connections, measured, began + number / rate, asking[number % len(asking)])
        for number in range(round(rate * SECONDS))
    ]
    checked = [_check(connections, measured, began + number * HEALTH_S) for number in range(round(SECONDS / HEALTH_S))]
    await asyncio.gather(*asked, *checked)
    connections.close()
    return measured


async def _ask(connections: Connections, measured: Measured, at: float, request: bytes) -> None:
    await asyncio.sleep(max(0.0, at - time.perf_counter()))
    status, body = await connections.ask(request)
    if status == 503:
        measured.refused += 1  # too many at once, which a busy machine may cause: no answer, and at once
        return
    measured.answers.append((time.perf_counter() - at) * 1e3)
    if status != 200:
        raise RecommenderError(f"the gateway answered {status}: {body[:MOST_SHOWN].decode(errors='replace')}")
    answer: dict[str, Any] = orjson.loads(body)
    measured.request_ids.append(answer["request_id"])
    measured.late += "decision_log" in answer["degraded_reasons"]


async def _check(connections: Connections, measured: Measured, at: float) -> None:
    await asyncio.sleep(max(0.0, at - time.perf_counter()))
    status, _ = await connections.ask(get("/healthz", host=HOST))
    if status != 200:
        raise RecommenderError(f"/healthz answered {status}")
    measured.health.append((time.perf_counter() - at) * 1e3)


def _wait_written(settings: Settings, measured: Measured) -> None:
    """Wait until the disk has taken what waits, at most a minute."""
    own, shared = folders_of(settings)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(_holds(folder, measured.request_ids[-1]) for folder in (own, shared)):
            return
        time.sleep(0.2)


def _holds(folder: Path, request_id: str) -> bool:
    return any(
        request_id.encode() in path.read_bytes() for path in folder.glob(f"{request_id.partition('.')[0]}.jsonl")
    )


def _percentile(milliseconds: list[float], percent: float) -> float:
    return float(np.percentile(np.array(milliseconds), percent))
