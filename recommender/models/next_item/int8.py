"""Weights in eight bits: a quarter of the size, rounded by row, multiplied in float32.

Each row of a matrix has one scale, its largest magnitude over 127, so a weight is off by at most half a scale. Only
weights are rounded; states stay float32, and no calibration data is needed.

Shapes: O outputs · I inputs · V items · D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 127
"""Largest int8 whose negative is an int8 too."""


def rounded(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """int8 [O, I] and scales float32 [O, 1] whose product is the weight to within half a scale."""
    scale_O1 = (weight_OI.abs().amax(dim=1, keepdim=True) / LEVELS).clamp(min=torch.finfo(torch.float32).tiny)
    return (weight_OI / scale_O1).round().to(torch.int8), scale_O1


class Int8Linear(nn.Module):
    """An nn.Linear with rounded weights."""

    weight_OI: Tensor
    scale_O: Tensor
    bias_O: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight_OI, scale_O1 = rounded(layer.weight.detach())
        self.register_buffer("weight_OI", weight_OI)
        self.register_buffer("scale_O", scale_O1[:, 0])
        self.register_buffer("bias_O", layer.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """As nn.Linear, [..., I] -> [..., O]."""
        return functional.linear(x, self.weight_OI.float()) * self.scale_O + self.bias_O


class Int8Embedding(nn.Module):
    """A rounded table of vectors."""

    weight_VD: Tensor
    scale_V1: Tensor

    def __init__(self, weight_VD: Tensor) -> None:
        super().__init__()
        rounded_VD, scale_V1 = rounded(weight_VD.detach())
        self.register_buffer("weight_VD", rounded_VD)
        self.register_buffer("scale_V1", scale_V1)

    @property
    def weight(self) -> Tensor:
        """The table as float32, [V, D]."""
        return self.weight_VD.float() * self.scale_V1


def round_linear_layers(module: nn.Module) -> None:
    """Replace every nn.Linear within `module` by an Int8Linear, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child))
        else:
            round_linear_layers(child)
