"""Validation of the horizon on two rolling origins before the final test. Needs the training set of a run.

A fit at each origin is judged on the campaigns that start until the next one, with the participations known then:
fit 05-01 judged to 08-01, and fit 08-01 judged to 10-01. `whole window` is what rankers did before they had a horizon:
an open pair is a zero in the fit, and a score ignores the reading date. Gains are paired, with intervals over users.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from benchmarks.decision.rows import Row
from recommender.datasets.periods import microseconds
from recommender.engine.context import FitContext
from recommender.evaluation.intervals import Bootstrap, resample
from recommender.evaluation.metrics import METRICS, ScoredPairs
from recommender.features.training_set import TrainingSet
from recommender.matching.examples import Examples
from recommender.matching.timing import BINS, Timing
from recommender.models.campaign import ranker_class
from recommender.models.campaign.horizon_ranker import HorizonRanker
from recommender.models.campaign.ranker import Ranker
from recommender.settings import load_settings
from recommender.storage.home import Home
from recommender.storage.published import published_training_set
from recommender.training.train import fit_at

SEED = 17
RANKERS = ("logistic", "lightgbm", "transformer")
"""Rankers that may be chosen. The rules without a model are far behind (AUC .61 to .73)."""
SHOWN = ("auc", "ap", "log_loss")
GOALS: Mapping[str, Mapping[str, float]] = {
    "05-01 to 08-01": {"auc": 0.826, "ap": 0.440, "log_loss": 0.2836},
    "08-01 to 10-01": {"auc": 0.831, "ap": 0.535, "log_loss": 0.3274},
}
"""What a trial outside the product had reached with two feature sets."""


@dataclass(frozen=True, eq=False)
class Origin:
    """A moment at which rankers are fitted, and the pairs that judge them, read at the end."""

    name: str
    fitted_at: datetime
    read_at: datetime
    mask_N: NDArray[np.bool_]
    redeemed_P: NDArray[np.float64]
    users_P: NDArray[np.int64]
    closed_P: NDArray[np.bool_]


def origins(data: TrainingSet) -> list[Origin]:
    """The two origins of the validation."""
    zone = ZoneInfo(data.time_zone)
    moments = [datetime(2017, month, 1, tzinfo=zone) for month in (5, 8, 10)]
    return [origin(data, name, *pair) for name, pair in zip(GOALS, pairwise(moments), strict=True)]


def origin(data: TrainingSet, name: str, fitted_at: datetime, read_at: datetime) -> Origin:
    """An origin whose campaigns start from one moment until another, at which their participations are read."""
    starts_N, low, high = data.times_us("starts_at"), microseconds(fitted_at), microseconds(read_at)
    mask_N = data.decided_in(fitted_at, read_at) & (starts_N >= low) & (starts_N < high)
    users = np.array(data.pairs["user_id"].to_pylist(), dtype=object)[mask_N]
    return Origin(
        name,
        fitted_at,
        read_at,
        mask_N,
        data.labels_at(read_at, mask_N).redeemed_N.astype(np.float64),
        np.unique(users, return_inverse=True)[1].astype(np.int64),
        data.times_us("ends_at")[mask_N] <= high,
    )


def whole_window(data: TrainingSet, at: Origin, ranker: str) -> Ranker[Any]:
    """Fit a ranker as it was without a horizon."""
    cls, mask_N = ranker_class(ranker), data.decided_in(None, at.fitted_at)
    return cls.fit(
        data.examples(mask_N),
        data.labels_at(at.fitted_at, mask_N),
        corpus=data.corpus(at.fitted_at),
        config=cls.Config(),
        context=FitContext(seed=SEED),
    )


def judged(
    at: Origin, scores: Mapping[str, NDArray[np.float32]], rows: NDArray[np.bool_] | None = None
) -> dict[str, ScoredPairs]:
    """The scores of several rankers as scored pairs, of all pairs or some."""
    kept = np.ones(len(at.redeemed_P), dtype=bool) if rows is None else rows
    return {
        name: ScoredPairs(at.redeemed_P[kept], score_P[kept].astype(np.float64), at.users_P[kept])
        for name, score_P in scores.items()
    }


def value(scored: ScoredPairs, metric: str) -> float:
    """A metric over all pairs."""
    return float(METRICS[metric].compute(scored, scored.ones)[0])


def rows(say: Callable[[str], None]) -> list[Row]:
    """Measure every ranker on both origins, with and without a horizon, and the ways to learn the timing."""
    settings = load_settings(Path("recommender.toml"))
    data = TrainingSet.open(published_training_set(Home.of(settings)))
    measured: dict[str, list[float]] = {name: [] for name in RANKERS}
    made: list[Row] = []
    by_ranker: dict[tuple[str, str], list[Row]] = {}
    for at in origins(data):
        examples = data.examples(at.mask_N).read_at(microseconds(at.read_at))
        for ranker in RANKERS:
            say(f"{at.name}: {ranker}")
            fitted = fit_at(
                ranker_class(ranker), data, at.fitted_at, ranker_class(ranker).Config(), FitContext(seed=SEED)
            )
            scores = {
                "horizon": fitted.score(examples).redeem_N,
                "whole window": whole_window(data, at, ranker).score(examples).redeem_N,
            }
            measured[ranker].append(value(judged(at, scores)["horizon"], "log_loss"))
            by_ranker[at.name, ranker] = quality(at, ranker, scores)
            if ranker == "logistic":
                made += _timings(data, at, fitted, examples)
    chosen = min(RANKERS, key=lambda name: float(np.mean(measured[name])))
    for (name, ranker), found in by_ranker.items():
        made += [with_goal(row, GOALS[name]) for row in found] if ranker == chosen else found
    facts = {ranker: round(float(np.mean(losses)), 4) for ranker, losses in measured.items()}
    made.append(
        Row(name="horizon: ranker chosen by validation, mean log loss", value=facts[chosen], goal="", facts=facts)
    )
    return made


def quality(at: Origin, ranker: str, scores: Mapping[str, NDArray[np.float32]]) -> list[Row]:
    """Figures of all pairs and of closed windows, with the figures of the whole window and the paired gain beside."""
    made = []
    for part, kept in (("all pairs", None), ("closed windows", at.closed_P)):
        scored = judged(at, scores, kept)
        resampled = resample(scored, Bootstrap(seed=SEED), SHOWN)
        for metric in SHOWN:
            gain = resampled.gain("horizon", "whole window", metric)
            made.append(
                Row(
                    name=f"horizon: {at.name}, {ranker}, {part}, {metric}",
                    value=round(value(scored["horizon"], metric), 4),
                    goal="",
                    facts={
                        "whole window": round(value(scored["whole window"], metric), 4),
                        "gain": [round(number, 4) for number in (gain.value, gain.low, gain.high)],
                        "pairs": len(scored["horizon"].redeemed_N),
                        "participations": int(scored["horizon"].redeemed_N.sum()),
                    },
                )
            )
    return made


def with_goal(row: Row, goals: Mapping[str, float]) -> Row:
    """The row with its goal, where it has one: those of all pairs."""
    metric = row.name.rsplit(", ", 1)[1]
    if "all pairs" not in row.name:
        return row
    facts = {**row.facts, "chosen": True}
    make = Row.at_most if metric == "log_loss" else Row.at_least
    return make(row.name, row.value, goals[metric], **facts)


def _timings(data: TrainingSet, at: Origin, fitted: HorizonRanker, examples: Examples) -> list[Row]:
    """How well timings by type, of all types together, and spread evenly foretell when the origin's users take part."""
    timing = fitted.timing
    ways = {
        "by type": timing,
        "all types together": Timing((), timing.shares_KJ[:0], timing.shop_J, {}),
        "even spread": Timing.prior(),
    }
    rankers = {way: HorizonRanker(fitted.inside, of) for way, of in ways.items()}
    scored = judged(at, {way: ranker.score(examples).redeem_N for way, ranker in rankers.items()})
    gains = {way: round(_log_likelihood(data, at, of), 4) for way, of in ways.items()}
    losses = {way: round(value(of, "log_loss"), 5) for way, of in scored.items()}
    return [
        Row(
            name=f"horizon: {at.name}, timing by type, log-likelihood of a participation's time over an even spread",
            value=gains["by type"],
            goal="",
            facts={"log_likelihood": gains, "log_loss": losses},
        )
    ]


def _log_likelihood(data: TrainingSet, at: Origin, timing: Timing) -> float:
    """Mean log density of the known participations' times, given that they happened before the reading."""
    outcomes = data.outcomes_at(at.read_at, at.mask_N)
    took_up_P = outcomes.redeemed_N
    kinds = np.array(data.pairs["campaign_type"].to_pylist(), dtype=object)[at.mask_N][took_up_P].tolist()
    place_R = np.minimum((outcomes.redeemed_share_N()[took_up_P] * BINS).astype(np.int64), BINS - 1)
    reached_R = outcomes.observed_N()[took_up_P]
    mass_R = timing.behind_N(kinds, (place_R + 1) / BINS) - timing.behind_N(kinds, place_R / BINS)
    # An even spread has the mass 1 / BINS in each bin, and `reached_R` in all that was observed.
    return float(np.log(mass_R * BINS * reached_R / timing.behind_N(kinds, reached_R)).mean())
