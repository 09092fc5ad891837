"""Explains an answer: the place of every candidate and why, and the stage at which each other campaign dropped out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recommender.matching.candidates import Candidates, Dropped
from serving.answer import Explanation
from serving.request import RecommendationRequest


@dataclass(frozen=True)
class Ranked:
    """One candidate with what its ranking says of it."""

    campaign_id: str
    score: float
    reasons: list[str]
    contributions: dict[str, float] | None = None


def explained(
    ranked: Sequence[Ranked],
    dropped: Mapping[str, Dropped],
    *,
    num_shown: int,
    places_by_score: Sequence[int] | None = None,
) -> list[Explanation]:
    """Explain all candidates, in the order in which they were ranked, and then the campaigns that dropped out.

    Args:
        ranked: the candidates.
        dropped: the other campaigns.
        num_shown: how many of the candidates the answer shows.
        places_by_score: the place of each candidate before re-ranking. None: there was none.
    """
    explanations: list[Explanation] = [
        {
            "campaign_id": one.campaign_id,
            "stage": "shown" if place <= num_shown else "ranked_below",
            "place": place,
            "place_by_score": place if places_by_score is None else places_by_score[place - 1],
            "score": one.score,
            "reasons": one.reasons,
            "contributions": one.contributions,
        }
        for place, one in enumerate(ranked, start=1)
    ]
    return explanations + [
        {
            "campaign_id": campaign_id,
            "stage": stage,
            "place": None,
            "place_by_score": None,
            "score": None,
            "reasons": [],
            "contributions": None,
        }
        for campaign_id, stage in dropped.items()
    ]


def dropped_ids(request: RecommendationRequest, found: Candidates) -> list[str]:
    """The campaigns that a request names and that are no candidates."""
    return [] if request.campaign_ids is None else list(found.dropped)
