"""Cores that this process may use: by its affinity and by the limit of its cgroup."""

import os
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Version 2 of cgroups: microseconds of CPU time per period, and the period, or `max` where there is no limit."""


def usable_cores(limit: Path = CGROUP_LIMIT) -> float:
    """Number of cores, with a fraction where the cgroup's limit has one."""
    cores = float(len(os.sched_getaffinity(0)))
    try:
        quota, period = limit.read_text(encoding="ascii").split()
        return cores if quota == "max" else min(cores, int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no cgroups, the first version of them, or an unknown format
        return cores
