"""The exact softmax in blocks is the plain formula."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from recommender.engine.softmax import linear_cross_entropy


def _inputs(targets: int, items: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    states = (scale * torch.randn(targets, 16, generator=generator)).requires_grad_()
    weight = torch.randn(items, 16, generator=generator).requires_grad_()
    bias = torch.randn(items, generator=generator).requires_grad_()
    wanted = torch.randint(1, items, (targets,), generator=generator)
    return states, weight, bias, wanted


@pytest.mark.parametrize("buffer", [None, 5_000, 40_000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("size", [(300, 1000), (70, 5000)])
def test_loss_and_gradients_are_those_of_the_plain_formula_however_it_is_cut(
    size: tuple[int, int], smoothing: float, buffer: int | None
) -> None:
    states, weight, bias, wanted = _inputs(*size)
    loss = linear_cross_entropy(states, weight, wanted, bias, first=1, smoothing=smoothing, buffer=buffer)
    loss.backward()
    ours = [one.grad.clone() for one in (states, weight, bias) if one.grad is not None]
    for one in (states, weight, bias):
        one.grad = None
    logits = (states @ weight.T + bias)[:, 1:]
    plain = functional.cross_entropy(logits, wanted - 1, reduction="sum", label_smoothing=smoothing)
    plain.backward()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    for mine, one in zip(ours, (states, weight, bias), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(mine, one.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("buffer", [None, 5_000])
def test_products_of_half_the_bits_change_loss_and_gradients_by_what_a_rounded_number_does(
    smoothing: float, buffer: int | None
) -> None:
    states, weight, bias, wanted = _inputs(300, 1000)
    found = {}
    for bfloat16 in (False, True):
        loss = linear_cross_entropy(
            states, weight, wanted, bias, first=1, smoothing=smoothing, bfloat16=bfloat16, buffer=buffer
        )
        loss.backward()
        found[bfloat16] = [loss.detach(), *(one.grad for one in (states, weight, bias) if one.grad is not None)]
        for one in (states, weight, bias):
            one.grad = None
    assert all(one.dtype == torch.float32 for one in found[True])
    assert not torch.equal(found[True][0], found[False][0])
    for rounded, exact in zip(found[True], found[False], strict=True):
        assert (rounded - exact).norm() <= 0.02 * exact.norm()
    assert found[True][0].item() == pytest.approx(found[False][0].item(), rel=1e-3)


def test_a_target_of_no_measurable_probability_still_has_its_exact_loss() -> None:
    states, weight, _, wanted = _inputs(50, 200, scale=40.0)
    plain = functional.cross_entropy(states @ weight.T, wanted, reduction="sum")
    assert plain.item() > 50 * 100
    assert linear_cross_entropy(states, weight, wanted).item() == pytest.approx(plain.item(), rel=1e-5)


def test_rows_before_the_first_item_never_compete_and_get_no_gradient() -> None:
    states, weight, _, wanted = _inputs(20, 50)
    linear_cross_entropy(states, weight, wanted, first=1).backward()
    assert weight.grad is not None
    assert not weight.grad[0].any()
    assert weight.grad[1:].any()
