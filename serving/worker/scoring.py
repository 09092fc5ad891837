"""Turns one user's features into ranked, explained campaigns. It does not depend on TorchServe.

Shapes: N candidates, F features.
"""

import base64
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_US
from recommender.errors import ServingError
from recommender.matching.affinity import AXES, Incidence, UserAffinity, unpack_user
from recommender.matching.examples import Examples, Shopper, build
from recommender.matching.item_choice import rank_items
from recommender.matching.reasons import FeatureGroups, popularity_reason, reasons
from recommender.matching.rerank import Shares
from recommender.models.campaign.ranker import Ranker
from recommender.policies.exploration import explore
from serving.answer import Ranking
from serving.explanations import Ranked, dropped_ids, explained
from serving.request import ScoringRequest
from serving.shop import Shop

_PRODUCT = AXES.index("product")
RECENT_US = DAY_US
"""Features older than this know nothing about "the last 30 days": a day's run may be late by a day."""
_FEATURE_SETS = 8
"""How many sets of feature names keep their grouping. A worker serves one ranker, so one is in use at a time. By
hand."""


@dataclass(frozen=True)
class Scored:
    """A model's ranking, and the examples that the ranker received (None: no campaign was a candidate)."""

    ranking: Ranking
    examples: Examples | None


def score(ranker: Ranker[Any], shop: Shop, shopper: Shopper, asked: ScoringRequest) -> Scored:
    """Rank the candidates of one request for one user.

    Raises:
        FeatureStoreError: The user's features are damaged or refer to another taxonomy than the shop's catalogue.
        BundleError: They are not the features that the ranker was trained on.
        ServingError: The ranker returned NaN or Inf; names the campaign.
    """
    request, user = asked.request, unpack_user(shopper.affinity, shop.catalogue.taxonomy_version)
    found = shop.candidates(asked, user)
    dropped = dropped_ids(request, found)
    # What the user has taken up is scored with the others and then left out: the live campaigns without those of one
    # user are a set that the catalogue has not prepared.
    rows = shop.candidates(asked).rows_N if "taken_up" in found.dropped.values() else found.rows_N
    if len(found.rows_N) == 0:
        explanations = explained([], found.dropped, num_shown=0) if request.explain else None
        return Scored(Ranking([], dropped, explanations=explanations), None)
    users = np.zeros(len(rows), dtype=np.int32)
    examples = build([shopper], users, rows, shop.catalogue, np.full(len(rows), asked.as_of_us, dtype=np.int64))
    score_N = ranker.score(examples).redeem_N
    if not np.isfinite(score_N).all():
        row = int(rows[~np.isfinite(score_N)][0])
        raise ServingError(
            f"{ranker.name} returned NaN or Inf for campaign {shop.catalogue.campaign_ids[row]}; check its bundle"
        )
    # In ascending order, as `build` lays them out: both then use the same incidence that the catalogue keeps.
    incidence = shop.catalogue.incidence(np.sort(rows))
    columns_N = np.searchsorted(np.sort(rows), found.rows_N)
    if len(rows) > len(found.rows_N):
        kept_N = np.flatnonzero(np.isin(rows, found.rows_N))
        examples, score_N = _at(examples, kept_N), score_N[kept_N]
    # They come most popular first, so equal scores (a ranker that knows only campaign types) keep the popular order.
    by_score_N, exploration = np.argsort(-score_N, kind="stable"), None
    shares = Shares.of(user) if asked.rerank.is_on else None
    order_N = asked.rerank.order(score_N, found.rows_N, shop.catalogue, shares)
    num_shown = min(len(order_N), request.num_campaigns)
    if asked.exploration is not None:
        explored = explore(score_N, request.user_id, asked.exploration)
        order_N = by_score_N = explored.order_N
        exploration = explored.record(num_shown)
    places = order_N[: None if request.explain else num_shown]
    is_recent = asked.as_of_us - shopper.feature_time_us <= RECENT_US
    ranked = _ranked(ranker, shop, user, incidence, columns_N, examples, score_N, places, is_recent=is_recent)
    campaigns = []
    for place, one in zip(places[:num_shown].tolist(), ranked, strict=False):
        row, present_v = int(found.rows_N[place]), incidence.present[_PRODUCT][:, columns_N[place]]
        chosen = rank_items(user, shop.catalogue, row, request.num_items, present_v=present_v)
        items = [shop.item(item, why) for item, why in chosen]
        campaigns.append(shop.campaign(row, one.score, items, one.reasons))
    places_by_score = (np.argsort(by_score_N)[order_N] + 1).tolist()
    explanations = None
    if request.explain:
        explanations = explained(ranked, found.dropped, num_shown=num_shown, places_by_score=places_by_score)
    return Scored(Ranking(campaigns, dropped, exploration, explanations), examples)


def _ranked(
    ranker: Ranker[Any],
    shop: Shop,
    user: UserAffinity,
    incidence: Incidence,
    columns_N: NDArray[np.int64],
    examples: Examples,
    score_N: NDArray[np.float32],
    places: NDArray[np.int64],
    *,
    is_recent: bool,
) -> list[Ranked]:
    """The candidates at `places`, with what speaks for each of them.

    Args:
        ranker: what scored them.
        shop: the catalogue and its names.
        user: what the user bought.
        incidence: the prepared campaigns, among them all candidates.
        columns_N: each candidate's column in `incidence`.
        examples: the candidates as the ranker received them.
        score_N: their scores.
        places: the candidates to describe, in this order.
        is_recent: whether the user's features are of now.
    """
    ranked = []
    for place, contributions in zip(places.tolist(), _contributions(ranker, _at(examples, places)), strict=True):
        row = int(examples.campaigns_N[place])
        facts = reasons(
            user,
            incidence,
            int(columns_N[place]),
            weights=contributions,
            base_rate=float(shop.catalogue.campaign_popularity_C[row]),
            is_recent=is_recent,
        )
        why = [fact.text for fact in facts] or [popularity_reason(shop.catalogue, row)]
        ranked.append(Ranked(shop.catalogue.campaign_ids[row], float(score_N[place]), why, contributions))
    return ranked


def _at(examples: Examples, places: NDArray[np.int64]) -> Examples:
    """The pairs at `places`."""
    return replace(
        examples,
        campaigns_N=examples.campaigns_N[places],
        users_N=examples.users_N[places],
        features_NF=examples.features_NF[places],
        horizon=None if examples.horizon is None else examples.horizon.take(places),
    )


def _contributions(ranker: Ranker[Any], examples: Examples) -> list[dict[str, float] | None]:
    """What each kind of fact added to the log-odds of each pair, or None if the ranker does not say."""
    contributions_NF = ranker.contributions(examples)
    if contributions_NF is None:
        return [None] * len(examples.campaigns_N)
    groups = _groups(examples.feature_names)
    return [groups.weights(contributions_F) for contributions_F in contributions_NF]


@lru_cache(maxsize=_FEATURE_SETS)
def _groups(feature_names: tuple[str, ...]) -> FeatureGroups:
    return FeatureGroups.of(feature_names)


def features_document(examples: Examples) -> dict[str, Any]:
    """The features as the ranker received them, bit for bit: float32, little-endian, row by row."""
    return {
        "campaign_ids": [examples.catalogue.campaign_ids[row] for row in examples.campaigns_N.tolist()],
        "names": list(examples.feature_names),
        "shape": list(examples.features_NF.shape),
        "float32_base64": base64.b64encode(examples.features_NF.astype("<f4").tobytes()).decode(),
    }
