"""A ranker's latency is measured on one thread, whatever the process uses otherwise."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from random_examples import random_examples
from threadpoolctl import ThreadpoolController

from recommender.engine.context import FitContext
from recommender.evaluation import latency
from recommender.matching.examples import Examples
from recommender.models.campaign import ranker_class
from recommender.models.campaign.ranker import Ranker

SMALL = {
    "transformer": {"width": 8, "blocks": 1, "members": 1, "pretrain_epochs": 1, "tune_epochs": 0},
    "popularity": {},
}
WITHOUT_TORCH = """
import sys
from random_examples import random_examples
from recommender.evaluation.latency import measure
from recommender.engine.context import FitContext
from recommender.models.campaign import ranker_class

examples, labels = random_examples(num_pairs=60, num_users=10)
popularity = ranker_class("popularity")
ranker = popularity.fit(
    examples, labels, corpus=examples.histories, config=popularity.Config(), context=FitContext()
)
assert measure(ranker, [lambda: examples], 9) is not None
assert "torch" not in sys.modules
"""


def fitted(name: str) -> tuple[Ranker, Examples]:
    examples, labels = random_examples(num_pairs=120, num_users=25)
    context = FitContext()
    kind = ranker_class(name)
    config = kind.Config.parse(SMALL[name], owner=name)
    ranker = kind.fit(examples, labels, corpus=examples.histories, config=config, context=context)
    one = examples.users_N == 0
    request = replace(
        examples,
        campaigns_N=examples.campaigns_N[one],
        users_N=examples.users_N[one],
        features_NF=examples.features_NF[one],
    )
    return ranker, request


def threads(libraries: ThreadpoolController) -> tuple[int, set[int]]:
    """What this process computes with now: torch, BLAS."""
    import torch

    return torch.get_num_threads(), {int(one["num_threads"]) for one in libraries.info() if one["user_api"] == "blas"}


@contextmanager
def two_threads() -> Iterator[ThreadpoolController]:
    """Two threads for torch and BLAS, whose libraries it returns: looking for them takes long."""
    import torch

    libraries = ThreadpoolController()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with libraries.limit(limits=2, user_api="blas"):
            assert threads(libraries) == (2, {2})
            yield libraries
    finally:
        torch.set_num_threads(before)


def test_a_request_is_timed_with_one_thread_of_torch_and_of_blas() -> None:
    ranker, request = fitted("transformer")
    seen = []

    def recorded() -> Examples:
        seen.append(threads(libraries))
        return request

    with two_threads() as libraries:
        assert latency.measure(ranker, [recorded], 9) is not None
        assert threads(libraries) == (2, {2})
    timed = seen[latency.WARM_UP :]
    assert len(timed) >= latency.MIN_ROUNDS
    assert set(map(str, timed)) == {str((1, {1}))}


def test_the_threads_come_back_when_a_request_fails() -> None:
    ranker, request = fitted("popularity")
    left = latency.WARM_UP + 3

    def failing() -> Examples:
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError("the features are gone")
        return request

    with two_threads() as libraries:
        with pytest.raises(RuntimeError, match="the features are gone"):
            latency.measure(ranker, [failing], 9)
        assert threads(libraries) == (2, {2})


def test_a_ranker_without_torch_is_measured_without_importing_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        env={"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("disturbed", [range(latency.WARM_UP, latency.WARM_UP + 3), range(0, 10_000, 2)])
def test_only_each_users_fastest_time_counts_in_milliseconds_of_cpu_time(disturbed: range) -> None:
    ranker, request = fitted("popularity")
    calls = 0

    def sometimes_busy() -> Examples:
        nonlocal calls
        if calls in disturbed:
            until = time.thread_time() + 0.02
            while time.thread_time() < until:
                pass
        calls += 1
        return request

    measured = latency.measure(ranker, [sometimes_busy], 9)
    assert measured is not None
    assert 0 < measured.p50_ms <= measured.p95_ms < 20
    assert measured.num_campaigns == 9
    assert latency.MIN_ROUNDS <= measured.num_rounds <= latency.MAX_ROUNDS


def test_another_thread_of_the_process_that_spins_does_not_count() -> None:
    ranker, request = fitted("popularity")
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(1000))

    def slow() -> Examples:
        time.sleep(0.03)
        return request

    spinner = threading.Thread(target=spin)
    spinner.start()
    try:
        measured = latency.measure(ranker, [slow], 9)
    finally:
        stop.set()
        spinner.join()
    assert measured is not None
    assert measured.p95_ms < 20


@pytest.mark.parametrize(
    ("p95_by_round", "stable"),
    [
        ([5.0] * (latency.MIN_ROUNDS - 1), False),
        ([5.0] * latency.MIN_ROUNDS, True),
        ([9.0 - 0.1 * k for k in range(latency.MIN_ROUNDS)], False),
        ([9.0] * latency.MIN_ROUNDS + [5.0] * latency.UNCHANGED_ROUNDS, False),
        ([9.0] * latency.MIN_ROUNDS + [5.0] * latency.UNCHANGED_ROUNDS + [4.95], True),
    ],
)
def test_a_measurement_ends_when_more_rounds_no_longer_lower_it(p95_by_round: list[float], stable: bool) -> None:
    assert latency.is_stable(p95_by_round) == stable
