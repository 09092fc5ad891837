"""Judges forecasts of behaviour: order by AUC, calibration by ECE, log loss, and observed over expected.

Users stand at several cutoffs. Intervals draw users with their rows of all cutoffs.

Shapes: N rows of users at cutoffs · R resamples · r resamples of a chunk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from recommender.evaluation.document import Estimate
from recommender.evaluation.intervals import Bootstrap, resample
from recommender.evaluation.metrics import METRICS, Floats, ScoredPairs, auc, ece_floor

FIGURES = {"auc": "AUC", "log_loss": "log loss", "ece": "ECE", "observed_over_expected": "observed / expected"}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ForecastFigures(_Part):
    """One forecast of one outcome."""

    metrics: dict[str, Estimate]
    """auc: within each cutoff, averaged over the cutoffs. log_loss, ece, observed_over_expected: over all rows."""
    ece_floor: float
    """Calibration error that a perfectly calibrated forecast has by chance."""


class AtCutoff(_Part):
    """What happened at one cutoff, and the figures there."""

    cutoff: datetime
    num_users: int
    num_learnt_from: int
    """Rows of users at earlier cutoffs."""
    share: float
    """Of the users who did it."""
    forecasts: dict[str, dict[str, float | None]]
    """Forecast -> the same metrics, without intervals."""


class Task(_Part):
    """One outcome over one number of days: "buys in the next 7 days"."""

    outcome: str
    days: int
    num_rows: int
    num_users: int
    share: float
    cutoffs: list[AtCutoff]
    forecasts: dict[str, ForecastFigures]
    gains: dict[str, dict[str, Estimate]]
    """Forecast -> auc and log_loss gained over the best baseline by log loss, on the same draws; more is better."""
    best_baseline: str


class LeftOut(_Part):
    """A task that cannot be judged, and why."""

    outcome: str
    days: int
    reason: str


@dataclass(frozen=True, eq=False)
class JudgedCutoff:
    """The forecasts of one outcome at one cutoff, for N users."""

    cutoff: datetime
    user_ids: tuple[str, ...]
    num_learnt_from: int
    happened_N: Floats
    forecasts: Mapping[str, Floats]


def judge(
    outcome: str, days: int, parts: Sequence[JudgedCutoff], baselines: Sequence[str], bootstrap: Bootstrap
) -> Task:
    """Compute all figures of one task.

    Args:
        outcome: its name.
        days: length of the window.
        parts: the judged cutoffs, with the same forecasts each.
        baselines: names of the forecasts without features.
        bootstrap: draws the users.
    """
    ids = np.concatenate([np.array(part.user_ids, dtype=object) for part in parts])
    users_N = np.unique(ids, return_inverse=True)[1].astype(np.int64)
    happened_N = np.concatenate([part.happened_N for part in parts])
    cutoffs_N = np.repeat(np.arange(len(parts)), [len(part.user_ids) for part in parts])
    scored = {
        name: ScoredPairs(happened_N, np.concatenate([part.forecasts[name] for part in parts]), users_N)
        for name in parts[0].forecasts
    }
    resampled = resample(scored, bootstrap, ("log_loss", "ece"))
    own = _auc_and_ratio(scored, cutoffs_N, bootstrap)
    best = min(baselines, key=lambda name: resampled.point[name]["log_loss"])
    gains = {}
    for name in scored:
        if name != best:
            (value, drawn_R), (other, other_R) = own[name]["auc"], own[best]["auc"]
            gains[name] = {
                "auc": Estimate.drawn(value - other, drawn_R - other_R, bootstrap),
                "log_loss": Estimate.of(resampled.gain(name, best, "log_loss")),
            }
    return Task(
        outcome=outcome,
        days=days,
        num_rows=len(happened_N),
        num_users=len(np.unique(users_N)),
        share=float(happened_N.mean()),
        cutoffs=[_at(part) for part in parts],
        forecasts={
            name: ForecastFigures(
                metrics={
                    "auc": Estimate.drawn(*own[name]["auc"], bootstrap),
                    "log_loss": Estimate.of(resampled.estimate(name, "log_loss")),
                    "ece": Estimate.of(resampled.estimate(name, "ece")),
                    "observed_over_expected": Estimate.drawn(*own[name]["ratio"], bootstrap),
                },
                ece_floor=ece_floor(of),
            )
            for name, of in scored.items()
        },
        gains=gains,
        best_baseline=best,
    )


def _auc_and_ratio(
    scored: Mapping[str, ScoredPairs], cutoffs_N: NDArray[np.int64], bootstrap: Bootstrap
) -> dict[str, dict[str, tuple[float, Floats]]]:
    """Each forecast's mean AUC within cutoffs, and observed over expected: value and resamples [R]."""
    first = next(iter(scored.values()))
    members = [np.flatnonzero(cutoffs_N == place) for place in range(int(cutoffs_N.max()) + 1)]
    parts = {
        name: [ScoredPairs(of.redeemed_N[rows], of.score_N[rows], of.users_N[rows]) for rows in members]
        for name, of in scored.items()
    }

    def both(name: str, weights_RN: Floats) -> tuple[Floats, Floats]:
        of = scored[name]
        within = [auc(part, weights_RN[:, rows]) for part, rows in zip(parts[name], members, strict=True)]
        return np.mean(within, axis=0), (weights_RN @ of.redeemed_N) / (weights_RN @ of.score_N)

    point = {name: both(name, first.ones) for name in scored}
    drawn: dict[str, list[tuple[Floats, Floats]]] = {name: [] for name in scored}
    for weights_rN in bootstrap.weights(first.users_N):
        for name in scored:
            drawn[name].append(both(name, weights_rN))
    return {
        name: {
            figure: (float(point[name][k][0]), np.concatenate([part[k] for part in drawn[name]]))
            for k, figure in enumerate(("auc", "ratio"))
        }
        for name in scored
    }


def _at(part: JudgedCutoff) -> AtCutoff:
    figures: dict[str, dict[str, float | None]] = {}
    for name, p_N in part.forecasts.items():
        scored = ScoredPairs(part.happened_N, p_N, np.arange(len(p_N)))
        values = {metric: METRICS[metric].compute(scored, scored.ones)[0] for metric in ("auc", "log_loss", "ece")}
        values["observed_over_expected"] = part.happened_N.sum() / p_N.sum()
        figures[name] = {metric: float(value) if np.isfinite(value) else None for metric, value in values.items()}
    return AtCutoff(
        cutoff=part.cutoff,
        num_users=len(part.user_ids),
        num_learnt_from=part.num_learnt_from,
        share=float(part.happened_N.mean()),
        forecasts=figures,
    )
