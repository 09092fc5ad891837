"""Which numbers the matrix products of training are made of: float32, or bfloat16 where the machine has units for it.

Weights, the optimiser and sums over blocks stay float32. bfloat16 has float32's range and 8 bits of it,
so no loss has to be scaled (Kalamkar et al., 2019); products are faster on a processor with AVX-512 BF16 or AMX, and
much slower on one without.
"""

from functools import cache

import torch

from recommender.errors import SettingsError

PRECISIONS = ("auto", "fp32", "bf16")


def half(precision: str, device: torch.device) -> bool:
    """Whether products are of bfloat16: as `precision` says; "auto" means on a machine that has units for it.

    Raises:
        SettingsError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise SettingsError(f"precision is {precision!r}; it is one of {', '.join(PRECISIONS)}")
    return precision == "bf16" or (precision == "auto" and has_units(device))


def has_units(device: torch.device) -> bool:
    """Whether the device has units for products of bfloat16; GPUs from before Ampere imitate them, slowly."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return cpu_has_units()


@cache
def cpu_has_units() -> bool:
    """Whether this machine's CPU has units for products of bfloat16."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
