"""`make bench-gpu`: how fast a GPU trains our transformers, beside what the card can do at best.

    python -m benchmarks.gpu [--device cuda|cpu] [--lengths 256,2048] [--items N] [--tokens N] [--steps N]

Rows, in bf16, on drawn histories that are all as long as the network reads:

- `matmul`: one large product, the rate that the card reaches in practice.
- `attention`: PyTorch's causal attention, forward and backward, at each length (FlashAttention where it has the
  kernel).
- Our transformers at each length, with the loop and loss that rankers are trained with: that of `sasrec`, that of
  `fusion` (attention biased by distance, gated), and a large one, 512 wide with 8 blocks.

Tokens a second are by the wall clock, including drawing, optimiser and checks. FLOPs are the model's own: twice its
multiplications, three times the forward pass, attention over half the square, nothing counted twice where it is
computed twice. `mfu` is their rate over the peak of the card's data sheet (dense bf16), `of_matmul` over that of the
row `matmul`. The report is reports/bench/gpu.json; without a GPU nothing is measured.

Shapes: B sequences · L length · H heads · N side of a product.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from benchmarks.measured_on import measured_on
from benchmarks.options import whole_numbers
from recommender.engine.context import FitContext
from recommender.engine.loop import Divisible, Part, Schedule, Sum, device_of, reproducible, run_phase
from recommender.errors import RecommenderError
from recommender.models.next_item.causal import CausalEncoder
from recommender.models.next_item.epochs import BETAS, CLIP
from recommender.models.next_item.network import Size
from recommender.models.next_item.sasrec import SASRecConfig
from recommender.report.terminal import wide
from recommender.sequences import Items, Sequences
from recommender.storage.manifest import write_text

REPORT = Path("reports/bench/gpu.json")
PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10": 125e12,
    "L4": 121e12,
}
"""Dense bf16 FLOP/s from NVIDIA's data sheets, by a part of the card's name. The first match counts."""
WARM_UP = 5
"""Steps before the clock starts: kernels are chosen and memory is allocated in the first ones. By hand."""
SIDE = 8192
"""Side of the matrices of the row `matmul`, large enough to keep every unit of a card busy. Chosen by hand."""
HEADS = 8
"""Heads of the row `attention`, those of the largest shape below."""
REPEATS = 20
"""Runs that a row's time is the mean of. Chosen by hand: the device does not vary much."""
HEAD = 64
"""Width of a head in the row `attention`, for which FlashAttention has a kernel."""
ZIPF = 1.2
"""Exponent of the items' popularity in drawn histories: a long tail, as in shops. Chosen by hand."""
BACKWARD = 2.5
"""Work of attention's backward pass over the forward's: five products for two (Dao et al., NeurIPS 2022)."""


@dataclass(frozen=True)
class Shape:
    """Size of one of our transformers."""

    width: int
    blocks: int
    heads: int
    flagship: bool = True

    def config(self, length: int, tokens: int) -> SASRecConfig:
        """The transformer's hyperparameters, for sequences of this length and batches of so many targets."""
        return SASRecConfig(
            width=self.width,
            blocks=self.blocks,
            heads=self.heads,
            length=length,
            tokens=tokens,
            relative=self.flagship,
            gated=self.flagship,
            precision="bf16",
        )

    def flops(self, length: int, items: int) -> float:
        """FLOPs of one token's training step."""
        width = self.width
        # Query, key and value (and a gate), the output of attention, and two layers of the feed-forward.
        dense = (4 if self.flagship else 3) + 1 + 2
        block = 2 * dense * width**2 + 2 * length * width
        # Three times the forward pass: the backward pass multiplies twice for each of its products.
        return 3.0 * (self.blocks * block + 2 * items * width)


SHAPES = {
    "sasrec": Shape(64, 2, 2, flagship=False),
    "flagship": Shape(128, 2, 2),
    "large": Shape(512, 8, 8),
}
"""The shapes of `sasrec` and `fusion` by default, and one large enough to show what the card can do. Chosen by hand."""


def seconds_of(run: Callable[[], object], device: torch.device, *, repeats: int) -> float:
    """Wall-clock seconds of one run, the mean of `repeats` after one that does not count."""
    run()
    _wait(device)
    began = time.perf_counter()
    for _ in range(repeats):
        run()
    _wait(device)
    return (time.perf_counter() - began) / repeats


def matmul(device: torch.device, *, side: int = SIDE, repeats: int = REPEATS) -> dict[str, Any]:
    """The row of the product of two bf16 matrices [N, N]."""
    left_NN, right_NN = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = seconds_of(lambda: left_NN @ right_NN, device, repeats=repeats)
    return {"row": "matmul", "side": side, "flops_a_second": 2 * side**3 / seconds}


def attention(
    device: torch.device, *, length: int, tokens: int, heads: int = HEADS, repeats: int = REPEATS
) -> dict[str, Any]:
    """The row of causal attention [B, H, L, 64], forward and backward, over `tokens` tokens."""
    size = max(tokens // length, 1), heads, length, HEAD
    q, k, v = (torch.randn(size, device=device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))

    def step() -> None:
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        torch.autograd.grad(out, (q, k, v), out)

    seconds = seconds_of(step, device, repeats=repeats)
    forward = 4 * size[0] * heads * HEAD * length**2 / 2  # two products, of which the mask leaves half
    flops = (1 + BACKWARD) * forward
    tokens_a_second = size[0] * length / seconds
    row = {"row": "attention", "length": length, "tokens_a_second": tokens_a_second}
    return {**row, "flops_a_second": flops / seconds}


def training(name: str, device: str, *, length: int, tokens: int, items: int, steps: int) -> dict[str, Any]:
    """The row of `steps` training steps of one of `SHAPES`, on drawn histories of `length` + 1 events."""
    shape, rng = SHAPES[name], np.random.default_rng(0)
    users = max(tokens // length, 1)
    drawn = np.minimum(rng.zipf(ZIPF, users * (length + 1)), items).astype(np.int32)
    offsets = np.arange(users + 1, dtype=np.int64) * (length + 1)
    sequences = Sequences(Items(tuple(map(str, range(items)))), offsets, drawn)
    context, clock = FitContext(seed=0, device=device), {}
    # The rate of `sasrec`; the time of a step does not depend on it.
    schedule = Schedule(steps=WARM_UP + steps, rate=1e-3, weight_decay=0.0, warm_up=1, clip=CLIP, betas=BETAS)
    with reproducible(context) as own:
        torch.manual_seed(0)
        encoder = CausalEncoder(Size(items, users, 0, 0), shape.config(length, tokens)).to(own)
        (batch,) = encoder.batches(sequences, rng)

        def loss_at(step: int, part: Part) -> Sum:
            if step == WARM_UP:
                _wait(own)
                clock["began"] = time.perf_counter()
            return encoder.loss(sequences, part(batch), rng)

        if own.type == "cuda":
            torch.cuda.reset_peak_memory_stats(own)
        run_phase(name, encoder, Divisible(loss_at), schedule, context)
        _wait(own)
    rate = users * length * steps / (time.perf_counter() - clock["began"])
    row = {"row": name, "length": length, "tokens_a_second": rate, "flops_a_second": rate * shape.flops(length, items)}
    if own.type == "cuda":
        row["peak_memory_mb"] = torch.cuda.max_memory_allocated(own) / 2**20
    return row


def peak_of(device: torch.device) -> tuple[str, float | None]:
    """The card's name and the peak FLOP/s of its data sheet. The peak is None where the card is not among `PEAKS`."""
    if device.type != "cuda":
        return "no GPU", None
    name = torch.cuda.get_device_name(device)
    return name, next((peak for part, peak in PEAKS.items() if part in name), None)


def measure(
    device: torch.device, lengths: list[int], *, items: int, tokens: int, steps: int, side: int
) -> dict[str, Any]:
    """All rows, each with its share of the data sheet's peak (`mfu`) and of the row `matmul` (`of_matmul`)."""
    card, peak = peak_of(device)
    rows = [matmul(device, side=side)]
    rows += [attention(device, length=length, tokens=tokens) for length in lengths]
    for name in SHAPES:
        for length in lengths:
            rows.append(training(name, device.type, length=length, tokens=tokens, items=items, steps=steps))
    best = rows[0]["flops_a_second"]
    for row in rows:
        row |= {"mfu": row["flops_a_second"] / peak if peak else None, "of_matmul": row["flops_a_second"] / best}
    facts = {"card": card, "peak_flops_a_second": peak, "items": items, "tokens_a_batch": tokens, "steps": steps}
    return {**measured_on(device.type), **facts, "rows": rows}


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report as a table."""
    table = Table(title=f"Training on {report['card']}, bf16, {report['items']:,} items")
    for column in ("row", "length", "tokens a second", "TFLOP/s", "MFU", "of matmul"):
        table.add_column(column, justify="left" if column == "row" else "right")
    for row in report["rows"]:
        length, rate = (f"{row[name]:,.0f}" if name in row else "" for name in ("length", "tokens_a_second"))
        mfu = "peak unknown" if row["mfu"] is None else f"{row['mfu']:.1%}"
        table.add_row(row["row"], length, rate, f"{row['flops_a_second'] / 1e12:,.2f}", mfu, f"{row['of_matmul']:.1%}")
    console.print(table)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(words: list[str] | None = None) -> int:
    """Measure, print and write the report. The exit code is 2 where the device or a size cannot be used."""
    parser = argparse.ArgumentParser(prog="make bench-gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the benchmark itself")
    parser.add_argument("--lengths", type=whole_numbers, default="256,2048", help="events that a network reads")
    # Sizes are chosen by hand: a shop of ten thousand items, and batches that fill a large card.
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--tokens", type=int, default=65_536, help="tokens of a batch")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--side", type=int, default=SIDE, help="side of the matrices of the row matmul")
    given = parser.parse_args(words)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("bench-gpu: this machine shows no GPU to torch: nothing was measured.")
        return 0
    console = wide()
    try:
        device = device_of(FitContext(device=given.device))
        sizes = {"items": given.items, "tokens": given.tokens, "steps": given.steps, "side": given.side}
        report = measure(device, given.lengths, **sizes)
    except RecommenderError as error:
        console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        return 2
    if device.type == "cuda":
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        write_text(REPORT, json.dumps(report, indent=1) + "\n")
    show(report, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
