"""What a newcomer is expected to do: as an average known user does, from now to the window's end."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from random_examples import DAY_US, random_catalogue

from recommender.features.decisions import TIME
from recommender.features.newcomers import newcomers
from recommender.matching.catalogue import ARRAYS, NAMES, Catalogue
from recommender.matching.timing import BINS
from recommender.storage.manifest import read_manifest, whole_folder, write_manifest

NUM_USERS = 20_000
LENGTH_US = 30 * DAY_US


def _learnt(targeted_N: np.ndarray[Any, Any], rate_U: np.ndarray[Any, Any], baskets_U: np.ndarray[Any, Any]) -> float:
    """Rate of a newcomer where these users got one closed campaign of type A and took it up at their own rates."""
    redeemed_N = np.random.default_rng(1).random(len(targeted_N)) < rate_U[targeted_N]
    zeros = np.zeros(len(targeted_N), dtype=np.int64)
    half = np.where(redeemed_N, LENGTH_US // 2, None)
    pairs = pa.table(
        {
            "campaign_type": ["A"] * len(targeted_N),
            "decided_at": pa.array(zeros).cast(pa.timestamp("us")).cast(TIME),
            "ends_at": pa.array(zeros + LENGTH_US).cast(pa.timestamp("us")).cast(TIME),
            "redeemed_at": pa.array(half.tolist(), pa.int64()).cast(pa.timestamp("us")).cast(TIME),
        }
    )
    late = pa.scalar(2 * LENGTH_US).cast(pa.timestamp("us")).cast(TIME).as_py()
    source = SimpleNamespace(
        as_of=late, tables=SimpleNamespace(log_end=late), campaigns=pa.table({"campaign_type": ["A", "never seen"]})
    )
    found = newcomers(source, pairs, baskets_U[targeted_N], baskets_U)  # type: ignore[arg-type]
    assert found.behind_CJ.shape == (2, BINS + 1)
    return float(found.rate_C[0])


def test_targeting_the_best_customers_does_not_raise_what_a_newcomer_is_expected_to_do() -> None:
    random = np.random.default_rng(0)
    baskets_U = random.gamma(1.0, 3.0, NUM_USERS)
    rate_U = np.clip(0.02 * baskets_U, 0, 0.9)
    everyone, best = np.arange(NUM_USERS), np.flatnonzero(random.random(NUM_USERS) < baskets_U / 20)
    assert rate_U[best].mean() > 1.5 * rate_U.mean()
    assert _learnt(everyone, rate_U, baskets_U) == pytest.approx(rate_U.mean(), rel=0.05)
    # Inside a stratum the best are still somewhat better than the others.
    assert _learnt(best, rate_U, baskets_U) == pytest.approx(rate_U.mean(), rel=0.15)


@pytest.mark.parametrize(("rate", "low", "high"), [(0.0, 1e-5, 0.01), (1.0, 0.95, 0.999)])
def test_a_shop_where_nobody_or_everybody_took_part_leaves_some_doubt(rate: float, low: float, high: float) -> None:
    baskets_U = np.random.default_rng(0).gamma(1.0, 3.0, 300)
    assert low < _learnt(np.arange(300), np.full(300, rate), baskets_U) < high


def _catalogue() -> Catalogue:
    return random_catalogue(np.random.default_rng(0))


def test_the_score_of_a_newcomer_falls_while_the_window_passes() -> None:
    catalogue = replace(
        _catalogue(),
        campaign_newcomer_C=np.full(9, 0.2, dtype=np.float32),
        campaign_behind_CJ=np.tile(np.linspace(0, 1, BINS + 1), (9, 1)),
    )
    rows = np.array([3], dtype=np.int32)
    start, end = int(catalogue.campaign_starts_C[3]), int(catalogue.campaign_ends_C[3])
    at = [float(catalogue.newcomer_scores(rows, start + (end - start) * part // 4)[0]) for part in range(5)]
    assert at[0] == pytest.approx(0.2)
    assert at[2] == pytest.approx(0.2 * 0.5 / (1 - 0.2 * 0.5))
    assert at == sorted(at, reverse=True)
    assert at[4] == 0


def test_a_catalogue_from_before_newcomers_were_learnt_still_answers(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    catalogue = _catalogue()
    catalogue.save(tmp_path / "new")
    manifest = read_manifest(tmp_path / "new")
    with whole_folder(tmp_path / "old") as folder:
        arrays = load_file(tmp_path / "new" / ARRAYS)
        kept = {name: values for name, values in arrays.items() if "newcomer" not in name and "behind" not in name}
        save_file(kept, folder / ARRAYS)
        (folder / NAMES).write_bytes((tmp_path / "new" / NAMES).read_bytes())
        write_manifest(folder, kind="catalogue", format=manifest["format"], version="old", taxonomy="old")
    old = Catalogue.load(tmp_path / "old")
    rows = np.array([3], dtype=np.int32)
    middle = (int(old.campaign_starts_C[3]) + int(old.campaign_ends_C[3])) // 2
    rate = float(old.campaign_popularity_C[3])
    assert old.newcomer_scores(rows, middle)[0] == pytest.approx(rate * 0.5 / (1 - rate * 0.5))
