"""Peak memory of the full-softmax loss, forward and backward, above weights and inputs, with one process per method.

The process allocates and touches the item table [V, D], the states [M, D] and the targets, and runs the method once on
a few targets and items, so that libraries, threads and their pools exist. It then resets the kernel's peak (`5` into
/proc/self/clear_refs). The result is the peak (VmHWM) after one forward and backward pass minus the resident memory
(VmRSS) before it. Where the peak cannot be reset, the process' whole life counts, which can only be more. Any method
must hold the gradients of table and states, (V + M) x D floats, so the result is compared with these.

`python -m benchmarks.softmax_memory METHOD TARGETS ITEMS` prints one line of JSON (Linux).

Shapes: V items · M targets · D width.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from recommender.engine.softmax import linear_cross_entropy
from recommender.errors import RecommenderError

DIMENSION, TARGETS, ITEMS = 64, 4096, 1_000_000
"""A large catalogue with the width and twice the targets of a batch of `sasrec`. Chosen by hand."""
PLAIN_TARGETS = 256
"""PyTorch's own loss gets fewer: it holds three tensors of targets x items, 1 GB each with so many."""
WARM_UP_TARGETS, WARM_UP_ITEMS = 64, 4096
"""Enough to load libraries and start threads, in a few MiB."""
TABLE_STD = 0.1
"""Standard deviation of the item table. Chosen by hand: memory does not depend on it. It keeps the loss finite."""
GOAL = 1.1
"""At most a tenth above the gradients. The goal of the task that the loss was written for."""


def ours(states_MD: Tensor, weight_VD: Tensor, targets_M: Tensor) -> Tensor:
    """Our chunked loss in float32."""
    return linear_cross_entropy(states_MD, weight_VD, targets_M)


def ours_bf16(states_MD: Tensor, weight_VD: Tensor, targets_M: Tensor) -> Tensor:
    """Our chunked loss with products in bfloat16."""
    return linear_cross_entropy(states_MD, weight_VD, targets_M, bfloat16=True)


def plain(states_MD: Tensor, weight_VD: Tensor, targets_M: Tensor) -> Tensor:
    """PyTorch's cross-entropy of all logits."""
    return functional.cross_entropy(functional.linear(states_MD, weight_VD), targets_M, reduction="sum")


METHODS = {"ours": ours, "ours_bf16": ours_bf16, "plain": plain}


def measure(method: str, targets: int, items: int) -> dict[str, Any]:
    """Measure in this process: MiB above weights and inputs, MiB of the gradients, their ratio, CPU-seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    _step(method, *_inputs(WARM_UP_TARGETS, WARM_UP_ITEMS))
    states_MD, weight_VD, targets_M = _inputs(targets, items)
    reset = _reset_peak()
    before, began = _status("VmRSS"), process_time()
    loss = _step(method, states_MD, weight_VD, targets_M)
    seconds, above = process_time() - began, _status("VmHWM") - before
    gradients = sum(one.numel() * one.element_size() for one in (states_MD, weight_VD))
    return {
        "way": method,
        "targets": targets,
        "items": items,
        "dimension": DIMENSION,
        "peak_mib": above / 2**20,
        "gradients_mib": gradients / 2**20,
        "ratio": above / gradients,
        "cpu_seconds": seconds,
        "loss": loss,
        "peak_was_reset": reset,
    }


def in_fresh_process(method: str, targets: int, items: int) -> dict[str, Any]:
    """`measure` in a new process with one thread.

    Raises:
        RecommenderError: It failed; the message has the last line of its error output.
    """
    command = [sys.executable, "-m", "benchmarks.softmax_memory", method, str(targets), str(items)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if answer.returncode:
        lines = answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}; is there enough memory?"]
        raise RecommenderError(f"{method}, {targets} targets, {items} items: {lines[-1]}")
    row: dict[str, Any] = json.loads(answer.stdout)
    return row


def table(*, targets: int = TARGETS, items: int = ITEMS, plain_targets: int = PLAIN_TARGETS) -> dict[str, Any]:
    """Our methods at the goal's size, and PyTorch's at a size that it can hold, scaled to the goal's."""
    own, half = (in_fresh_process(method, targets, items) for method in ("ours", "ours_bf16"))
    theirs = in_fresh_process("plain", plain_targets, items)
    beyond = (theirs["peak_mib"] - theirs["gradients_mib"]) * targets / plain_targets
    theirs["scaled_peak_mib"] = own["gradients_mib"] + max(beyond, 0.0)
    theirs["scaled"] = f"what is above the gradients, times {targets} / {plain_targets}: not measured at {targets}"
    reached = max(own["ratio"], half["ratio"]) <= GOAL
    return {"ours": own, "ours_bf16": half, "plain": theirs, "goal_ratio": GOAL, "reached": reached}


def _inputs(targets: int, items: int) -> tuple[Tensor, Tensor, Tensor]:
    states_MD = torch.randn(targets, DIMENSION, requires_grad=True)
    weight_VD = torch.empty(items, DIMENSION).normal_(std=TABLE_STD).requires_grad_()
    return states_MD, weight_VD, torch.randint(items, (targets,))


def _step(method: str, states_MD: Tensor, weight_VD: Tensor, targets_M: Tensor) -> float:
    loss = METHODS[method](states_MD, weight_VD, targets_M)
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _status(key: str) -> int:
    """Bytes of one line of /proc/self/status."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RecommenderError(f"/proc/self/status has no {key}; peak memory can be read on Linux only")


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
