"""A calibration step on held-out campaigns: corrects a ranker's probabilities where that truly helps.

A calibrator is fitted on predictions for campaigns that the predicting fit never saw (`held_out`). Candidates, from the
simplest to the richest: none · an intercept · Platt's slope and intercept in log-odds (Platt, 1999) · beta calibration
(Kull, Silva Filho & Flach, AISTATS 2017). All are increasing, so no user's order of campaigns of one window changes.

Candidates are judged by the log loss of campaigns that were left out of the calibrator's own fit, one at a time. A
richer candidate replaces a simpler one only if its gain exceeds one standard error over campaigns (the rule of
Breiman, Friedman, Olshen & Stone, Classification and Regression Trees, 1984). So the answer is "none" unless the ranker
errs in the same way in most campaigns: whole campaigns differ by chance, and a calibrator that follows the past ones is
wrong about the next.

Shapes: P held-out pairs · N pairs.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from recommender.models.campaign.held_out import HeldOut
from recommender.models.campaign.ranker import HIGHEST_PROBABILITY, LOWEST_PROBABILITY

Floats = NDArray[np.float64]
Name = Literal["none", "intercept", "platt", "beta"]

PRIOR_SCALE = 0.5
"""Standard deviation of the normal prior of the intercept and of the logarithm of each slope, around no change. By
hand: two thirds of rankers then err by less than a factor of 1.65 in odds or slope."""
MIN_CAMPAIGNS = 4
"""Held-out campaigns below which nothing is fitted: the standard error over fewer campaigns says little. By hand."""
MIN_PARTICIPATIONS = 30
"""The same for participations, as many as the gate asks for."""
MIN_PARTICIPATIONS_OF_BETA = 100
"""Beta calibration has three parameters. By hand: about thirty participations for each."""


class Candidate(BaseModel):
    """A calibrator that was tried: calibrated log-odds are `a` log p - `b` log(1 - p) + `c`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    a: float = Field(gt=0)
    b: float = Field(gt=0)
    c: float
    """Fitted on all held-out campaigns."""
    log_loss: float
    """Mean over the pairs, each predicted by a calibrator that was fitted without the pair's campaign."""
    gain: float
    """Log loss without a calibrator minus this one's."""
    standard_error: float
    """Of the gain, over campaigns."""


class Calibrator(BaseModel):
    """The chosen candidate, and how it was chosen. A bundle holds it as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    chosen: Name = "none"
    num_campaigns: int = 0
    """Held-out campaigns by which it was chosen."""
    num_pairs: int = 0
    num_participations: int = 0
    candidates: dict[Name, Candidate] = {}
    """Every candidate that was tried, "none" among them. Empty if nothing was tried."""
    note: str = ""
    """Why nothing was tried."""

    @model_validator(mode="after")
    def _chosen_is_a_candidate(self) -> Self:
        if self.chosen != "none" and self.chosen not in self.candidates:
            raise ValueError(f"candidates must hold the chosen {self.chosen!r} (got {sorted(self.candidates)})")
        return self

    @property
    def is_none(self) -> bool:
        """Whether probabilities stay as they are."""
        return self.chosen == "none"

    def __call__(self, p_N: Floats) -> Floats:
        """Calibrate N probabilities."""
        if self.is_none:
            return p_N
        p_N = np.clip(p_N, LOWEST_PROBABILITY, HIGHEST_PROBABILITY)
        return np.clip(_sigmoid(_log_odds(p_N, self._parameters)), LOWEST_PROBABILITY, HIGHEST_PROBABILITY)

    def slope_N(self, p_N: Floats) -> Floats:
        """By how much calibrated log-odds rise for each unit of the ranker's own, at N probabilities."""
        a, b, _ = self._parameters
        return a * (1 - p_N) + b * p_N

    @property
    def _parameters(self) -> "_Parameters":
        chosen = self.candidates.get(self.chosen)
        return _SAME if chosen is None else (chosen.a, chosen.b, chosen.c)

    @classmethod
    def choose(cls, held_out: HeldOut) -> Self:
        """Choose among the candidates by held-out campaigns. "none" where they are too few."""
        campaigns, rows_P = np.unique(held_out.campaigns_P, return_inverse=True)
        sizes = {
            "num_campaigns": len(campaigns),
            "num_pairs": len(rows_P),
            "num_participations": int(held_out.redeemed_P.sum()),
        }
        if len(campaigns) < MIN_CAMPAIGNS or sizes["num_participations"] < MIN_PARTICIPATIONS:
            needed = f"{MIN_CAMPAIGNS} campaigns and {MIN_PARTICIPATIONS} participations are needed"
            return cls.model_validate({**sizes, "note": held_out.note or f"too few held out: {needed}"})
        losses: dict[Name, Floats] = {"none": held_out.losses_P(held_out.p_P)}
        best: Name = "none"
        for name in _FREE:
            if name == "beta" and sizes["num_participations"] < MIN_PARTICIPATIONS_OF_BETA:
                continue
            losses[name] = _left_out(name, held_out, rows_P)
            gain, error = _gain(losses[best] - losses[name], rows_P)
            if gain > error:
                best = name
        candidates = {}
        for name, loss_P in losses.items():
            a, b, c = _SAME if name == "none" else _fit(name, held_out)
            gain, error = _gain(losses["none"] - loss_P, rows_P)
            candidates[name] = Candidate(a=a, b=b, c=c, log_loss=float(loss_P.mean()), gain=gain, standard_error=error)
        return cls.model_validate({"chosen": best, **sizes, "candidates": candidates})

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """Restore it from a bundle's configuration. A bundle without one has "none"."""
        return cls.model_validate(config.get(KEY, {}))


KEY = "calibration"
"""Entry of a bundle's configuration."""
_Parameters = tuple[float, float, float]
_SAME: _Parameters = (1.0, 1.0, 0.0)
_FREE: Mapping[Name, Callable[[Floats], _Parameters]] = {
    "intercept": lambda free: (1.0, 1.0, float(free[0])),
    "platt": lambda free: (float(np.exp(free[1])), float(np.exp(free[1])), float(free[0])),
    "beta": lambda free: (float(np.exp(free[1])), float(np.exp(free[2])), float(free[0])),
}
"""Free parameters of each candidate -> a, b, c."""
_NUM_FREE: Mapping[Name, int] = {"intercept": 1, "platt": 2, "beta": 3}


def _log_odds(p_N: Floats, parameters: _Parameters) -> Floats:
    a, b, c = parameters
    return np.asarray(a * np.log(p_N) - b * np.log1p(-p_N) + c)


def _sigmoid(log_odds_N: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-log_odds_N)))


def _fit(name: Name, held_out: HeldOut) -> _Parameters:
    """Parameters at the maximum of the posterior."""
    from scipy.optimize import minimize

    def cost(free: Floats) -> float:
        loss_P = held_out.losses_P(_sigmoid(_log_odds(held_out.p_P, _FREE[name](free))))
        return float(loss_P.sum() + 0.5 * ((free / PRIOR_SCALE) ** 2).sum())

    return _FREE[name](minimize(cost, np.zeros(_NUM_FREE[name]), method="BFGS").x)


def _left_out(name: Name, held_out: HeldOut, rows_P: NDArray[np.int64]) -> Floats:
    """Log loss of each pair under a calibrator that was fitted without the pair's campaign, float64 [P]."""
    p_P = held_out.p_P.copy()
    for row in range(int(rows_P.max()) + 1):
        of_P = rows_P == row
        p_P[of_P] = _sigmoid(_log_odds(held_out.p_P[of_P], _fit(name, held_out.take(~of_P))))
    return held_out.losses_P(p_P)


def _gain(gain_P: Floats, rows_P: NDArray[np.int64]) -> tuple[float, float]:
    """Mean gain over the pairs, and its standard error with campaigns as clusters."""
    mean, campaigns = float(gain_P.mean()), int(rows_P.max()) + 1
    sums_C = np.bincount(rows_P, weights=gain_P - mean, minlength=campaigns)
    return mean, float(np.sqrt((sums_C**2).sum() * campaigns / (campaigns - 1)) / len(gain_P))
