"""Evaluates slices of a period: campaign types, portrait segments, and pairs with a window that was still open.

Shapes: N pairs.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recommender.evaluation.document import Estimate, SliceResult
from recommender.evaluation.intervals import Bootstrap, resample
from recommender.evaluation.judgement import Guardrails
from recommender.evaluation.metrics import ScoredPairs, lift
from recommender.evaluation.reliability import reliability

WINDOW = "window"
"""Axis of slices: was the campaign's window open when labels were read?"""
OPEN, CLOSED = "still open", "closed"
"""Its values."""
UNKNOWN = "not known"
"""Value of a slice of pairs without a value on the axis."""


def slices(
    rankers: Mapping[str, ScoredPairs],
    axes: Mapping[str, Sequence[str | None]],
    campaigns_N: NDArray[np.int64],
    *,
    challenger: str,
    champion: str,
    limits: Guardrails,
    bootstrap: Bootstrap,
) -> list[SliceResult]:
    """Compare challenger and champion on the pairs of each value of each axis.

    Slices smaller than `limits` demands are listed without AUC and gains.

    Args:
        rankers: name -> its scores of all pairs.
        axes: name of an axis -> the value of each pair, [N].
        campaigns_N: number of each pair's campaign.
        challenger: name of the challenger.
        champion: name of the champion.
        limits: sizes from which a slice is judged.
        bootstrap: how intervals are computed.
    """
    results = []
    for axis, values in axes.items():
        values_N = np.array([UNKNOWN if value in (None, "") else str(value) for value in values], dtype=object)
        for value in sorted(set(values_N.tolist())):
            of_N = values_N == value
            part = _slice(rankers, axis, value, of_N, challenger, champion, limits, bootstrap)
            results.append(part.model_copy(update={"num_campaigns": len(np.unique(campaigns_N[of_N]))}))
            if part.judged:
                both = {name: _part(rankers[name], of_N) for name in dict.fromkeys((challenger, champion))}
                found, difference = reliability(
                    both,
                    campaigns_N[of_N],
                    challenger=challenger,
                    champion=champion,
                    confidence=bootstrap.confidence,
                )
                figures = {"reliability": found, "expected_difference": difference}
                results[-1] = results[-1].model_copy(update=figures)
    return results


def _slice(
    rankers: Mapping[str, ScoredPairs],
    axis: str,
    value: str,
    mask_N: NDArray[np.bool_],
    challenger: str,
    champion: str,
    limits: Guardrails,
    bootstrap: Bootstrap,
) -> SliceResult:
    both = {name: _part(rankers[name], mask_N) for name in dict.fromkeys((challenger, champion))}
    redeemed = both[champion].redeemed_N
    positives = int(redeemed.sum())
    judged = len(redeemed) >= limits.min_slice_pairs and (
        min(positives, len(redeemed) - positives) >= limits.min_slice_positives
    )
    resampled = resample(both, bootstrap, ("auc", "log_loss")) if judged else None
    lifts = {name: float(lift(part, part.ones)[0]) for name, part in both.items()}
    return SliceResult(
        axis=axis,
        value=value,
        num_pairs=len(redeemed),
        num_positives=positives,
        judged=judged,
        auc={name: Estimate.of(resampled.estimate(name, "auc")) for name in both} if resampled else {},
        auc_gain=Estimate.of(resampled.gain(challenger, champion, "auc")) if resampled else None,
        log_loss_gain=Estimate.of(resampled.gain(challenger, champion, "log_loss")) if resampled else None,
        mean_score={name: float(part.score_N.mean()) for name, part in both.items()},
        lift={name: value if np.isfinite(value) else None for name, value in lifts.items()},
    )


def _part(pairs: ScoredPairs, mask_N: NDArray[np.bool_]) -> ScoredPairs:
    return ScoredPairs(pairs.redeemed_N[mask_N], pairs.score_N[mask_N], pairs.users_N[mask_N])
