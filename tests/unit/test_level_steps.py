"""A level that changes for half of a log is noticed on a first run, and seasons are not."""

import numpy as np
import pytest

from recommender.datasets.checks.alone import _step

DAYS = 120


def levels(seed: int = 3) -> np.ndarray:
    """Logarithms of a mean amount: a season of a third, and noise."""
    noise = np.random.default_rng(seed).normal(0, 0.15, DAYS)
    return 3.0 + 0.3 * np.sin(np.arange(DAYS) / 19) + noise


@pytest.mark.parametrize("since", [20, 60, 100])
@pytest.mark.parametrize("factor", [100.0, 0.01, 1000.0])
def test_a_step_is_found_on_its_day_with_its_factor(since: int, factor: float) -> None:
    level_D = levels()
    level_D[since:] += np.log(factor)
    found = _step(level_D, np.ones(DAYS, dtype=bool))
    assert found is not None
    assert found[0] == since
    assert found[1] == pytest.approx(factor, rel=0.8)


def test_a_season_a_sale_and_a_short_log_are_no_step() -> None:
    known_D = np.ones(DAYS, dtype=bool)
    assert all(_step(levels(seed), known_D) is None for seed in range(20))
    sale = levels()
    sale[50:55] += np.log(100)
    assert _step(sale, known_D) is None
    assert _step(levels()[:10], known_D[:10]) is None
