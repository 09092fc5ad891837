"""Measures how long a ranker computes for one user and all live campaigns, which is a request without network.

It is CPU time, not wall-clock time. The load of other programs on a shared machine must not influence a verdict.

It runs in one thread, as in a worker of the model server. Threads that wait for each other spin, and on a busy machine
spinning would be most of the CPU time.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from recommender.evaluation.document import Latency
from recommender.matching.examples import Examples
from recommender.models.campaign.ranker import Ranker

ROUNDS, CALLS, WARM_UP = 3, 40, 5
"""Chosen by hand: 40 calls leave two above the 95th percentile, and a disturbance seldom lasts through three rounds."""


def measure(ranker: Ranker[Any], requests: Sequence[Callable[[], Examples]], num_campaigns: int) -> Latency | None:
    """Measure percentiles of building one user's examples and scoring them, in the least disturbed of the rounds.

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
    rounds = []
    with one_thread():
        for _ in range(ROUNDS):
            times_ms = []
            for k in range(CALLS):
                start = time.process_time_ns()
                ranker.score(requests[k % len(requests)]())
                times_ms.append((time.process_time_ns() - start) / 1e6)
            rounds.append(np.quantile(times_ms, [0.5, 0.95]))
    p50, p95 = min(rounds, key=lambda percentiles: float(percentiles[1]))
    return Latency(p50_ms=float(p50), p95_ms=float(p95), num_campaigns=num_campaigns)


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
