"""When, at which commit and on what a figure was measured, and where its report and the log of test readings go."""

import subprocess
from pathlib import Path

from recommender.engine.provenance import provenance
from recommender.evaluation.readings import log_reading

READINGS = Path("reports/bench/readings.jsonl")
"""Every reading of a test is a line of this log, so that repeated looks at one test stay visible."""


def measured_on(device: str = "cpu") -> dict[str, str]:
    """Date, git commit, hardware and PyTorch's version of a measurement, with the GPU if the device is "cuda"."""
    facts = provenance(device)
    return {"date": facts.pop("date"), "commit": commit(), **facts}


def commit() -> str:
    """The short hash of the checkout's commit, with "+" if files outside reports/ are changed. "" outside git."""
    root = Path(__file__).resolve().parents[1]
    try:
        head, changes = (
            subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", ".", ":!reports"])
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if changes else "")


def note_reading(data: str, ranker: str, train_on: str, seed: int, *, readings: Path = READINGS) -> None:
    """Note in `readings` that the test of `data` was read."""
    log_reading(readings, data=data, ranker=ranker, train_on=train_on, seed=seed, facts=measured_on())


def report_path(complete: Path, *, is_complete: bool) -> Path:
    """Where a report goes: `complete`, or NAME-part.json beside it for a run of some rows, so the full table stays."""
    return complete if is_complete else complete.with_name(f"{complete.stem}-part{complete.suffix}")
