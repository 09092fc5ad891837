"""Several processes that train one model, as `torchrun` starts them: each takes its part of every batch, gradients are added up.

    torchrun --nproc-per-node 2 .venv/bin/recommender benchmark sequences …

gloo on CPUs, NCCL on GPUs. One process alone needs none of this and none of it runs.
"""

import atexit
import os
import time
from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn


def join(device: torch.device) -> None:
    """Join the processes that `torchrun` started, if it did, until this one ends: who left and joined again could read the address
    that another one had before, and wait for it for ever."""
    if started() == 1 or distributed.is_initialized():
        return
    own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if device.type == "cuda" else None
    if own is not None:
        torch.cuda.set_device(own)
    distributed.init_process_group("gloo" if own is None else "nccl", device_id=own)
    atexit.register(distributed.destroy_process_group)


def started() -> int:
    """How many processes `torchrun` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def place() -> tuple[int, int]:
    """This process' number and how many there are."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def is_first() -> bool:
    """Whether this process writes files."""
    return int(os.environ.get("RANK", "0")) == 0


def add_up(parameters: Sequence[nn.Parameter], loss: Tensor, weight: float) -> tuple[Tensor, float]:
    """Add gradients, losses and weights of all processes, in one message; alone: what was given."""
    if place()[1] == 1:
        return loss, weight
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([one.grad.reshape(-1) for one in parameters if one.grad is not None])
    message = torch.cat([flat, loss.reshape(1).to(flat), flat.new_tensor([weight])])
    distributed.all_reduce(message)
    # gloo's thread lets go a moment later; were it the last that holds a tensor of Python's when Python ends, it would abort the process
    while message.device.type == "cpu" and message._use_count() > 1:  # type: ignore[attr-defined]
        time.sleep(0)
    start = 0
    for parameter in parameters:
        size = parameter.numel()
        if parameter.grad is not None:
            parameter.grad.copy_(message[start : start + size].view_as(parameter))
        start += size
    return message[-2], float(message[-1])
