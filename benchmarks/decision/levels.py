"""Expected take-up of each campaign from May to September, forecast where it begins. Needs the training set of a run.

Compared are the forecast of the logistic ranker, and the rate of the campaign's type with the spread of its own errors.
Observed are the participations to the end of each window. Nothing of the final test is read.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from benchmarks.decision.horizon import SEED
from benchmarks.decision.rows import Row
from recommender.datasets.periods import NEVER, from_microseconds, microseconds
from recommender.engine.context import FitContext
from recommender.features.training_set import TrainingSet
from recommender.models.campaign import ranker_class
from recommender.models.campaign.levels import CONFIDENCE, MIN_EXPECTED, Levels, TakeUp
from recommender.models.campaign.popularity import PRIOR_PAIRS, TypeRates
from recommender.settings import load_settings
from recommender.storage.home import Home
from recommender.storage.published import published_training_set
from recommender.training.train import fit_at

MIN_INSIDE = 7
"""Of eight campaigns: a 90 % interval covers that many or more with probability 0.81."""


def rows(say: Callable[[str], None]) -> list[Row]:
    """Forecast each campaign by the ranker and by its type's rate, and count what lies inside the intervals."""
    data = TrainingSet.open(published_training_set(Home.of(load_settings(Path("recommender.toml")))))
    zone = ZoneInfo(data.time_zone)
    first, last = (microseconds(datetime(2017, month, 1, tzinfo=zone)) for month in (5, 10))
    begins = {row: us for row, us in _begins(data).items() if first <= us < last}
    by_ranker: dict[str, TakeUp] = {}
    by_type: dict[str, TakeUp] = {}
    observed: dict[str, int] = {}
    logistic = ranker_class("logistic")
    for row, begin_us in begins.items():
        name, of_N = data.catalogue.campaign_ids[row], data.all.campaigns_N == row
        observed[name] = int((data.times_us("redeemed_at")[of_N] < NEVER).sum())
        fitted = fit_at(logistic, data, from_microseconds(begin_us), logistic.Config(), FitContext(seed=SEED))
        by_ranker[name] = fitted.take_up(fitted.score(data.examples(of_N)).redeem_N)
        rate = _type_rate(data, begin_us, row)
        by_type[name] = _type_levels(data, begin_us).take_up(np.full(int(of_N.sum()), rate))
        say(f"campaign {name}: {observed[name]} observed, {_words(by_ranker[name])}; by type {_words(by_type[name])}")
    widths = {way: _median_width(of) for way, of in (("ranker", by_ranker), ("type rate", by_type))}
    facts = {
        name: {"observed": observed[name], "ranker": _listed(by_ranker[name]), "type rate": _listed(by_type[name])}
        for name in observed
    }
    inside = sum(by_ranker[name].low <= count <= by_ranker[name].high for name, count in observed.items())
    kind = f"{CONFIDENCE:.0%} interval"
    return [
        Row.at_least(f"take-up: campaigns inside the {kind}", inside, MIN_INSIDE, of=len(observed), campaigns=facts),
        Row.at_most(
            f"take-up: median width of the {kind}, share of the targeted users",
            round(widths["ranker"], 4),
            round(widths["type rate"], 4),
            against="the width by the type's rate",
        ),
    ]


def _begins(data: TrainingSet) -> dict[int, int]:
    """Row of each campaign -> its first targeting, in order of time."""
    decided_N, campaigns_N = data.times_us("decided_at"), data.all.campaigns_N
    first = {int(row): int(decided_N[campaigns_N == row].min()) for row in np.unique(campaigns_N)}
    return dict(sorted(first.items(), key=lambda item: item[1]))


def _type_rate(data: TrainingSet, moment_us: int, row: int) -> float:
    """The shrunk past rate of a campaign's type as known at a moment."""
    before_N = data.times_us("decided_at") < moment_us
    types = np.array(data.catalogue.campaign_types, dtype=object)[data.all.campaigns_N]
    redeemed_N = (data.times_us("redeemed_at") < moment_us).astype(np.float32)
    rates = TypeRates.count(types[before_N].tolist(), redeemed_N[before_N], prior_pairs=PRIOR_PAIRS)
    one = data.examples(_first(data.all.campaigns_N == row))
    return float(rates(one)[0])


def _type_levels(data: TrainingSet, moment_us: int) -> Levels:
    """The spread of past campaigns around the rate of their type, each as known where it began."""
    differences, variances = [], []
    for row, begin_us in _begins(data).items():
        of_N = data.all.campaigns_N == row
        before = data.times_us("redeemed_at")[data.times_us("decided_at") < begin_us] < begin_us
        if begin_us >= moment_us or not before.any():
            continue
        num = int(of_N.sum())
        expected, seen = num * _type_rate(data, begin_us, row), (data.times_us("redeemed_at")[of_N] < moment_us).sum()
        if expected >= MIN_EXPECTED:
            logits = [np.log((count + 0.5) / (num - count + 0.5)) for count in (seen, expected)]
            differences.append(logits[0] - logits[1])
            variances.append(num / (expected * (num - expected)))
    return Levels.of(np.array(differences), np.array(variances))


def _first(mask_N: NDArray[np.bool_]) -> NDArray[np.bool_]:
    only_N = np.zeros_like(mask_N)
    only_N[np.argmax(mask_N)] = True
    return only_N


def _median_width(forecasts: dict[str, TakeUp]) -> float:
    return float(np.median([(of.high - of.low) / of.num_users for of in forecasts.values()]))


def _listed(of: TakeUp) -> list[float]:
    return [of.num_users, round(of.expected, 1), of.low, of.high]


def _words(of: TakeUp) -> str:
    return f"{of.expected:.1f} expected of {of.num_users}, {of.low} to {of.high}"
