"""The GPU benchmark counts FLOPs as PyTorch's own counter does, knows its cards, and reports a missing GPU."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu, quality
from recommender.models.next_item.causal import CausalEncoder
from recommender.models.next_item.network import Size
from recommender.sequences import Items, Sequences


@pytest.mark.parametrize("flagship", [True, False])
def test_flops_are_those_that_pytorch_counts_but_for_the_half_of_attention_that_is_masked(flagship: bool) -> None:
    length, items, users = 24, 50, 3
    shape = gpu.Shape(32, 2, 2, flagship=flagship)
    rng = np.random.default_rng(0)
    drawn = rng.integers(1, items + 1, users * (length + 1)).astype(np.int32)
    offsets = np.arange(users + 1) * (length + 1)
    sequences = Sequences(Items(tuple(map(str, range(items)))), offsets, drawn)
    config = shape.config(length, users * length).model_copy(update={"dropout": 0.0})
    encoder = CausalEncoder(Size(items, users, 0, 0), config)
    (batch,) = encoder.batches(sequences, rng)
    with sdpa_kernel([SDPBackend.MATH]), FlopCounterMode(display=False) as counter:
        states_MD, table_VD, _ = encoder.states(sequences, batch)
        (states_MD @ table_VD[1:].T).sum()
    unmasked = counter.get_total_flops() / (users * length)
    assert 3 * (unmasked - 2 * 2 * length * 32) == pytest.approx(shape.flops(length, items))


def test_a_card_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, peak in {
        "NVIDIA H100 80GB HBM3": 989e12,
        "NVIDIA H100 PCIe": 756e12,
        "NVIDIA L40S": 362e12,
        "?": None,
    }.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert gpu.peak_of(torch.device("cuda")) == (name, peak)


def test_every_row_is_measured_and_compared_with_the_card(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--lengths", "8,16", "--items", "50", "--tokens", "32", "--steps", "1", "--side", "64"]
    assert gpu.main(["--device", "cpu", *sizes]) == 0
    assert "flagship" in capsys.readouterr().out
    report = gpu.measure(torch.device("cpu"), [8, 16], items=50, tokens=32, steps=1, side=64)
    assert [row["row"] for row in report["rows"]][:3] == ["matmul", "attention", "attention"]
    assert len(report["rows"]) == 3 + 2 * len(gpu.SHAPES)
    assert all(row["flops_a_second"] > 0 and row["mfu"] is None for row in report["rows"])
    assert json.dumps(report)


def test_without_a_gpu_it_says_so_and_leaves_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0
    assert "no GPU" in capsys.readouterr().out
    assert not (tmp_path / gpu.REPORT).exists()
    assert gpu.main(["--device", "tpu"]) == 2


def test_the_quality_benchmark_refuses_a_gpu_that_is_not_there_or_has_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    facts = {"sasrec": "'cuda'", "rules": "rules", "replay": "replay"}
    for ranker, fact in facts.items():
        assert quality.main([".", "--sets", "beauty", "--rankers", ranker, "--device", "cuda"]) == 2
        assert fact in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))
