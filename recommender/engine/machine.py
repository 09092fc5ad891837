"""Where and when a figure was measured, and where its report goes."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path


def machine(device: str = "cpu") -> dict[str, str]:
    """date, commit (with + where the tree had changes outside reports/; empty outside a repository), hardware (with the GPU that
    was used), torch's version."""
    import torch

    from recommender.engine.precision import cpu_has_units

    units = "with" if cpu_has_units() else "without"
    card = f", {torch.cuda.get_device_name()}" if device == "cuda" else ""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "hardware": f"{os.cpu_count()} cores of {_processor()}, {platform.system()} {platform.machine()} {units} bf16 units{card}",
        "torch": str(torch.__version__),
    }


def report_at(whole: Path, is_whole: bool) -> Path:
    """`whole`, or beside it a file of some rows only (training-part.json), so that a short run leaves the kept table as it is."""
    return whole if is_whole else whole.with_name(f"{whole.stem}-part{whole.suffix}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "an unknown processor"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    root = Path(__file__).resolve().parents[2]
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--", ".", ":!reports"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
