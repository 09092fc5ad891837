"""The training loop divides batches, guards against bad losses and stops early, and several processes train as one."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recommender.engine.context import FitContext
from recommender.engine.loop import Divisible, EarlyStop, Part, Schedule, Sum, reproducible, run_phase
from recommender.errors import TrainingError

ROWS = np.random.default_rng(3).normal(size=(200, 8)).astype(np.float32)
WANTED = ROWS @ np.arange(8, dtype=np.float32)


def _batch(step: int) -> np.ndarray:
    return np.random.default_rng(step).permutation(len(ROWS))[:33]


def _fit(context: FitContext | None = None, *, accumulate: int = 1, steps: int = 40) -> tuple[nn.Module, list[float]]:
    curve: list[float] = []
    torch.manual_seed(0)
    model = nn.Linear(8, 1)

    def loss_at(step: int, part: Part) -> Sum:
        rows = part(_batch(step))
        out = model(torch.from_numpy(ROWS[rows]))[:, 0]
        return Sum(((out - torch.from_numpy(WANTED[rows])) ** 2).sum(), float(len(rows)))

    context = context or FitContext()
    remembered = FitContext(checkpoints=context.checkpoints, progress=lambda facts: curve.append(facts["loss"]))
    with reproducible(remembered):
        schedule = Schedule(steps=steps, rate=0.1, warm_up=1, accumulate=accumulate)
        run_phase("fit", model, Divisible(loss_at), schedule, remembered)
    return model, curve


def test_gradients_that_accumulate_over_parts_are_those_of_the_whole_batch() -> None:
    whole, parts = _fit()[0], _fit(accumulate=4)[0]
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_batch_too_large_for_memory_is_halved_once_with_a_warning() -> None:
    sizes: list[int] = []
    model = nn.Linear(8, 1)

    def loss_at(step: int, part: Part) -> Sum:
        rows = part(_batch(step))
        sizes.append(len(rows))
        if len(rows) > 17:
            raise torch.OutOfMemoryError("a device with room for 17 rows")
        return Sum(model(torch.from_numpy(ROWS[rows])).square().sum(), float(len(rows)))

    with pytest.warns(UserWarning, match="halved"):
        run_phase("fit", model, Divisible(loss_at), Schedule(steps=3, rate=0.01), FitContext())
    assert sizes == [33, 17, 16, 17, 16, 17, 16]


def test_half_a_batch_that_is_still_too_large_is_a_clear_error() -> None:
    model = nn.Linear(8, 1)

    def loss_at(step: int, part: Part) -> Sum:
        raise torch.OutOfMemoryError("no room at all")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TrainingError, match=r"fit, step 1: .*half a batch.*cpu"):
            run_phase("fit", model, Divisible(loss_at), Schedule(steps=3, rate=0.01), FitContext())


def test_a_batch_with_nan_is_stopped_by_the_guard_which_names_the_column() -> None:
    model = nn.Linear(2, 1)
    columns = {"spend": np.ones((5, 3), dtype=np.float32), "age": np.ones((5, 3), dtype=np.float32)}
    columns["age"][3, 1] = np.nan

    def loss_at(step: int, part: Part) -> Sum:
        rows = np.stack([values[step] for values in columns.values()], axis=1)
        return Sum(model(torch.from_numpy(rows)).sum(), 3.0)

    batches = Divisible(loss_at, lambda step: {name: values[step] for name, values in columns.items()})
    with pytest.raises(TrainingError, match=r"step 4 of 5: .*'age'.*\bnan\b.*\brow 1\b"):
        run_phase("fit", model, batches, Schedule(steps=5, rate=0.01), FitContext())


def test_a_loss_that_explodes_is_stopped_before_it_reaches_the_weights() -> None:
    model = nn.Linear(1, 1)

    def loss_at(step: int) -> Tensor:
        return model(torch.ones(1, 1)).sum() * 0 + (1e6 if step == 20 else 1.0)

    with pytest.raises(TrainingError, match=r"step 21 of 30: .*\b1e\+06\b"):
        run_phase("fit", model, loss_at, Schedule(steps=30, rate=0.01), FitContext())


def test_training_stops_when_judgements_no_longer_gain_and_keeps_the_best_weights() -> None:
    model = nn.Linear(1, 1, bias=False)
    figures = iter([1.0, 3.0, 2.0, 2.5, 9.0])
    seen: list[float] = []

    def judge() -> float:
        seen.append(float(model.weight.detach()))
        return next(figures)

    judged = run_phase(
        "fit",
        model,
        lambda step: model(torch.ones(1, 1)).sum(),
        Schedule(steps=50, rate=0.01, warm_up=1),
        FitContext(),
        every=5,
        judge=judge,
        stop=EarlyStop(patience=2),
    )
    assert judged == [1.0, 3.0, 2.0, 2.5]
    assert float(model.weight.detach()) == seen[1]


@pytest.mark.parametrize("fits_before", [0, 5])
def test_two_processes_have_the_loss_curve_of_one_in_their_first_fit_and_later(
    fits_before: int, tmp_path: Path
) -> None:
    own = {"OUT": str(tmp_path / "two.json"), "FITS_BEFORE": str(fits_before), "PYTHONFAULTHANDLER": "1"}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **own}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    two = json.loads((tmp_path / "two.json").read_text())
    model, one = _fit()
    assert len(one) == 4
    assert two["curve"] == pytest.approx(one, rel=1e-4)
    assert two["weight"] == pytest.approx(next(iter(model.parameters())).detach()[0].tolist(), rel=1e-4)


HOLDERS = """
import torch
from torch import distributed, nn
from recommender.engine import processes

processes.join(torch.device("cpu"))
messages, reduce, late = [], distributed.all_reduce, 0
distributed.all_reduce = lambda message: messages.append(message) or reduce(message)
for _ in range(1000):
    processes.sum_over_processes([nn.Parameter(torch.zeros(1))], torch.zeros(1), 1.0)
    late += messages.pop()._use_count() > 1
assert late == 0, f"{late} of 1000"
"""


def test_no_thread_holds_a_message_that_is_added_up(tmp_path: Path) -> None:
    """It would end the process with an abort, if Python ended just then."""
    script = tmp_path / "holders.py"
    script.write_text(HOLDERS)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr


def test_a_fit_killed_between_any_two_steps_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    def start(folder: Path, steps: int) -> "subprocess.Popen[bytes]":
        environment = {**os.environ, "OUT": str(folder / "end.json"), "CHECKPOINTS": str(folder), "STEPS": str(steps)}
        folder.mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, __file__], env=environment)

    kills, steps = 0, 1000
    assert start(tmp_path / "whole", steps).wait(120) == 0
    for _ in range(3):
        process = start(tmp_path / "killed", steps)
        deadline, before = time.monotonic() + 60, _step(tmp_path / "killed")
        while process.poll() is None and _step(tmp_path / "killed") <= before and time.monotonic() < deadline:
            time.sleep(0.01)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
    assert start(tmp_path / "killed", steps).wait(120) == 0
    assert kills >= 1
    assert (tmp_path / "killed/end.json").read_text() == (tmp_path / "whole/end.json").read_text()


def _step(folder: Path) -> int:
    try:
        return int(json.loads((folder / "steps/fit/state.json").read_text())["step"])
    except (OSError, ValueError):
        return 0


if __name__ == "__main__":
    place = os.environ.get("CHECKPOINTS")
    given = FitContext(checkpoints=Path(place) if place else None, checkpoint_every_s=0.05)
    for _ in range(int(os.environ.get("FITS_BEFORE", "0"))):  # the first process is the first to come, always
        _fit()
        time.sleep(0.2 * int(os.environ["RANK"]))
    trained, losses = _fit(given, steps=int(os.environ.get("STEPS", "40")))
    if int(os.environ.get("RANK", "0")) == 0:
        first = next(iter(trained.parameters())).detach()[0].tolist()
        Path(os.environ["OUT"]).write_text(json.dumps({"curve": [] if place else losses, "weight": first}))
