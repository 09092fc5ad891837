"""Parts of a period: campaign types, portrait segments, and pairs that were still open when the labels were read.

Shapes: N pairs.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recommender.evaluation.document import Estimate, SliceResult
from recommender.evaluation.intervals import Bootstrap, resample
from recommender.evaluation.judgement import Guardrails
from recommender.evaluation.metrics import Judged, lift

WINDOW = "window"
OPEN, CLOSED = "still open", "closed"
"""When the labels were read."""
UNKNOWN = "not known"


def slices(
    rankers: Mapping[str, Judged],
    axes: Mapping[str, Sequence[str | None]],
    *,
    challenger: str,
    champion: str,
    limits: Guardrails,
    bootstrap: Bootstrap,
) -> list[SliceResult]:
    """Challenger and champion on each value of each axis (N values an axis), on the same pairs.

    Slices below the judgement's sizes are listed with their counts only.
    """
    found = []
    for axis, values in axes.items():
        values_N = np.array([UNKNOWN if value in (None, "") else str(value) for value in values], dtype=object)
        for value in sorted(set(values_N.tolist())):
            found.append(_slice(rankers, axis, value, values_N == value, challenger, champion, limits, bootstrap))
    return found


def _slice(
    rankers: Mapping[str, Judged],
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
    drawn = resample(both, bootstrap, ("auc", "log_loss")) if judged else None
    lifts = {name: float(lift(part, part.ones)[0]) for name, part in both.items()}
    return SliceResult(
        axis=axis,
        value=value,
        num_pairs=len(redeemed),
        num_positives=positives,
        judged=judged,
        auc={name: Estimate.of(drawn.estimate(name, "auc")) for name in both} if drawn else {},
        auc_gain=Estimate.of(drawn.gain(challenger, champion, "auc")) if drawn else None,
        log_loss_gain=Estimate.of(drawn.gain(challenger, champion, "log_loss")) if drawn else None,
        mean_score={name: float(part.score_N.mean()) for name, part in both.items()},
        lift={name: value if np.isfinite(value) else None for name, value in lifts.items()},
    )


def _part(judged: Judged, mask_N: NDArray[np.bool_]) -> Judged:
    return Judged(judged.redeemed_N[mask_N], judged.score_N[mask_N], judged.users_N[mask_N])
