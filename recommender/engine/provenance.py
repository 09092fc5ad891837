"""Provenance of a trained model: date, hardware and PyTorch, for the lineage of bundles and for reports."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch

from recommender.engine.precision import cpu_has_units


def provenance(device: str = "cpu") -> dict[str, str]:
    """Today's date (UTC), the hardware and PyTorch's version, as text.

    Args:
        device: "cpu" or "cuda". With "cuda" the hardware names the GPU as well.
    """
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": hardware(device),
        "torch": str(torch.__version__),
    }


def hardware(device: str = "cpu") -> str:
    """The processor, the operating system, whether the CPU multiplies in bfloat16, and the GPU where one trained."""
    units = "with" if cpu_has_units() else "without"
    card = f", {torch.cuda.get_device_name()}" if device == "cuda" else ""
    system = f"{platform.system()} {platform.machine()}"
    return f"{os.cpu_count()} cores of {_processor()}, {system} {units} bf16 units{card}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "an unknown processor"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
