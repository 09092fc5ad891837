"""What to expect of a shopper whom nobody knows: the take-up of each campaign type among all known users of the shop.

The users whom a shop targets are not like the others: they buy more. So the rate of targeted users is not a newcomer's.
It is poststratified instead (Little, "Post-stratification: a modeler's perspective", JASA, 1993): rates by type of
campaign and by how often users buy, each stratum weighted by its share of all known users. A rate of few pairs is
shrunk. An open pair counts with the probability that it still takes part, as in the fits of the rankers.

Shapes: N pairs · U users · K campaign types · S strata · C campaigns · J bins of a window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.periods import microseconds
from recommender.features.decisions import TIME
from recommender.features.source import Source
from recommender.matching.horizon import NEVER, Outcomes
from recommender.matching.timing import Timing, still_coming

NUM_STRATA = 5
"""Strata of users who bought, of equal size today. Those without a purchase are one more. Chosen by hand."""
SHOP_PRIOR_PAIRS = 50.0
"""A rate counts as if this many further pairs had the rate that it is shrunk to. Chosen by hand."""
SHOP_PRIOR_RATE = 0.1
"""The overall rate before any participation is known, worth `SHOP_PRIOR_PAIRS` pairs. Complete Journey's whole year has
0.12."""
LOWEST, HIGHEST = 1e-4, 0.99
"""Bounds of a rate. No shop knows that nobody or everybody takes part. By hand."""
ROUNDS = 15
"""Rounds of expectation and maximisation for open pairs, as many as the rankers' fits make at most."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Newcomers:
    """Take-up of campaigns by an average known user."""

    rate_C: NDArray[np.float32]
    """Probability of a participation at any time in the window."""
    behind_CJ: NDArray[np.float64]
    """Share of the participations that lies behind at the edges of a window's bins, see `Timing`."""


def newcomers(source: Source, pairs: pa.Table, baskets_N: Floats, baskets_U: Floats) -> Newcomers:
    """Learn what to expect of newcomers from what was known at `as_of`.

    Args:
        source: the tables.
        pairs: the targeted pairs, see `features.pairs`.
        baskets_N: baskets a month of each pair's user, as known at its decision. NaN for users without a purchase.
        baskets_U: the same for all known users, at `as_of`.
    """
    types_N = pairs["campaign_type"].to_pylist()
    outcomes = _outcomes(source, pairs)
    types = source.campaigns["campaign_type"].to_pylist()
    edges = _edges(baskets_U)
    weights_S = np.bincount(_strata(baskets_U, edges), minlength=NUM_STRATA + 1) / max(len(baskets_U), 1)
    names = sorted(set(types_N))
    place = {name: row for row, name in enumerate(names)}
    type_N = np.array([place[name] for name in types_N], dtype=np.int64)
    rates_KS, timing = _rates(types_N, type_N, len(names), _strata(baskets_N, edges), outcomes)
    # The last row is that of a type without a pair.
    rate_K = rates_KS @ weights_S
    return Newcomers(
        rate_C=np.array([rate_K[place.get(name, -1)] for name in types], dtype=np.float32),
        behind_CJ=timing.edges(types),
    )


def _outcomes(source: Source, pairs: pa.Table) -> Outcomes:
    """What was known at `as_of`, or at the end of the log if that is earlier."""
    times = {
        name: pairs[name].cast(TIME).cast(pa.int64()).fill_null(NEVER).to_numpy()
        for name in ("decided_at", "ends_at", "redeemed_at")
    }
    return Outcomes.known_before(
        microseconds(source.as_of),
        log_end_us=microseconds(source.tables.log_end),
        targeted_us_N=times["decided_at"],
        ends_us_N=times["ends_at"],
        redeemed_us_N=times["redeemed_at"],
    )


def _rates(
    types_N: Sequence[str], type_N: NDArray[np.int64], num_types: int, stratum_N: NDArray[np.int64], outcomes: Outcomes
) -> tuple[Floats, Timing]:
    """Rates by type and stratum, float64 [K + 1, S], the last row for a type without a pair, and the timing."""
    redeemed_N, open_N = outcomes.redeemed_N, outcomes.open_N
    expected_N = np.where(open_N, redeemed_N.mean(), redeemed_N).astype(np.float64)
    cell_N = type_N * (NUM_STRATA + 1) + stratum_N
    timing = Timing.fit(types_N, outcomes, expected_N)
    ones_N = np.ones(len(expected_N))
    for _ in range(ROUNDS):
        overall = (expected_N.sum() + SHOP_PRIOR_PAIRS * SHOP_PRIOR_RATE) / (len(expected_N) + SHOP_PRIOR_PAIRS)
        by_stratum_S = _shrunk(expected_N, stratum_N, np.full(NUM_STRATA + 1, overall))
        by_type_K = _shrunk(expected_N, type_N, np.full(num_types, overall))
        # Type and stratum act independently on the odds, until a cell's own pairs say otherwise.
        odds_KS = _odds(by_type_K)[:, None] * _odds(by_stratum_S) / _odds(overall)
        prior_KS = odds_KS / (1 + odds_KS)
        rates_KS = _shrunk(expected_N, cell_N, prior_KS.ravel()).reshape(num_types, -1)
        behind_N = timing.behind_N(types_N, outcomes.observed_N())
        coming_N = still_coming(rates_KS.ravel()[cell_N], behind_N, ones_N)
        expected_N = np.where(open_N, coming_N, redeemed_N)
        timing = Timing.fit(types_N, outcomes, expected_N)
    return np.concatenate([rates_KS, by_stratum_S[None]]), timing


def _shrunk(expected_N: Floats, cell_N: NDArray[np.int64], prior_S: Floats) -> Floats:
    counts = np.bincount(cell_N, minlength=len(prior_S))
    sums = np.bincount(cell_N, weights=expected_N, minlength=len(prior_S))
    return np.clip((sums + SHOP_PRIOR_PAIRS * prior_S) / (counts + SHOP_PRIOR_PAIRS), LOWEST, HIGHEST)


def _odds(rate: Floats | float) -> Floats:
    return np.asarray(rate / (1 - np.asarray(rate)))


def _edges(baskets_U: Floats) -> Floats:
    bought = baskets_U[np.isfinite(baskets_U) & (baskets_U > 0)]
    inner = np.linspace(0, 1, NUM_STRATA + 1)[1:-1]
    return np.asarray(np.quantile(bought, inner)) if len(bought) else np.zeros(NUM_STRATA - 1)


def _strata(baskets_U: Floats, edges: Floats) -> NDArray[np.int64]:
    """Stratum of each user: 0 without a purchase, then by baskets a month."""
    rate = np.nan_to_num(baskets_U)
    return np.where(rate > 0, 1 + np.searchsorted(edges, rate, side="right"), 0).astype(np.int64)
