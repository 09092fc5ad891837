"""What the outcome of a pair with an open window will be: its probability, instead of a zero.

A pair without a participation whose window is still open at a training boundary may take part later. Its label becomes
the probability of that, given none so far. This is the expectation step of a mixture cure model (Sy & Taylor,
"Estimation in a Cox proportional hazards cure model", Biometrics, 2000). Timing and a logistic regression on all
features are fitted in turn with it until the labels stay the same. Then every ranker learns from the same labels.

Shapes: N pairs.
"""

from dataclasses import replace

import numpy as np

from recommender.matching.examples import Examples, Labels
from recommender.matching.horizon import Outcomes
from recommender.models.campaign.labels import known_redemptions
from recommender.models.campaign.logistic import LogisticConfig, fit_logistic, sigmoid
from recommender.models.campaign.preprocessing import Preprocessing
from recommender.models.campaign.timing import Timing, still_coming

MAX_ROUNDS = 15
"""Most rounds of expectation and maximisation. On the default data the labels are settled after eight."""
SETTLED = 1e-3
"""The labels are settled when their mean changes by less than this share of itself. Far below what a fit can see."""


def expected_labels(examples: Examples, labels: Labels, outcomes: Outcomes) -> tuple[Labels, Timing]:
    """Replace the zero of each open pair by the probability that it still takes part.

    Labels without an open pair are returned as they are, so that a fit on closed windows alone does not change.

    Args:
        examples: The pairs of a fit.
        labels: Their labels as known at its boundary: 0 without a participation so far.
        outcomes: What was known at the boundary, for the same pairs.

    Returns:
        The labels, and the timing that was learnt with them.

    Raises:
        LabelError: No outcome is known, all known outcomes are the same, or a participation lies before its targeting.
    """
    known_N = known_redemptions(labels)
    types = examples.catalogue.campaign_types
    types_N = [types[row] for row in examples.campaigns_N.tolist()]
    open_N = outcomes.open_N & known_N
    redeemed_N = labels.redeemed_N.astype(np.float64)
    expected_N = np.where(open_N, redeemed_N[known_N].mean(), redeemed_N)
    timing = Timing.fit(types_N, outcomes, expected_N)
    if not open_N.any():
        return labels, timing
    config = LogisticConfig()
    preprocessing = Preprocessing.fit(examples.features_NF[known_N], clip=config.clip)
    z_NE = preprocessing(examples.features_NF)
    observed_N = outcomes.observed_N()
    for _ in range(MAX_ROUNDS):
        weights_E, bias = fit_logistic(z_NE[known_N], expected_N[known_N].astype(np.float32), strength=config.strength)
        p_N = sigmoid((z_NE * weights_E).sum(axis=1, dtype=np.float64) + bias).astype(np.float64)
        behind_N = timing.behind_N(types_N, observed_N)
        updated_N = np.where(open_N, still_coming(p_N, behind_N, np.ones_like(behind_N)), redeemed_N)
        change = abs(float(updated_N[open_N].mean() - expected_N[open_N].mean()))
        expected_N = updated_N
        timing = Timing.fit(types_N, outcomes, expected_N)
        if change < SETTLED * max(float(expected_N[open_N].mean()), SETTLED):
            break
    return replace(labels, redeemed_N=expected_N.astype(np.float32)), timing
