"""Measures how long a ranker computes for one user and all live campaigns, which is a request without network.

The load of other programs on a shared machine must not influence a verdict. So it is the CPU time of one thread, in
which a worker of the model server computes too. Other threads of the process that wait and spin do not count. What
other programs still cost only ever adds. So every user's request is timed again and again, the fastest time of each
counts, and the measurement ends when further rounds no longer lower the result. Programs on the same physical core slow
every round alike, by up to a half. So a fixed computation is timed between the requests, and the figures are in
milliseconds of a machine on which it takes `REFERENCE_MS`.

Shapes: U users.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from recommender.evaluation.document import Latency
from recommender.matching.examples import Examples
from recommender.models.campaign.ranker import Ranker

WARM_UP = 5
"""Calls that are not timed, chosen by hand: the first ones load libraries and fill caches."""
MIN_ROUNDS, MAX_ROUNDS = 8, 60
"""Rounds over all requests. Chosen by hand: a disturbance of one scheduler slice seldom lasts through eight rounds, and
sixty of twenty requests at the limit of 25 ms take half a minute."""
UNCHANGED_ROUNDS, UNCHANGED = 5, 0.02
"""The result is stable when as many rounds lower the 95th percentile by no more than this share. Chosen by hand."""
REFERENCE_MS = 0.7
"""What `_reference` takes on the machine whose milliseconds are meant: one core of an AMD EPYC without other load."""


def measure(ranker: Ranker[Any], requests: Sequence[Callable[[], Examples]], num_campaigns: int) -> Latency | None:
    """Measure percentiles over users of building one user's examples and scoring them, each at its least disturbed.

    Args:
        ranker: what is measured.
        requests: one function for each user that builds its examples. They are called in turn.
        num_campaigns: campaigns of a request; without any, nothing is measured.
    """
    if not requests or num_campaigns == 0:
        return None
    # Before the threads are limited: a library that is first imported by a request could not be limited yet.
    for k in range(WARM_UP):
        ranker.score(requests[k % len(requests)]())
    fastest_U = np.full(len(requests), np.inf)
    p95_by_round: list[float] = []
    # As often as each request, so that both have the same chance of an undisturbed round.
    reference_U = np.full(len(requests), np.inf)
    reference = _reference()
    with one_thread():
        while len(p95_by_round) < MAX_ROUNDS and not is_stable(p95_by_round):
            for user, request in enumerate(requests):
                reference_U[user] = min(reference_U[user], _milliseconds(reference))
                fastest_U[user] = min(fastest_U[user], _milliseconds(partial(_answer, ranker, request)))
            p95_by_round.append(float(np.quantile(fastest_U, 0.95) / np.quantile(reference_U, 0.95)) * REFERENCE_MS)
    return Latency(
        p50_ms=float(np.median(fastest_U) / np.median(reference_U)) * REFERENCE_MS,
        p95_ms=p95_by_round[-1],
        num_campaigns=num_campaigns,
        num_rounds=len(p95_by_round),
        stable=is_stable(p95_by_round),
    )


def _answer(ranker: Ranker[Any], request: Callable[[], Examples]) -> object:
    return ranker.score(request())


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.thread_time_ns()
    call()
    return (time.thread_time_ns() - start) / 1e6


def _reference() -> Callable[[], object]:
    """A fixed computation like a small network's: products of matrices, gathers and calls of Python."""
    random = np.random.default_rng(0)
    x, weights = random.random((50, 64), dtype=np.float32), random.random((64, 64), dtype=np.float32)
    table, rows = random.random((5000, 64), dtype=np.float32), random.integers(0, 5000, 50)

    def compute() -> object:
        for _ in range(30):
            y = np.maximum(table[rows] @ weights + x, 0)
            y = np.exp(y - y.max(axis=1, keepdims=True))
            y /= y.sum(axis=1, keepdims=True)
        return y

    return compute


def is_stable(p95_by_round: Sequence[float]) -> bool:
    """Whether the last rounds have not lowered the result any more."""
    if len(p95_by_round) < MIN_ROUNDS:
        return False
    return p95_by_round[-1] >= (1 - UNCHANGED) * p95_by_round[-1 - UNCHANGED_ROUNDS]


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS, OpenMP and torch, where it is imported, to one thread, and restore their limits afterwards."""
    # Importing torch takes over a second and 200 MB, so it is only looked up: a ranker without torch does not need it.
    torch = sys.modules.get("torch")
    threads = None if torch is None else torch.get_num_threads()
    try:
        if torch is not None:
            torch.set_num_threads(1)
        with threadpool_limits(limits=1):
            yield
    finally:
        if torch is not None:
            torch.set_num_threads(threads)
