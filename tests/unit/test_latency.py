"""A ranker's latency is measured on one thread, whatever the process uses otherwise."""

import subprocess
import sys
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
    assert timed == [(1, {1})] * latency.ROUNDS * latency.CALLS


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


def test_the_answer_is_of_the_quietest_round_in_milliseconds_of_cpu_time() -> None:
    ranker, request = fitted("popularity")
    calls = 0

    def busy_at_first() -> Examples:
        nonlocal calls
        calls += 1
        if calls <= latency.WARM_UP + latency.CALLS:
            until = time.process_time() + 0.02
            while time.process_time() < until:
                pass
        return request

    measured = latency.measure(ranker, [busy_at_first], 9)
    assert measured is not None
    assert 0 < measured.p50_ms <= measured.p95_ms < 20
    assert measured.num_campaigns == 9
