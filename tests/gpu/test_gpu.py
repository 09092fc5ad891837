"""Training on a GPU gives the same results as on the CPU (`make test-gpu`). Without a GPU it is skipped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import gpu
from recommender.engine.context import FitContext
from recommender.engine.softmax import linear_cross_entropy
from recommender.evaluation.leave_one_out import judge
from recommender.models.next_item.causal import CausalEncoder
from recommender.models.next_item.fusion import Fusion, FusionConfig
from recommender.models.next_item.network import Size
from recommender.models.next_item.sasrec import SASRec, SASRecConfig
from recommender.sequences import Items, LeaveOneOut, Sequences

DEVICE = "cuda"
if not torch.cuda.is_available():
    pytest.skip("this machine shows no GPU to torch", allow_module_level=True)

V = 30
SMALL: dict[str, Any] = {"width": 32, "blocks": 1, "heads": 2, "epochs": 12, "tokens": 128, "rate": 0.01, "length": 10}


@pytest.fixture(scope="module")
def split() -> LeaveOneOut:
    """Item i is followed by i + 1."""
    rng = np.random.default_rng(4)
    lengths = rng.integers(5, 9, 120)
    walks = [(rng.integers(V) + np.arange(num)) % V + 1 for num in lengths]
    items, offsets = Items(tuple(map(str, range(V)))), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return LeaveOneOut.of(Sequences(items, offsets, np.concatenate(walks).astype(np.int32)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_softmax_and_its_gradients_are_the_cpus(smoothing: float) -> None:
    torch.manual_seed(1)
    states_MD, table_VD, targets_M = torch.randn(300, 32), torch.randn(5001, 32), torch.randint(1, 5001, (300,))
    found = []
    for device in ("cpu", DEVICE):
        inputs = [one.to(device).requires_grad_() for one in (states_MD, table_VD)]
        loss = linear_cross_entropy(*inputs, targets_M.to(device), first=1, smoothing=smoothing)
        found.append([loss.detach().cpu(), *[one.cpu() for one in torch.autograd.grad(loss, inputs)]])
    for cpu, own in zip(*found, strict=True):
        torch.testing.assert_close(own, cpu, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("parts", [{}, {"relative": True, "gated": True}, {"relative": True, "timed": True}])
def test_a_batchs_loss_and_its_gradients_are_the_cpus(split: LeaveOneOut, parts: dict[str, bool]) -> None:
    config = SASRecConfig.parse({**SMALL, **parts, "precision": "fp32"}, owner="sasrec")
    rng = np.random.default_rng(0)
    start_us = np.datetime64("2024-01-01", "us").astype(np.int64)
    timed = replace(split.train, times_T=start_us + np.sort(rng.integers(10**13, size=len(split.train.items_T))))
    torch.manual_seed(2)
    encoder = CausalEncoder(Size(V, timed.num_users, 0, 0), config).eval()
    batch = encoder.batches(timed, rng)[0]
    found = []
    for device in ("cpu", DEVICE):
        encoder.to(device).zero_grad()
        part = encoder.loss(timed, batch, np.random.default_rng(0))
        part.loss.backward()
        grads = {name: one.grad.cpu() for name, one in encoder.named_parameters() if one.grad is not None}
        found.append({"loss": part.loss.detach().cpu(), **grads})
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize("given", [{"precision": "fp32"}, {"precision": "bf16"}, {"torch_compile": True}])
def test_a_transformer_learns_there_and_answers_on_the_cpu(
    split: LeaveOneOut, tmp_path: Path, given: dict[str, object]
) -> None:
    config = SASRecConfig.parse({**SMALL, **given, "relative": True, "gated": True}, owner="sasrec")
    made = SASRec.fit(
        split.train,
        held_out_U=split.validation_U,
        config=config,
        context=FitContext(seed=3, device=DEVICE, checkpoints=tmp_path),
    )
    assert made.model.device.type == "cpu"
    assert judge(made, split.train_and_validation, split.test_U).ndcg_U().mean() > 0.9
    again = SASRec.fit(
        split.train,
        held_out_U=split.validation_U,
        config=config,
        context=FitContext(seed=3, device=DEVICE, checkpoints=tmp_path),
    )
    assert all(np.array_equal(value, again.tensors()[name]) for name, value in made.tensors().items()), "it goes on"


def test_a_fit_that_was_cut_goes_on_where_it_was(split: LeaveOneOut, tmp_path: Path) -> None:
    def cut(facts: dict[str, Any]) -> None:
        if facts["step"] >= 20:
            raise KeyboardInterrupt

    config = SASRecConfig.parse({**SMALL, "relative": True, "gated": True}, owner="sasrec")
    context = FitContext(seed=3, device=DEVICE, checkpoints=tmp_path, checkpoint_every_s=0.0)
    with pytest.raises(KeyboardInterrupt):
        SASRec.fit(split.train, held_out_U=split.validation_U, config=config, context=replace(context, progress=cut))
    steps: list[int] = []
    watched = replace(context, progress=lambda facts: steps.append(facts["step"]))
    made = SASRec.fit(split.train, held_out_U=split.validation_U, config=config, context=watched)
    assert min(steps) == 20, "ten came before the cut"
    assert judge(made, split.train_and_validation, split.test_U).ndcg_U().mean() > 0.9


def test_the_flagship_is_fitted_there(split: LeaveOneOut) -> None:
    made = Fusion.fit(
        split.train,
        held_out_U=split.validation_U,
        config=FusionConfig.parse({**SMALL, "members": 1}, owner="fusion"),
        context=FitContext(seed=3, device=DEVICE),
    )
    assert judge(made, split.train_and_validation, split.test_U).ndcg_U().mean() > 0.9


def test_the_benchmark_measures_every_row() -> None:
    report = gpu.measure(torch.device(DEVICE), [16, 32], items=200, tokens=128, steps=2, side=256)
    assert len(report["rows"]) == 1 + 2 + 2 * len(gpu.SHAPES)
    assert all(row["flops_a_second"] > 0 for row in report["rows"])
