"""How long a ranker computes for one user and all live campaigns, in process: what a request costs besides the network.

CPU time, not the clock's: a neighbour's load on a shared machine is no property of the ranker, and a verdict must not hang on it.
One thread, as a worker serves: threads that wait for each other spin, and on a busy machine their spinning is most of the CPU time.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from threadpoolctl import threadpool_limits

from recommender.evaluation.document import Latency
from recommender.matching.examples import Examples
from recommender.models.campaign.ranker import Ranker

ROUNDS, CALLS, WARM_UP = 3, 40, 5


def measure(ranker: Ranker, requests: Sequence[Callable[[], Examples]], num_campaigns: int) -> Latency | None:
    """Percentiles of building one user's examples and scoring them on one thread, of the quietest of three rounds.

    `requests`: one function a user, called in turn.
    """
    if not requests or num_campaigns == 0:
        return None
    # Before the threads are limited: a library that is first imported by a request could not be limited yet.
    for k in range(WARM_UP):
        ranker.score(requests[k % len(requests)]())
    rounds = []
    with one_thread():
        for _ in range(ROUNDS):
            taken = []
            for k in range(CALLS):
                start = time.process_time_ns()
                ranker.score(requests[k % len(requests)]())
                taken.append((time.process_time_ns() - start) / 1e6)
            rounds.append(np.quantile(taken, [0.5, 0.95]))
    p50, p95 = min(rounds, key=lambda found: float(found[1]))
    return Latency(p50_ms=float(p50), p95_ms=float(p95), num_campaigns=num_campaigns)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for BLAS, for OpenMP, and for torch where it was imported; what they had before comes back afterwards."""
    torch = sys.modules.get(
        "torch"
    )  # importing it takes over a second and 200 MB; a ranker without torch has no use for it
    threads = None if torch is None else torch.get_num_threads()
    try:
        if torch is not None:
            torch.set_num_threads(1)
        with threadpool_limits(limits=1):
            yield
    finally:
        if torch is not None:
            torch.set_num_threads(threads)
