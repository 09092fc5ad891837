"""The quality benchmark's sets and its differences between rankers."""

from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from benchmarks.ml_100k import MEMBER
from benchmarks.quality_differences import difference
from benchmarks.sets import as_judged
from recommender.errors import SettingsError, SourceError


def test_a_difference_has_an_interval_over_users_and_one_over_seeds() -> None:
    rng = np.random.default_rng(5)

    def rows(letters: str, seeds: int, commit: str, ranker: str = "rules") -> list[dict[str, Any]]:
        facts = {"commit": commit, "ranker": ranker}
        return [{"tops": "".join(rng.choice(list(letters), 400)), **facts} for _ in range(seeds)]

    better = difference(rows("1239", 5, "a"), rows("9A..", 1, "b"))
    for interval in ("interval95", "interval95_seeds"):
        low, high = better[interval]
        assert 0 < low < better["mean"] < high
    assert better["seeds"] == [5, 1]
    assert better["commits"] == ["a", "b"]
    assert difference(rows("12", 1, "a"), rows("12", 5, "a"))["interval95_seeds"] is None
    assert difference(rows("12", 5, "a"), rows("12", 1, "a", "sasrec"))["interval95_seeds"] is None
    covered = 0
    for _ in range(200):
        low, high = difference(rows("19.", 5, "a"), rows("19.", 5, "a"))["interval95_seeds"]
        covered += low <= 0 <= high
    assert covered >= 180


def test_complete_journey_is_a_set_with_times_and_attributes(tmp_path: Path) -> None:
    sequences = as_judged(tmp_path, "journey")
    assert sequences.times_T is not None
    assert sequences.items.num_attributes > 100
    rows_T = sequences.rows_T()
    same_user = rows_T[1:] == rows_T[:-1]
    assert (np.diff(sequences.times_T)[same_user] >= 0).all()
    pairs = rows_T * (sequences.items.num + 1) + sequences.items_T
    assert len(np.unique(pairs)) == len(pairs)
    with pytest.raises(SettingsError, match=r"'moon'.*reseller"):
        as_judged(tmp_path, "moon")


def test_movielens_100k_is_read_from_the_wheel_that_carries_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = "recbole-1.2.1.dist-info"
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float", "1\t7\t3\t881250949", "1\t8\t5\t881250940"]
    with ZipFile(tmp_path / "recbole-1.2.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(MEMBER, "\n".join(rows))
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_ARGS", f"--no-index --find-links {tmp_path}")
    sequences = as_judged(tmp_path, "ml-100k")
    assert [sequences.items.ids[row - 1] for row in sequences.items_T] == ["8", "7"]
    assert sequences.has_clock
    monkeypatch.setenv("PIP_ARGS", f"--no-index --find-links {tmp_path / 'nothing'}")
    with pytest.raises(SourceError, match=r"ml-100k: .*recbole==1\.2\.1"):
        as_judged(tmp_path, "ml-100k")
