"""What the outcome of a pair with an open window will be: its probability, instead of a zero.

A pair without a participation whose window is still open at a training boundary may take part later. Its label becomes
the probability of that, given none so far. This is the expectation step of a mixture cure model (Sy & Taylor,
"Estimation in a Cox proportional hazards cure model", Biometrics, 2000). Timing and a logistic regression on all
features are fitted in turn with it until the labels stay the same. Then every ranker learns from the same labels.

Shapes: N pairs · P pairs whose outcome is known so far · E inputs of the regression.
"""

from dataclasses import replace

import numpy as np

from recommender.matching.examples import Examples, Labels
from recommender.matching.horizon import Outcomes
from recommender.matching.timing import Timing, still_coming
from recommender.models.campaign.labels import known_redemptions
from recommender.models.campaign.logistic import LogisticConfig, fit_logistic, sigmoid
from recommender.models.campaign.preprocessing import Preprocessing

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
    types_P = [types[row] for row in examples.campaigns_N[known_N].tolist()]
    known = outcomes.take(known_N)
    redeemed_P = labels.redeemed_N[known_N].astype(np.float64)
    open_P = known.open_N & (redeemed_P == 0)
    expected_P = np.where(open_P, redeemed_P.mean(), redeemed_P)
    timing = Timing.fit(types_P, known, expected_P)
    if not open_P.any():
        return labels, timing
    config = LogisticConfig()
    preprocessing = Preprocessing.fit(examples.features_NF[known_N], clip=config.clip)
    z_PE = preprocessing(examples.features_NF[known_N])
    observed_P = known.observed_N()
    for _ in range(MAX_ROUNDS):
        weights_E, bias = fit_logistic(z_PE, expected_P.astype(np.float32), strength=config.strength)
        p_P = sigmoid((z_PE * weights_E).sum(axis=1, dtype=np.float64) + bias).astype(np.float64)
        behind_P = timing.behind_N(types_P, observed_P)
        updated_P = np.where(open_P, still_coming(p_P, behind_P, np.ones_like(behind_P)), redeemed_P)
        change = abs(float(updated_P[open_P].mean() - expected_P[open_P].mean()))
        expected_P = updated_P
        timing = Timing.fit(types_P, known, expected_P)
        if change < SETTLED * max(float(expected_P[open_P].mean()), SETTLED):
            break
    expected_N = labels.redeemed_N.copy()
    expected_N[known_N] = expected_P
    return replace(labels, redeemed_N=expected_N), timing
