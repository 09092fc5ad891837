"""Data-parallel training by several processes: each takes its part of every batch, and gradients are added up.

    torchrun --nproc-per-node 2 .venv/bin/recommender benchmark sequences …

They communicate by gloo on CPUs and NCCL on GPUs. A single process runs none of this.
"""

import atexit
import os
import time
from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn

from recommender.engine.torchrun import started


def join(device: torch.device) -> None:
    """Join the processes that `torchrun` started, until this one ends. Without `torchrun` nothing happens.

    A process never leaves and joins again. It could read the address that another process had before, and wait for it
    for ever.
    """
    if started() == 1 or distributed.is_initialized():
        return
    gpu = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if device.type == "cuda" else None
    if gpu is not None:
        torch.cuda.set_device(gpu)
    distributed.init_process_group("gloo" if gpu is None else "nccl", device_id=gpu)
    atexit.register(distributed.destroy_process_group)


def rank_and_world_size() -> tuple[int, int]:
    """Return this process's number and the number of processes."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def sum_over_processes(parameters: Sequence[nn.Parameter], loss: Tensor, weight: float) -> tuple[Tensor, float]:
    """Add up the gradients (in place), losses and weights of all processes in one message.

    A single process gets its own values back.
    """
    if rank_and_world_size()[1] == 1:
        return loss, weight
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([parameter.grad.reshape(-1) for parameter in parameters if parameter.grad is not None])
    message = torch.cat([flat, loss.reshape(1).to(flat), flat.new_tensor([weight])])
    distributed.all_reduce(message)
    # gloo's thread drops its reference a moment later. If it were the last one to hold a tensor when Python ends, it
    # would abort the process.
    while message.device.type == "cpu" and message._use_count() > 1:  # type: ignore[attr-defined]
        time.sleep(0)
    start = 0
    for parameter in parameters:
        size = parameter.numel()
        if parameter.grad is not None:
            parameter.grad.copy_(message[start : start + size].view_as(parameter))
        start += size
    return message[-2], float(message[-1])
