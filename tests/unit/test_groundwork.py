"""What fits of several rankers on the same pairs have in common is computed once, and changes no bit of any."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_examples import random_examples

from recommender.datasets.time_units import DAY_US
from recommender.engine.context import FitContext
from recommender.matching.examples import Examples, Labels
from recommender.matching.horizon import NEVER, Outcomes
from recommender.models.campaign import groundwork, ranker_class
from recommender.models.campaign.groundwork import Groundwork
from recommender.models.campaign.horizon_ranker import HorizonRanker, fit_over_horizon

NUM_PAIRS, BOUNDARY_US, WINDOW_US = 600, 70 * DAY_US, 40 * DAY_US
Shop = tuple[Examples, Labels, Outcomes]


@pytest.fixture(scope="module")
def shop() -> Shop:
    """Pairs that were targeted over 100 days, known on day 70: some windows are open, and some begin later."""
    examples, labels = random_examples(5, num_pairs=NUM_PAIRS)
    rng = np.random.default_rng(1)
    targeted_N = (rng.uniform(0, 100, NUM_PAIRS) * DAY_US).astype(np.int64)
    at_N = targeted_N + (rng.random(NUM_PAIRS) * WINDOW_US).astype(np.int64)
    redeemed_N = np.where((labels.redeemed_N > 0) & (at_N < BOUNDARY_US), at_N, NEVER)
    known_N = np.where(targeted_N < BOUNDARY_US, redeemed_N < BOUNDARY_US, np.nan).astype(np.float32)
    outcomes = Outcomes(targeted_N, targeted_N + WINDOW_US, redeemed_N, BOUNDARY_US)
    assert outcomes.open_N.any()
    return examples, replace(labels, redeemed_N=known_N), outcomes


def fit(name: str, shop: Shop, kept: Path | None = None, **hyperparameters: float) -> HorizonRanker:
    examples, labels, outcomes = shop
    cls = ranker_class(name)
    config = cls.Config.parse(hyperparameters, owner=name)
    return fit_over_horizon(
        cls, examples, labels, outcomes, corpus=examples.histories, config=config, context=FitContext(), kept=kept
    )


def folders(kept: Path) -> dict[str, int]:
    """Name of what is kept, and when it was written."""
    return {folder.name: (folder / "facts.json").stat().st_mtime_ns for folder in kept.iterdir()}


def assert_same(one: HorizonRanker, other: HorizonRanker) -> None:
    tensors, others = one.tensors(), other.tensors()
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == others[name].dtype, name
        assert tensor.tobytes() == others[name].tobytes(), name
    assert one.config() == other.config()


def test_rankers_that_share_it_have_the_bits_of_rankers_that_do_not(shop: Shop, tmp_path: Path) -> None:
    first = fit("logistic", shop, tmp_path)
    written = folders(tmp_path)
    assert len(written) == 1
    assert_same(first, fit("logistic", shop))
    for name, hyperparameters in (("popularity", {}), ("logistic", {}), ("logistic", {"strength": 0.1})):
        assert_same(fit(name, shop, tmp_path, **hyperparameters), fit(name, shop, **hyperparameters))
    assert folders(tmp_path) == written


def test_one_that_was_damaged_is_made_again(shop: Shop, tmp_path: Path) -> None:
    first = Groundwork.of(*shop, kept=tmp_path)
    (tensors,) = tmp_path.rglob("*.safetensors")
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    again = Groundwork.of(*shop, kept=tmp_path)
    assert again.labels.redeemed_N.tobytes() == first.labels.redeemed_N.tobytes()
    assert tensors.read_bytes() != content


@pytest.mark.parametrize("changed", ["a feature", "a label", "the boundary"])
def test_other_pairs_have_one_of_their_own(shop: Shop, changed: str, tmp_path: Path) -> None:
    examples, labels, outcomes = shop
    Groundwork.of(examples, labels, outcomes, kept=tmp_path)
    if changed == "a feature":
        features_NF = examples.features_NF.copy()
        features_NF[7, 0] += 1
        examples = replace(examples, features_NF=features_NF)
    elif changed == "a label":
        redeemed_N = labels.redeemed_N.copy()
        redeemed_N[np.flatnonzero(redeemed_N == 1)[0]] = 0
        labels = replace(labels, redeemed_N=redeemed_N)
    else:
        outcomes = replace(outcomes, known_at_us=outcomes.known_at_us + 1)
    kept = Groundwork.of(examples, labels, outcomes, kept=tmp_path)
    assert len(folders(tmp_path)) == 2
    assert kept.labels.redeemed_N.tobytes() == Groundwork.of(examples, labels, outcomes).labels.redeemed_N.tobytes()


def test_what_another_release_of_a_library_computed_is_not_taken_over(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"numpy", "scipy"} <= set(groundwork._libraries())
    before = groundwork._name(*shop)
    monkeypatch.setattr(groundwork, "version", lambda _: "0.1")
    assert groundwork._name(*shop) != before


def test_a_shop_without_open_windows_has_its_labels_back(shop: Shop, tmp_path: Path) -> None:
    examples, labels, outcomes = shop
    closed = replace(outcomes, ends_us_N=np.minimum(outcomes.ends_us_N, outcomes.known_at_us))
    for _ in range(2):
        work = Groundwork.of(examples, labels, closed, kept=tmp_path)
        assert np.array_equal(work.labels.redeemed_N, labels.redeemed_N, equal_nan=True)
