"""Makes SIGTERM end a container's process, whatever the process is doing.

A container's process is PID 1, and the kernel drops every signal for which PID 1 has no handler. Without a handler,
stopping a pod takes its whole grace period. This module imports the standard library only, so that an entry point can
install the handler before its slow imports.
"""

import os
import signal
from types import FrameType

PATIENCE_S = 3
"""Seconds that cleaning up may take: well below the 30 s of grace that Kubernetes gives by default."""


def end_at_sigterm() -> None:
    """Let SIGTERM raise SystemExit(0) in the main thread. After `PATIENCE_S` the process ends in any case."""
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    # Python drops an exception that is raised while a destructor runs, and a store that hangs can hold up the exit.
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.alarm(PATIENCE_S)
    raise SystemExit(0)
