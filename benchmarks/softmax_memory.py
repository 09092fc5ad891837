"""Peak memory of the full-softmax loss, forward and backward, above weights and inputs, each way in a process of its own.

What is measured: the process allocates and touches the item table [V, D], the states [M, D] and the targets, runs the way once on a
few targets and items (so that libraries, threads and their pools are there), and resets the kernel's peak (`5` into
/proc/self/clear_refs). The peak (VmHWM) after one forward and backward minus the resident memory (VmRSS) before it is the answer;
where the peak cannot be reset it is the life's peak that is read, which can only say more. What any way must hold is the
gradients of both, (V + M) x D floats: the ratio is to these.

`python -m benchmarks.softmax_memory WAY TARGETS ITEMS` prints one line of JSON (Linux).
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
PLAIN_TARGETS = 256
"""As many as PyTorch's own way is given: three tensors of targets x items, 1 GB each."""
GOAL = 1.1


def ours(states_MD: Tensor, weight_VD: Tensor, targets_M: Tensor) -> Tensor:
    return linear_cross_entropy(states_MD, weight_VD, targets_M)


def ours_bf16(states_MD: Tensor, weight_VD: Tensor, targets_M: Tensor) -> Tensor:
    return linear_cross_entropy(states_MD, weight_VD, targets_M, half=True)


def plain(states_MD: Tensor, weight_VD: Tensor, targets_M: Tensor) -> Tensor:
    return functional.cross_entropy(functional.linear(states_MD, weight_VD), targets_M, reduction="sum")


WAYS = {"ours": ours, "ours_bf16": ours_bf16, "plain": plain}


def measure(way: str, targets: int, items: int) -> dict[str, Any]:
    """In this process: MiB above weights and inputs, MiB of the gradients, their ratio, CPU seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    _step(way, *_inputs(64, 4096))
    states_MD, weight_VD, targets_M = _inputs(targets, items)
    reset = _reset_peak()
    before, began = _status("VmRSS"), process_time()
    loss = _step(way, states_MD, weight_VD, targets_M)
    seconds, above = process_time() - began, _status("VmHWM") - before
    gradients = sum(one.numel() * one.element_size() for one in (states_MD, weight_VD))
    return {
        "way": way,
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


def in_fresh_process(way: str, targets: int, items: int) -> dict[str, Any]:
    """`measure` in a new process with one thread.

    Raises:
        RecommenderError: it failed; the message is its last line.
    """
    command = [sys.executable, "-m", "benchmarks.softmax_memory", way, str(targets), str(items)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if answer.returncode:
        said = answer.stderr.strip().splitlines() or [f"ended with {answer.returncode}; memory did not suffice?"]
        raise RecommenderError(f"{way}, {targets} targets, {items} items: {said[-1]}")
    row: dict[str, Any] = json.loads(answer.stdout)
    return row


def table(*, targets: int = TARGETS, items: int = ITEMS, plain_targets: int = PLAIN_TARGETS) -> dict[str, Any]:
    """Our way at the goal's size, and PyTorch's at a size that it can hold with what it would be at the goal's."""
    own, half = (in_fresh_process(way, targets, items) for way in ("ours", "ours_bf16"))
    theirs = in_fresh_process("plain", plain_targets, items)
    beyond = (theirs["peak_mib"] - theirs["gradients_mib"]) * targets / plain_targets
    theirs["scaled_peak_mib"] = own["gradients_mib"] + max(beyond, 0.0)
    theirs["scaled"] = f"what is above the gradients, times {targets} / {plain_targets}: not measured at {targets}"
    reached = max(own["ratio"], half["ratio"]) <= GOAL
    return {"ours": own, "ours_bf16": half, "plain": theirs, "goal_ratio": GOAL, "reached": reached}


def _inputs(targets: int, items: int) -> tuple[Tensor, Tensor, Tensor]:
    states_MD = torch.randn(targets, DIMENSION, requires_grad=True)
    weight_VD = torch.empty(items, DIMENSION).normal_(std=0.1).requires_grad_()
    return states_MD, weight_VD, torch.randint(items, (targets,))


def _step(way: str, states_MD: Tensor, weight_VD: Tensor, targets_M: Tensor) -> float:
    loss = WAYS[way](states_MD, weight_VD, targets_M)
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _status(key: str) -> int:
    """Bytes of one line of /proc/self/status."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RecommenderError(f"/proc/self/status has no {key}; peak memory is read on Linux only")


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
