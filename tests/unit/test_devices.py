"""What differs between machines: units for bfloat16, compilers, and operations that a GPU does in another way."""

import numpy as np
import pytest
import torch

from recommender.engine import precision
from recommender.engine.compiler import has_compiler, require_compiler
from recommender.engine.context import FitContext
from recommender.engine.guard import out_of_memory
from recommender.errors import SettingsError
from recommender.models.next_item.attention import BUCKETS, _embedded, distances, drop, looked_up
from recommender.models.next_item.packing import GAPS
from recommender.models.next_item.sasrec import SASRec, SASRecConfig
from recommender.sequences import Items, Sequences

V = 30


def walks() -> Sequences:
    """Item i is followed by i + 1, in a circle."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(4, 10, 160)
    items_T = np.concatenate([(rng.integers(V) + np.arange(num)) % V + 1 for num in lengths]).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(Items(tuple(f"i{row}" for row in range(V))), offsets, items_T)


@pytest.mark.parametrize("timed", [False, True])
def test_attention_s_bias_and_its_gradient_are_the_same_by_the_gpu_s_way(timed: bool) -> None:
    torch.manual_seed(5)
    classes = torch.randint(0, GAPS, (3, 40, 40)) if timed else distances(90, torch.device("cpu"))
    table = torch.randn(4, GAPS if timed else BUCKETS, requires_grad=True)
    own, other = looked_up(table, classes), _embedded(table, classes)
    assert torch.equal(own, other)
    grad = torch.randn_like(own)
    expected, found = (torch.autograd.grad(one, table, grad)[0] for one in (own, other))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_drops_its_share_keeps_the_mean_and_stops_the_gradient_where_it_dropped(share: float) -> None:
    torch.manual_seed(1)
    x = torch.ones(999, 33, requires_grad=True)
    dropped = drop(x, share)
    (gradient,) = torch.autograd.grad(dropped.sum(), x)
    assert torch.equal(gradient, dropped)
    assert (dropped == 0).float().mean().item() == pytest.approx(share, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert set(dropped.flatten().tolist()) == {0.0, dropped.max().item()}


@pytest.mark.parametrize(
    "said",
    [
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_that_memory_ran_out_is_known_however_it_is_said(said: str) -> None:
    assert out_of_memory(RuntimeError(said))
    assert not out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("units", [True, False])
def test_auto_is_bfloat16_where_there_are_units_for_it(
    device: str, units: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_has_units", lambda: units)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: units or including_emulation)
    assert precision.uses_bfloat16("auto", torch.device(device)) is units
    assert precision.uses_bfloat16("bf16", torch.device(device))
    assert not precision.uses_bfloat16("fp32", torch.device(device))


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore")  # torch's own
def test_compiled_blocks_learn_what_the_others_learn_and_leave_nothing_in_the_ranker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = SASRecConfig(width=16, blocks=1, tokens=256, epochs=2, precision="fp32", dropout=0.0)
    sequences, parts = walks(), []
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda part, **words: parts.append(part) or compile_(part, **words))
    plain, made = (
        SASRec.fit(
            sequences,
            held_out_U=None,
            config=config.model_copy(update={"torch_compile": compiled}),
            context=FitContext(),
        )
        for compiled in (False, True)
    )
    np.testing.assert_allclose(made.score(sequences)[:, 1:], plain.score(sequences)[:, 1:], rtol=1e-3, atol=1e-3)
    assert len(parts) == 2
    assert isinstance(made, SASRec)
    assert "join" not in vars(made.model.blocks[0])


def test_without_a_compiler_compiled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("CC", "my-cc")
    with pytest.raises(SettingsError, match=r"^x .*\bC\b.*my-cc.*\bCC\b"):
        require_compiler("x", "cuda")
    config = SASRecConfig(torch_compile=True)
    with pytest.raises(SettingsError, match=r"^torch_compile=true .*C\+\+.*g\+\+.*CXX"):
        SASRec.fit(walks(), held_out_U=None, config=config, context=FitContext())
