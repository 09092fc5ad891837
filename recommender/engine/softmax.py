"""Exact softmax cross entropy over all items, in memory that does not grow with targets times items.

The gradient is computed with the loss. A block of logits lives in a small buffer, becomes its softmax in place, adds
its share to both gradients and is overwritten by the next block, as in Liger Kernel (Hsu et al., 2024) and Cut
Cross-Entropy (Wijmans et al., ICLR 2025). Where one row of logits is larger than the buffer, the items are processed in
blocks twice: first for the normaliser, then for the gradients.

Shapes: M targets · V items · D width · R rows and C items of a block.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BUFFER = 1 << 19
"""Logits of a block on a CPU. 2 MiB of float32 stay in a core's cache."""
BUFFER_GPU = 1 << 27
"""Logits of a block on a GPU: 512 MiB of float32. Chosen by hand: large products, but a small part of the memory."""
MIN_ROWS = 32
"""Fewer rows than this in a block do not fill the matrix units, so the items are cut into blocks as well. Chosen
by hand."""
MIN_ROWS_FLOAT32, MIN_ROWS_BFLOAT16 = 128, 256
"""Least rows of a block of whole rows, even if it exceeds the buffer: each block reads and writes the whole table and
its gradient, so few rows make these the slowest part. Chosen by hand."""
MAX_ROWS_BY_ITEMS = 1024
"""Rows of a block when the items are cut too. Chosen by hand."""
MIN_PROBABILITY = 1e-30
"""Smaller probabilities count as this, so that their logarithm is finite. float32 holds it (its least is 1.2e-38)."""
MAX_LOSS = 60.0
"""Above it (a probability of 1e-26) the loss is computed from the logits, because the probability has lost its
precision."""


def linear_cross_entropy(
    states_MD: Tensor,
    weight_VD: Tensor,
    targets_M: Tensor,
    bias_V: Tensor | None = None,
    *,
    first: int = 0,
    smoothing: float = 0.0,
    bfloat16: bool = False,
    buffer: int | None = None,
) -> Tensor:
    """Sum -log softmax(states @ weight.T + bias)[target] over targets.

    Gradients reach `states_MD`, `weight_VD` and `bias_V`.

    Args:
        states_MD: one state for each target.
        weight_VD: the item table.
        targets_M: rows of the targets in `weight_VD`.
        bias_V: a bias for each row.
        first: rows of `weight_VD` before it are not items and do not compete (row 0 of an embedding).
        smoothing: share of each target's probability that is spread evenly over all items (Szegedy et al., CVPR 2016).
        bfloat16: computes matrix products and probabilities of a block in bfloat16, with sums over blocks in float32.
            With 8 bits a logit is right to about 1 in 400, and a target whose probability rounds to 1 gets no gradient.
        buffer: logits of a block; by default `BUFFER` or `BUFFER_GPU`.
    """
    loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states_MD, weight_VD, targets_M, bias_V, first, smoothing, bfloat16, buffer
    )
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        states_MD: Tensor,
        weight_VD: Tensor,
        targets_M: Tensor,
        bias_V: Tensor | None,
        first: int,
        smoothing: float,
        bfloat16: bool,
        buffer: int | None,
    ) -> Tensor:
        items_VD = weight_VD.detach()[first:]
        size = buffer or (BUFFER_GPU if states_MD.is_cuda else BUFFER)
        by_rows = size >= MIN_ROWS * len(items_VD) or len(states_MD) * len(items_VD) <= size
        if buffer is None and by_rows and not states_MD.is_cuda:
            size = max(size, (MIN_ROWS_BFLOAT16 if bfloat16 else MIN_ROWS_FLOAT32) * len(items_VD))
        targets_M = targets_M - first
        bias = None if bias_V is None else bias_V.detach()[first:]
        states = states_MD.detach().contiguous()
        grad_states = torch.zeros_like(states)
        grad_weight = torch.zeros_like(weight_VD)
        grad_bias = None if bias_V is None else torch.zeros_like(bias_V)
        item_gradients = grad_weight[first:], None if grad_bias is None else grad_bias[first:]
        compute = _by_rows if by_rows else _by_items
        dtype = torch.bfloat16 if bfloat16 else states.dtype
        loss = compute(states.to(dtype), items_VD, bias, targets_M, smoothing, size, grad_states, *item_gradients)
        ctx.save_for_backward(grad_states, grad_weight, grad_bias)  # type: ignore[arg-type]
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_states, grad_weight, grad_bias = ctx.saved_tensors  # type: ignore[attr-defined]
        for gradient in (grad_states, grad_weight, grad_bias):
            if gradient is not None:
                gradient.mul_(grad)
        return grad_states, grad_weight, None, grad_bias, None, None, None, None


def _by_rows(
    states: Tensor,
    items: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    smoothing: float,
    size: int,
    grad_states: Tensor,
    grad_items: Tensor,
    grad_bias: Tensor | None,
) -> Tensor:
    """Compute loss and gradients in blocks of whole rows, in one pass."""
    num_items = len(items)
    rows = max(min(size // num_items, len(states)), 1)
    logits, items = states.new_empty(rows, num_items), items.to(states.dtype)
    bias = None if bias is None else bias.to(states.dtype)
    places = torch.arange(rows, device=states.device)
    total = torch.zeros((), dtype=torch.float32, device=states.device)
    transposed = items.T
    for start in range(0, len(states), rows):
        h, t = states[start : start + rows], targets[start : start + rows]
        block, place = logits[: len(h)], places[: len(h)]
        if bias is None:
            torch.mm(h, transposed, out=block)
        else:
            torch.addmm(bias, h, transposed, out=block)
        at_target = block[place, t].float()
        mean = block.mean(dim=1, dtype=torch.float32) if smoothing else None
        torch.softmax(block, dim=1, out=block)
        losses = -block[place, t].float().clamp_(min=MIN_PROBABILITY).log_()
        imprecise = losses > MAX_LOSS
        if bool(imprecise.any()):
            exact = h[imprecise] @ transposed if bias is None else torch.addmm(bias, h[imprecise], transposed)
            losses[imprecise] = exact.float().logsumexp(dim=1) - at_target[imprecise]
        block[place, t] -= 1.0 - smoothing
        if mean is not None:
            losses += smoothing * (at_target - mean)
            block -= smoothing / num_items
        total += losses.sum()
        _add_product(grad_states[start : start + rows], block, items)
        _add_product(grad_items, block.T, h)
        if grad_bias is not None:
            grad_bias += block.sum(dim=0)
    return total


def _by_items(
    states: Tensor,
    items: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    smoothing: float,
    size: int,
    grad_states: Tensor,
    grad_items: Tensor,
    grad_bias: Tensor | None,
) -> Tensor:
    """Compute loss and gradients in blocks of rows and items: one pass for the normalisers, one for the gradients."""
    num_items = len(items)
    rows = min(len(states), MAX_ROWS_BY_ITEMS)
    columns = max(size // rows, 1)
    logits = states.new_empty(rows * columns)
    total = torch.zeros((), dtype=torch.float32, device=states.device)
    for start in range(0, len(states), rows):
        h, t = states[start : start + rows], targets[start : start + rows]
        normaliser = torch.full_like(h[:, 0], -torch.inf, dtype=torch.float32)
        at_target, mean = torch.zeros_like(normaliser), torch.zeros_like(normaliser)
        for low in range(0, num_items, columns):
            block = _block(logits, h, items, bias, low, columns)
            inside = torch.nonzero((t >= low) & (t < low + block.shape[1]))[:, 0]
            at_target[inside] = block[inside, t[inside] - low]
            if smoothing:
                mean += block.sum(dim=1) / num_items
            high = block.amax(dim=1)
            normaliser = torch.logaddexp(normaliser, block.sub_(high[:, None]).exp_().sum(dim=1).log_().add_(high))
        for low in range(0, num_items, columns):
            block = _block(logits, h, items, bias, low, columns)
            block.sub_(normaliser[:, None]).exp_()
            inside = torch.nonzero((t >= low) & (t < low + block.shape[1]))[:, 0]
            block[inside, t[inside] - low] -= 1.0 - smoothing
            if smoothing:
                block -= smoothing / num_items
            rounded = block.to(h.dtype)
            _add_product(grad_states[start : start + rows], rounded, items[low : low + columns].to(h.dtype))
            _add_product(grad_items[low : low + columns], rounded.T, h)
            if grad_bias is not None:
                grad_bias[low : low + columns] += block.sum(dim=0)
        total += (normaliser - (1 - smoothing) * at_target - smoothing * mean).sum()
    return total


def _block(logits: Tensor, h: Tensor, items: Tensor, bias: Tensor | None, low: int, columns: int) -> Tensor:
    """Compute the logits of the items from `low` on, float32, in the buffer `logits` where its dtype allows."""
    block_items = items[low : low + columns].to(h.dtype)
    block = logits[: len(h) * len(block_items)].view(len(h), len(block_items))
    torch.mm(h, block_items.T, out=block)
    block = block.float()
    return block if bias is None else block.add_(bias[low : low + columns])


def _add_product(sums: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to `sums`, where the factors may have fewer bits."""
    if sums.dtype == left.dtype:
        sums.addmm_(left, right)
    else:
        sums.add_(left @ right)
