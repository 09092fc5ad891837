"""Settings of the decision log: where it lies first, what an answer waits for, and when it is shipped."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from recommender.settings.sections import Section


class DecisionLogSettings(Section):
    """How a gateway writes its decisions to its own disk and ships them to `home`. All numbers are chosen by hand."""

    folder: Path | None = Field(
        None,
        description="Folder on the replica's own disk for decisions that are not shipped yet. It must outlive the "
        "process. None: `decisions` in `serving.state`.",
    )
    wait_ms: int = Field(
        40,
        ge=0,
        le=10_000,
        description="How long an answer waits for its record to be written. A later record is still written, and the "
        "answer is marked `decision_log`.",
    )
    durability: Literal["kernel", "disk"] = Field(
        "kernel",
        description="What counts as written. `kernel`: the operating system has the record, so no killed process loses "
        "it. `disk`: it is also synced (fdatasync), so that a power failure does not lose it. That takes milliseconds.",
    )
    segment_s: float = Field(
        5.0,
        ge=0.1,
        le=3_600,
        description="Age at which a segment is closed and shipped: the most that a lost machine loses, and the time of "
        "shipping itself.",
    )
    segment_mib: int = Field(16, ge=1, le=256, description="Size at which a segment is closed and shipped, MiB.")
    buffer_mib: int = Field(
        64,
        ge=1,
        le=4_096,
        description="Records that wait in memory for a slow or full disk, MiB. What exceeds it is not recorded, and "
        "counted. A record has about half a KiB.",
    )
    backlog_mib: int = Field(
        1_024,
        ge=1,
        description="Segments that may lie on the replica's own disk, MiB. Beyond it the log waits as on a full disk, "
        "so that a shared folder that is away for hours does not fill the disk of the replica.",
    )
