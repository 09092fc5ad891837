"""Expected against observed take-up of challenger and champion in one slice of the pairs, and who is further off.

A ranker is reliable in a slice if as many participate as its scores add up to. Whole campaigns lie above or below what
anyone could expect, so the guardrail reads the ratio over users *and* campaigns: the ratio of each campaign, pooled as
gains are (`campaign_gains`). That chance is common to challenger and champion. So their expected take-ups are compared
with each other, too: how the scores differ on the same pairs holds no chance of the participations.

Shapes: N pairs of the slice · C its campaigns · H users · K bins · R draws.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.evaluation.campaign_gains import CampaignGains, OverCampaigns
from recommender.evaluation.document import Estimate, Reliability, SliceResult
from recommender.evaluation.judgement import Guardrails
from recommender.evaluation.metrics import Floats, ScoredPairs, excess_ece

MIN_EXPECTED = 0.5
"""A campaign of which the slice expects fewer participations says nothing about a ratio, as in `campaign.levels`."""


def reliability(
    rankers: Mapping[str, ScoredPairs],
    campaigns_N: NDArray[np.int64],
    *,
    challenger: str,
    champion: str,
    confidence: float,
    with_ece: bool = True,
) -> tuple[dict[str, Reliability], OverCampaigns | None]:
    """Compare expected and observed take-up in a slice.

    Args:
        rankers: challenger and champion -> scores of the slice's pairs, with at least one participation.
        campaigns_N: number of each pair's campaign.
        challenger: name of the challenger.
        champion: name of the champion.
        confidence: level of the intervals over users.
        with_ece: whether the calibration error beyond chance is computed, which takes most of the time.

    Returns:
        The figures by ranker, and by how much the challenger's expected take-up differs from the champion's, as a share
        of their mean. None if they are the same ranker, or no campaign says anything.
    """
    kept = _large_campaigns(rankers, campaigns_N)
    pooled = None if kept is None else {name: _ratio(kept.part(pairs), kept) for name, pairs in rankers.items()}
    found = {
        name: Reliability(
            expected=float(pairs.score_N.sum()),
            ratio=_over_users(pairs, confidence),
            over_campaigns=None if pooled is None else pooled[name],
            excess_ece=excess_ece(pairs) if with_ece else None,
        )
        for name, pairs in rankers.items()
    }
    if kept is None or pooled is None or challenger == champion:
        return found, None
    ours, theirs = (kept.part(rankers[name]) for name in (challenger, champion))
    return found, _pooled(ours.score_N - theirs.score_N, ours.users_N, kept, 0.0)


def unreliable(
    part: SliceResult, challenger: str, champion: str, limits: Guardrails, *, confidence: float, slices: int
) -> bool:
    """Whether a slice holds the challenger, as `why_reliable` judges it."""
    return why_reliable(part, challenger, champion, limits, confidence=confidence, slices=slices) is None


def why_reliable(
    part: SliceResult, challenger: str, champion: str, limits: Guardrails, *, confidence: float, slices: int
) -> str | None:
    """Say why a slice does not hold the challenger, or return None if it does.

    To hold it, its error must be beyond the limit, beyond chance, and not the champion's too. It must be further off
    than the champion by more than a limit, and their expected take-ups must differ beyond chance. Many slices are
    asked. So the interval of that difference has the level of Bonferroni's correction for their number.

    Args:
        part: the slice.
        challenger: name of the challenger.
        champion: name of the champion.
        limits: of the guardrails.
        confidence: level of the interval of one slice.
        slices: number of slices that are judged.
    """
    over, difference = part.reliability[challenger].over_campaigns, part.expected_difference
    champions = part.reliability[champion].over_campaigns
    if over is None or champions is None or difference is None:
        return "no campaign says anything about it"
    own, apart = over.interval(confidence), difference.interval(1 - (1 - confidence) / max(1, slices))
    if own is None or apart is None:
        return "one campaign alone says nothing about chance"
    factor, champions_factor = error_factor(over.value), error_factor(champions.value)
    if factor <= limits.max_slice_take_up_error:
        return "within the limit"
    if own[0] <= 1 <= own[1]:
        return "within chance over users and campaigns"
    if factor / champions_factor <= limits.max_slice_take_up_error_increase:
        return f"no worse than the champion's factor of {champions_factor:.2f} beyond the allowed increase"
    if apart[0] <= 0 <= apart[1]:
        return "its expected take-up differs from the champion's by chance alone"
    return None


def error_factor(ratio: float) -> float:
    """By which factor the expected take-up is off, at least 1: too high or too low alike."""
    return float("inf") if ratio <= 0 else max(ratio, 1 / ratio)


def judged_slices(parts: list[SliceResult], limits: Guardrails) -> list[SliceResult]:
    """Slices that are large enough for the guardrail, in pairs, participations and campaigns."""
    return [
        part
        for part in parts
        if part.judged and part.expected_difference is not None and part.num_campaigns >= limits.min_slice_campaigns
    ]


@dataclass(frozen=True, eq=False)
class _Kept:
    """The pairs of the slice's campaigns of which enough participations are expected."""

    rows: NDArray[np.intp]
    campaigns_N: NDArray[np.int64]
    expected_C: Floats
    """Mean of the rankers' expected participations. A common denominator, so that neither ranker is favoured."""
    variance_C: Floats
    """Variance of the participations by chance, the mean over the rankers."""

    def part(self, pairs: ScoredPairs) -> ScoredPairs:
        return ScoredPairs(pairs.redeemed_N[self.rows], pairs.score_N[self.rows], pairs.users_N[self.rows])


def _large_campaigns(rankers: Mapping[str, ScoredPairs], campaigns_N: NDArray[np.int64]) -> _Kept | None:
    score_N = np.mean([pairs.score_N for pairs in rankers.values()], axis=0)
    _, back_N = np.unique(campaigns_N, return_inverse=True)
    rows = np.flatnonzero(np.bincount(back_N, weights=score_N)[back_N] >= MIN_EXPECTED)
    if not len(rows):
        return None
    back_N = np.unique(back_N[rows], return_inverse=True)[1].astype(np.int64)
    spread_N = np.mean([pairs.score_N * (1 - pairs.score_N) for pairs in rankers.values()], axis=0)[rows]
    expected_C, variance_C = (
        np.bincount(back_N, weights=of_N).astype(np.float64) for of_N in (score_N[rows], spread_N)
    )
    return _Kept(rows, back_N, expected_C, variance_C)


def _ratio(pairs: ScoredPairs, kept: _Kept) -> OverCampaigns:
    """Observed over expected take-up, pooled over campaigns."""
    expected_C = np.bincount(kept.campaigns_N, weights=pairs.score_N).astype(np.float64)
    own = _Kept(kept.rows, kept.campaigns_N, expected_C, kept.variance_C)
    found = _pooled(pairs.redeemed_N - pairs.score_N, pairs.users_N, own, 1.0)
    return found.model_copy(update={"value": 1 + found.value})


def _pooled(error_N: Floats, users_N: NDArray[np.int64], kept: _Kept, chance: float) -> OverCampaigns:
    """Pool the campaigns' sums of `error_N` over their expected participations.

    `chance` times the variance of participations is the least variance of a sum: a campaign without any would else
    look as if it were certain.
    """
    pairs_C = np.bincount(kept.campaigns_N).astype(np.float64)
    each_N = error_N * (pairs_C / kept.expected_C)[kept.campaigns_N]
    gains = CampaignGains.of_means(each_N, kept.campaigns_N, users_N)
    covariance_CC = gains.covariance_CC.copy()
    least_C = chance * kept.variance_C / kept.expected_C**2
    np.fill_diagonal(covariance_CC, np.maximum(np.diag(covariance_CC), least_C))
    pooled, count = CampaignGains(gains.gain_C, covariance_CC, pairs_C).pooled(), len(pairs_C)
    return OverCampaigns(
        value=pooled.value,
        standard_error=pooled.standard_error if count > 1 else None,
        degrees_of_freedom=count - 1 if count > 1 else None,
    )


def _over_users(pairs: ScoredPairs, confidence: float) -> Estimate:
    """Observed over expected take-up with an interval over users, by the ratio's influence function."""
    from scipy.stats import norm

    expected = pairs.score_N.sum()
    ratio = float(pairs.redeemed_N.sum() / expected)
    _, back_N = np.unique(pairs.users_N, return_inverse=True)
    influence_H = np.bincount(back_N, weights=pairs.redeemed_N - ratio * pairs.score_N) / expected
    half = float(norm.ppf(0.5 + confidence / 2) * np.sqrt((influence_H**2).sum()))
    return Estimate(value=ratio, low=max(0.0, ratio - half), high=ratio + half)
