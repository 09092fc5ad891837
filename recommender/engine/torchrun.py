"""Which of the processes that `torchrun` started this one is, from the environment that it sets.

Without torch, whose import takes over a CPU-second: what only logs, shows or writes once asks here.
"""

import os


def started() -> int:
    """Return how many processes `torchrun` started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Return whether this is the process that writes files and logs."""
    return int(os.environ.get("RANK", "0")) == 0
