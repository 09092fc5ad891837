"""Chooses the number format of matrix products in training: float32, or bfloat16 where the machine has units for it.

Weights, optimiser and sums over blocks stay float32. bfloat16 has float32's range with 8 bits of precision, so no loss
has to be scaled (Kalamkar et al., "A study of BFLOAT16 for deep learning training", 2019). Products are faster on a
processor with AVX-512 BF16 or AMX and much slower on one without.
"""

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from recommender.errors import SettingsError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "fp32", "bf16")
CPUS = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""Flags of a processor of the x86 family. One of another family is taken to have no such units, as torch takes it."""


def uses_bfloat16(precision: str, device: "torch.device") -> bool:
    """Return whether products are computed in bfloat16. "auto" chooses it on a machine that has units for it.

    Raises:
        SettingsError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise SettingsError(f"precision must be one of {', '.join(PRECISIONS)} (got {precision!r})")
    return precision == "bf16" or (precision == "auto" and has_units(device))


def has_units(device: "torch.device") -> bool:
    """Return whether the device has units for bfloat16 products. GPUs before Ampere emulate them slowly."""
    if device.type == "cuda":
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return cpu_has_units()


@cache
def cpu_has_units() -> bool:
    """Return whether this machine's CPU has units for bfloat16 products."""
    # As the kernel says, not as torch does: the work of every ranker is named by it, also of one that needs no torch.
    flags = re.search(r"^flags\s*:(.*)$", CPUS.read_text(encoding="utf-8"), re.MULTILINE) if CPUS.is_file() else None
    return flags is not None and not BFLOAT16_FLAGS.isdisjoint(flags[1].split())
