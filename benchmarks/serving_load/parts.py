"""Where the time of a worker goes: one user's request by part, alone and in batches, for real users of the champion."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import orjson

from benchmarks.decision.rows import Row
from benchmarks.serving_load.loads import UnderTest
from recommender.errors import RecommenderError
from recommender.features.some_users import some_users
from recommender.matching.item_choice import ItemChooser
from recommender.matching.rerank import Rerank
from recommender.registry import Registry
from serving import config, wire
from serving.request import RecommendationRequest, ScoringRequest
from serving.worker import answering as answering_module
from serving.worker import bodies, scoring
from serving.worker.answering import Answering

USERS, WARM_UP, ROUNDS = 192, 2, 10
"""Different users, and how often all of them are asked before and while the clock runs. By hand: a few seconds."""
TOGETHER = (1, 4, 16)
"""Requests that are scored together: an idle endpoint, a busy one, and the most in one body."""
FOREVER_US = 10**15
PARTS: dict[str, tuple[tuple[Any, str], ...]] = {
    "the request is read": ((wire, "decode"),),
    "the user is unpacked": ((answering_module, "unpack"), (scoring, "unpack_user")),
    "purchases are matched with campaigns": ((scoring, "match"),),
    "features": ((scoring, "build"),),
    "items": ((ItemChooser, "choose"),),
    "reasons": ((scoring, "reasons"), (scoring, "_weights")),
}
"""Part -> functions that it consists of, where the worker looks them up. None of them calls another one."""
RANKER, JSON, REST = "the ranker", "JSON is written", "the rest"


def rows(endpoint: UnderTest, moments: dict[int, datetime], say: Callable[[str], None]) -> list[Row]:
    """Measure a worker in this process at the moments (number of live campaigns -> moment)."""
    found = []
    for num_campaigns, moment in moments.items():
        for together in TOGETHER:
            parts_us = _measured(endpoint, moment, together)
            total_us = sum(parts_us.values())
            words = " · ".join(f"{part} {part_us:.0f}" for part, part_us in parts_us.items())
            say(f"worker, {num_campaigns} live, {together} together: {total_us:.0f} us a request: {words}")
            name = f"worker: us per request, {num_campaigns} live, {together} scored together"
            facts = {"us": {part: round(part_us, 1) for part, part_us in parts_us.items()}}
            found.append(Row(name=name, value=round(total_us, 1), goal="reported", facts=facts))
    return found


def _measured(endpoint: UnderTest, moment: datetime, together: int) -> dict[str, float]:
    """Microseconds of each part for one request: the median over the bodies."""
    settings = config.absolute(endpoint.settings.updated(time={"as_of": moment}))
    registry = Registry(settings.home)
    version = registry.champion()
    if version is None:
        raise RecommenderError(f"{settings.home}: the registry has no champion")
    answering = Answering(settings, version, registry.bundle(version))
    try:
        asked = _bodies(answering, together)
        for _ in range(WARM_UP):
            for body in asked:
                bodies.respond(answering, body)
        records = []
        with _timed(answering) as spent:
            for body in asked * ROUNDS:
                spent.clear()
                began = time.perf_counter()
                bodies.respond(answering, body)
                took = time.perf_counter() - began
                records.append({**spent, REST: took - sum(spent.values())})
    finally:
        answering.close()
    return {part: statistics.median(one.get(part, 0.0) for one in records) / together * 1e6 for part in records[0]}


def _bodies(answering: Answering, together: int) -> list[bytes]:
    settings = answering.settings
    alone = []
    for user in some_users(settings, USERS):
        packed = answering.online_store.read(user)
        if packed is not None:
            asked = ScoringRequest(
                request=RecommendationRequest(user_id=user),
                as_of_us=answering.shops.now_us(),
                allow_repeats=settings.serving.allow_repeats,
                answer_by_us=time.time_ns() // 1000 + FOREVER_US,
                rerank=Rerank.of(settings.serving),
            )
            alone.append(wire.encode(asked, packed.content, answering.key))
    batches = [alone[start : start + together] for start in range(0, len(alone) - together + 1, together)]
    return [wire.encode_batch(batch) if together > 1 else batch[0] for batch in batches]


@contextmanager
def _timed(answering: Answering) -> Iterator[dict[str, float]]:
    """Count the seconds of each part while the context lasts."""
    spent: dict[str, float] = defaultdict(float)

    def counted(part: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return real(*given, **named)
            finally:
                spent[part] += time.perf_counter() - began

        return call

    def ranked(examples: Any) -> Any:
        redeem_N, contributions = counted(RANKER, real_ranked)(examples)
        return redeem_N, counted(RANKER, contributions)

    real_ranked = answering.ranker.ranked
    with ExitStack() as stack:
        for part, functions in PARTS.items():
            for owner, name in functions:
                stack.enter_context(_replaced(owner, name, counted(part, getattr(owner, name))))
        stack.enter_context(_replaced(answering.ranker, "ranked", ranked))
        stack.enter_context(_replaced(bodies, "orjson", SimpleNamespace(dumps=counted(JSON, orjson.dumps))))
        yield spent


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    real = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, real)
