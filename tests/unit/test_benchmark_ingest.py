"""The benchmark of large logs measures a child process, and ends one that takes more memory than its limit."""

import sys
from pathlib import Path

import pytest

from benchmarks.ingest.child import ChildFailed, Measured, measure

TAKE = "import time; taken = bytearray(300 * 2**20); time.sleep({seconds})"
"""A program that holds 300 MiB."""


def test_a_child_s_time_and_peak_are_measured(tmp_path: Path) -> None:
    found = measure([sys.executable, "-c", TAKE.format(seconds=2)], tmp_path)
    assert 300 / 1024 <= found.peak_gib < 0.5
    assert 0 < found.cpu_s < 30
    both = found + Measured(cpu_s=2.0, wall_s=1.0, peak_gib=0.1)
    assert (both.cpu_s, both.peak_gib) == (found.cpu_s + 2.0, found.peak_gib)


def test_a_child_above_its_limit_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match=r"0\.2 GiB"):
        measure([sys.executable, "-c", TAKE.format(seconds=60)], tmp_path, limit_gib=0.2)


def test_a_child_that_fails_shows_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="no such thing"):
        measure([sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path)
