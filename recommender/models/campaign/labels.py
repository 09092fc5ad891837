"""Checks of the labels that a fit makes before it starts."""

import numpy as np
from numpy.typing import NDArray

from recommender.errors import LabelError
from recommender.matching.examples import Labels


def known_redemptions(labels: Labels) -> NDArray[np.bool_]:
    """Which of N pairs have a known outcome, after checking that both outcomes are among them.

    Raises:
        LabelError: No outcome is known, or all known outcomes are the same.
    """
    known_N = np.isfinite(labels.redeemed_N)
    num_known = int(known_N.sum())
    num_redeemed = int(labels.redeemed_N[known_N].sum())
    if num_known == 0:
        raise LabelError(
            f"redeemed: none of {len(known_N)} pairs has a known outcome. Move the boundary later or check `targets`."
        )
    if num_redeemed in (0, num_known):
        raise LabelError(
            f"redeemed: all {num_known} known pairs have the outcome {int(num_redeemed > 0)}, but a ranker needs both. "
            "Move the boundary later, or check that `participations` names the campaigns of `targets`."
        )
    return known_N
