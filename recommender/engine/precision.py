"""Chooses the number format of matrix products in training: float32, or bfloat16 where the machine has units for it.

Weights, optimiser and sums over blocks stay float32. bfloat16 has float32's range with 8 bits of precision, so no loss
has to be scaled (Kalamkar et al., "A study of BFLOAT16 for deep learning training", 2019). Products are faster on a
processor with AVX-512 BF16 or AMX and much slower on one without.
"""

from functools import cache

import torch

from recommender.errors import SettingsError

PRECISIONS = ("auto", "fp32", "bf16")


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Return whether products are computed in bfloat16. "auto" chooses it on a machine that has units for it.

    Raises:
        SettingsError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise SettingsError(f"precision must be one of {', '.join(PRECISIONS)} (got {precision!r})")
    return precision == "bf16" or (precision == "auto" and has_units(device))


def has_units(device: torch.device) -> bool:
    """Return whether the device has units for bfloat16 products. GPUs before Ampere emulate them slowly."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return cpu_has_units()


@cache
def cpu_has_units() -> bool:
    """Return whether this machine's CPU has units for bfloat16 products."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
