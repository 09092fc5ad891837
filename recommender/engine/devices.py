"""Checks and prepares the device that a fit runs on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

from recommender.engine import processes
from recommender.engine.context import FitContext
from recommender.engine.guard import enough_memory
from recommender.errors import DeviceError, SettingsError


class Trainable(Protocol):
    """A class whose `fit` may run on a GPU."""

    @property
    def name(self) -> str:
        """The device's name for people."""

    @property
    def trains_on_gpu(self) -> bool:
        """Whether a GPU makes its fit faster."""


def device_of(context: FitContext) -> torch.device:
    """Return the context's device.

    Raises:
        DeviceError: there is no such device, or this machine does not have it.
    """
    if context.device not in ("cpu", "cuda"):
        raise DeviceError(f"device must be 'cpu' or 'cuda' (got {context.device!r})")
    if context.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device is 'cuda', but torch finds no GPU on this machine; use 'cpu' or a GPU node")
    return torch.device(context.device)


def require_device(ranker: Trainable, device: str) -> None:
    """Check that a ranker can be fitted on a device of this machine.

    Raises:
        SettingsError: the ranker is fitted on the CPU only.
        DeviceError: there is no such device, or this machine does not have it.
    """
    if device == "cuda" and not ranker.trains_on_gpu:
        raise SettingsError(f"{ranker.name} is fitted on the CPU only, so device must be 'cpu' (got {device!r})")
    device_of(FitContext(device=device))


@contextmanager
def reproducible(context: FitContext) -> Iterator[torch.device]:
    """Set torch up for a fit that gives the same weights again, and restore its state afterwards.

    On the CPU torch gets one thread. So sums keep their order, and weights do not depend on the machine's cores. At the
    sizes here a second thread mostly waits, and beside other work it makes a fit four times slower. The process's
    random state is restored.

    Raises:
        DeviceError: as `device_of`.
        TrainingError: memory ran out.
    """
    device = device_of(context)
    processes.join(device)
    threads = torch.get_num_threads()
    cudnn_attention = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.set_num_threads(1)
    # cuDNN's attention plans anew for each shape, and the groups of every step have other shapes.
    torch.backends.cuda.enable_cudnn_sdp(False)
    random_state = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    try:
        with enough_memory("training", context.device), random_state:
            yield device
    finally:
        torch.set_num_threads(threads)
        torch.backends.cuda.enable_cudnn_sdp(cudnn_attention)
