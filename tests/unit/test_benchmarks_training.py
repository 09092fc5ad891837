"""The training benchmark times the same targets for every row, and its rows train on the plain formula."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import ours, reference, softmax_memory, training, training_rows
from benchmarks.environments import PEERS
from benchmarks.reference import Reference, Shape
from benchmarks.training_data import (
    Request,
    as_sequences,
    measured_users,
    num_targets,
    read_events,
    timed,
    write_events,
)
from recommender.errors import RecommenderError

ITEMS = 30
SHAPE = Shape(num_items=ITEMS, dimension=8, blocks=2, heads=2, length=6, dropout=0.2)


@pytest.fixture
def events() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(1, ITEMS + 1, size=size) for size in (2, 3, 7, 9, 1, 12, 4, 5)]


def test_an_epoch_holds_every_users_last_targets_once(events: list[np.ndarray]) -> None:
    epoch = reference.batches(events, length=6, size=3, seed=0)
    expected = sum(min(len(one) - 1, 6) for one in events)
    assert sum(count for _, _, count in epoch) == expected
    assert sum(int((targets > 0).sum()) for _, targets, _ in epoch) == expected
    assert num_targets(as_sequences(events, ITEMS), length=6) == expected
    pairs = sorted((int(i), int(t)) for x, y, _ in epoch for i, t in zip(x[y > 0], y[y > 0], strict=True))
    last = [one[-7:].tolist() for one in events]
    assert pairs == sorted(pair for one in last for pair in pairwise(one))


def test_the_reference_trains_on_the_plain_formula(events: list[np.ndarray]) -> None:
    torch.manual_seed(0)
    model = Reference(SHAPE).eval()
    with torch.no_grad():
        model.items.weight.mul_(20)
        (inputs, targets, count), *_ = reference.batches(events, length=6, size=8, seed=0)
        total = 0.0
        for row_inputs, row_targets in zip(inputs, targets, strict=True):
            length = int((row_targets > 0).sum())
            states = model(row_inputs[None, :length])[0].double()
            for state, target in zip(states, row_targets[:length], strict=True):
                logits = model.items.weight[1:].double() @ state
                total += float(torch.log(torch.exp(logits).sum()) - logits[target - 1])
        assert float(model.loss(inputs, targets)) == pytest.approx(total / count, abs=1e-5)


def test_a_later_event_never_reaches_an_earlier_state() -> None:
    torch.manual_seed(0)
    model = Reference(SHAPE).eval()
    with torch.no_grad():
        before, after = model(torch.tensor([[3, 4, 5, 6]])), model(torch.tensor([[3, 4, 5, 9]]))
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])


def test_our_training_loss_is_the_plain_formula(events: list[np.ndarray]) -> None:
    assert ours.loss_difference(SHAPE, as_sequences(events, ITEMS), users=3) <= training.LOSS_GOAL


def test_in_bfloat16_it_is_as_near_as_the_rounding_lets_it(events: list[np.ndarray]) -> None:
    sequences = as_sequences(events, ITEMS)
    exact, rounded = (
        ours.loss_difference(SHAPE, sequences, precision=one, users=3) for one in training_rows.OURS.values()
    )
    assert exact < 1e-5 < rounded < 1e-2


def test_a_wrong_loss_would_be_seen(events: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    right = ours.CausalEncoder.loss
    monkeypatch.setattr(
        ours.CausalEncoder, "loss", lambda *words: right(*words)._replace(loss=right(*words).loss * 1.001)
    )
    assert ours.loss_difference(SHAPE, as_sequences(events, ITEMS), users=3) > training.LOSS_GOAL


def test_the_clock_starts_after_the_warm_up_and_stops_once_enough_is_trained() -> None:
    answer = timed(iter([100, 100, 7, 5, 9, 11]), warm_up=2, targets=12)
    assert (answer["targets"], answer["steps"]) == (12, 2)
    assert timed(iter([100, 7, 5]), warm_up=1, targets=1000)["targets"] == 12


def test_ours_and_the_reference_are_timed_on_the_file_that_peers_get(events: list[np.ndarray], tmp_path) -> None:
    path = tmp_path / "events.csv"
    write_events(as_sequences(events, ITEMS), path, length=6)
    again = read_events(str(path))
    assert [one.tolist() for one in again] == [one[-7:].tolist() for one in events if len(one) > 1]
    for row, size in (("ours", 8), ("reference", 2)):
        request = Request(row, str(path), SHAPE, batch_size=size, targets=10**6, warm_up=1)
        result = training_rows.measure(Request.of(json.loads(json.dumps(request.json()))))
        assert 0 < result["targets"] < 2 * num_targets(as_sequences(events, ITEMS), length=6)
        assert result["cpu_seconds"] > 0
        assert result["classes"] == ITEMS


def test_the_measured_users_are_one_in_four_and_as_long_as_all(tmp_path) -> None:
    import pandas as pd

    lengths = [5 + user for user in range(40)]
    rows = [(f"u{user:02}", f"i{place % 7}", place) for user, size in enumerate(lengths) for place in range(size)]
    (tmp_path / "ml-1m").mkdir()
    pd.DataFrame(rows, columns=["user", "item", "pos"]).to_parquet(tmp_path / "ml-1m" / "sequences.parquet")
    users = measured_users(tmp_path)
    assert users.num_users == 10
    assert abs(users.lengths_U.mean() - (np.mean(lengths) - 2)) <= 1


def test_a_peer_that_cannot_be_measured_is_a_row_that_says_why(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise RecommenderError("ERROR: No matching distribution found")

    monkeypatch.setattr(training_rows, "python_of", missing)
    found = training_rows.measure_rows(SHAPE, tmp_path / "events.csv", ["recbole"], repeats=1, say=lambda text: None)
    assert found == {"recbole": {"error": "ERROR: No matching distribution found", "tried": []}}
    assert set(PEERS) < set(training_rows.ROWS)


def test_our_softmax_holds_little_beside_its_gradients() -> None:
    own = softmax_memory.in_fresh_process("ours", 256, 100_000)
    theirs = softmax_memory.in_fresh_process("plain", 256, 100_000)
    assert own["peak_mib"] <= own["gradients_mib"] + 10  # the workspace is a few MiB at any size
    assert theirs["peak_mib"] > 4 * own["peak_mib"]
    assert own["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def test_our_row_is_timed_in_a_process_of_its_own_from_any_folder(
    events: list[np.ndarray], tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.csv"
    write_events(as_sequences(events, ITEMS), path, length=6)
    monkeypatch.chdir(tmp_path)
    request = Request("reference", str(path), SHAPE, batch_size=2, targets=10, warm_up=1)
    result = training_rows.measure_in_child(request, Path(sys.executable))
    assert result["targets"] >= 10
    assert result["rate"] == pytest.approx(result["targets"] / result["cpu_seconds"])
