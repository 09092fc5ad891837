"""Attention that sees the time between events: what it learns, and what it must not see."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from recommender.engine.context import FitContext
from recommender.errors import BundleError
from recommender.evaluation.leave_one_out import judge
from recommender.models.next_item.fusion import Fusion, FusionConfig
from recommender.models.next_item.packing import gap_classes
from recommender.models.next_item.sasrec import SASRec, SASRecConfig
from recommender.sequences import Items, LeaveOneOut, Sequences

pytestmark = pytest.mark.usefixtures("quick_gate")

DAY, V = 86_400_000_000, 40
SMALL: dict[str, Any] = {
    "width": 16,
    "blocks": 1,
    "heads": 2,
    "length": 12,
    "epochs": 12,
    "tokens": 256,
    "rate": 0.02,
    "dropout": 0.0,
}


def haste() -> Sequences:
    """After a minute the next item is the one after, after days the one ten on: only the times tell which (the gap
    before the last event holds for the next one too)."""
    rng = np.random.default_rng(8)
    items, times = [], []
    for _ in range(400):
        hasty = rng.random() < 0.5
        items.append((rng.integers(V) + np.arange(3) * 7 + np.array([0, 0, 1 if hasty else 10])) % V + 1)
        times.append(20_000 * DAY + np.array([0, 60_000_000 if hasty else 3 * DAY, DAY * 9]))
    return Sequences(
        Items(tuple(map(str, range(1, V + 1)))),
        np.arange(401, dtype=np.int64) * 3,
        np.concatenate(items).astype(np.int32),
        np.concatenate(times).astype(np.int64),
    )


def test_a_class_of_time_is_a_doubling_of_seconds() -> None:
    seconds = np.array([0, 0, 1, 2, 4, 1000, 2**40], dtype=np.int64)
    assert gap_classes(seconds[None] * 1_000_000)[0, :, 0].tolist() == [0, 0, 1, 2, 3, 10, 31]
    assert gap_classes(seconds[None] * 1_000_000)[0, 2].tolist() == [1, 1, 0, 0, 0, 0, 0]


def test_only_timed_attention_learns_what_times_alone_determine() -> None:
    sequences = haste()
    train, asked = sequences.take(np.arange(300)), sequences.take(np.arange(300, 400))
    target_U, asked = asked.last_U(), asked.without_last()
    gains = {}
    for timed in (True, False):
        context = FitContext(seed=3)
        config = SASRecConfig.parse({**SMALL, "timed": timed, "relative": True, "epochs": 60}, owner="sasrec")
        ranker = SASRec.fit(train, held_out_U=None, config=config, context=context)
        gains[timed] = judge(ranker, asked, target_U).ndcg_U().mean()
    assert gains[True] > 0.9
    assert gains[False] < 0.85


def test_neither_the_future_nor_the_targets_time_is_seen() -> None:
    sequences = haste()
    config = SASRecConfig.parse({**SMALL, "timed": True, "epochs": 1}, owner="sasrec")
    ranker = SASRec.fit(sequences, held_out_U=None, config=config, context=FitContext())
    assert sequences.times_T is not None
    model, batch = ranker.model, np.stack([sequences.offsets[:-1], sequences.lengths_U], axis=1)
    later_T = sequences.times_T.copy()
    later_T[2::3] += 100 * DAY  # the times of all last events, which are targets only
    with torch.inference_mode():
        states, others = (
            model.states(replace(sequences, times_T=times), batch)[0] for times in (sequences.times_T, later_T)
        )
    assert torch.equal(states, others)
    later_T[1::3] -= 50_000_000
    with torch.inference_mode():
        moved = model.states(replace(sequences, times_T=later_T), batch)[0]
    first = torch.arange(0, len(states), 2)
    assert torch.equal(states[first], moved[first])
    assert not torch.equal(states, moved)


def test_the_flagship_is_timed_where_there_are_times_and_refuses_events_without() -> None:
    short = haste()
    assert short.times_T is not None
    offsets, later = np.arange(201, dtype=np.int64) * 6, np.arange(1200) % 6 // 3 * 10 * DAY
    sequences = replace(short, offsets=offsets, times_T=short.times_T + later)  # two users' events are one's
    counted = replace(sequences, times_T=short.times_T + later - 20_000 * DAY)
    assert Fusion.resolved(FusionConfig(), sequences).timed
    assert not Fusion.resolved(FusionConfig(), counted).timed, "in 1970 nobody wrote times"
    assert not Fusion.resolved(FusionConfig(), replace(sequences, times_T=None)).timed
    split = LeaveOneOut.of(sequences)
    config = FusionConfig.parse({**SMALL, "epochs": 2}, owner="fusion")
    ranker = Fusion.fit(split.train, held_out_U=split.validation_U, config=config, context=FitContext())
    loaded = Fusion.restore(ranker.tensors(), ranker.config())
    assert np.array_equal(loaded.score(split.train), ranker.score(split.train))
    with pytest.raises(BundleError, match="timed=false"):
        ranker.score(replace(split.train, times_T=None))
