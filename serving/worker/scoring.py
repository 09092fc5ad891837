"""Turns one user's features into ranked, explained campaigns. It does not depend on TorchServe.

Shapes: N candidates, F features.
"""

import base64
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.errors import ServingError
from recommender.matching.affinity import AXES, unpack_user
from recommender.matching.examples import Examples, Shopper, build
from recommender.matching.item_choice import rank_items
from recommender.matching.reasons import FeatureGroups, popularity_reason, reasons
from recommender.models.campaign.ranker import Ranker
from recommender.policies.exploration import explore
from serving.answer import Campaign, Ranking
from serving.request import ScoringRequest
from serving.shop import Shop

_PRODUCT = AXES.index("product")
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
    rows, dropped = shop.candidates(asked)
    if len(rows) == 0:
        return Scored(Ranking([], dropped), None)
    users = np.zeros(len(rows), dtype=np.int32)
    examples = build([shopper], users, rows, shop.catalogue, np.full(len(rows), asked.as_of_us, dtype=np.int64))
    score_N = ranker.score(examples).redeem_N
    if not np.isfinite(score_N).all():
        row = int(rows[~np.isfinite(score_N)][0])
        raise ServingError(
            f"{ranker.name} returned NaN or Inf for campaign {shop.catalogue.campaign_ids[row]}; check its bundle"
        )
    # `rows` come most popular first, so equal scores (a ranker that knows only campaign types) keep the popular order.
    top = np.argsort(-score_N, kind="stable")[: asked.request.num_campaigns]
    exploration = None
    if asked.exploration is not None:
        explored = explore(score_N, asked.request.user_id, asked.exploration)
        top = explored.order_N[: asked.request.num_campaigns]
        exploration = explored.record(len(top))
    campaigns = _explained(ranker, shop, shopper, asked, examples, score_N, top.tolist())
    return Scored(Ranking(campaigns, dropped, exploration), examples)


def _explained(
    ranker: Ranker[Any],
    shop: Shop,
    shopper: Shopper,
    asked: ScoringRequest,
    examples: Examples,
    score_N: NDArray[np.float32],
    top: list[int],
) -> list[Campaign]:
    """The campaigns at `top` (places among the candidates), with the items to show and the reasons."""
    user = unpack_user(shopper.affinity, shop.catalogue.taxonomy_version)
    rows = examples.campaigns_N
    # In ascending order, as `build` lays them out: both then use the same incidence that the catalogue keeps.
    laid_out = np.sort(rows)
    incidence, columns_N = shop.catalogue.incidence(laid_out), np.searchsorted(laid_out, rows)
    campaigns = []
    for place, weights in zip(top, _weights(ranker, examples, top), strict=True):
        row, column = int(rows[place]), int(columns_N[place])
        present_v = incidence.present[_PRODUCT][:, column]
        ranked = rank_items(user, shop.catalogue, row, asked.request.num_items, present_v=present_v)
        items = [shop.item(item, why) for item, why in ranked]
        why = reasons(user, incidence, column, weights=weights) or [popularity_reason(shop.catalogue, row)]
        campaigns.append(shop.campaign(row, float(score_N[place]), items, why))
    return campaigns


def _weights(ranker: Ranker[Any], examples: Examples, places: list[int]) -> list[dict[str, float] | None]:
    """The contribution of each group of features to each pair's score, or None if the ranker has none."""
    chosen = replace(
        examples,
        campaigns_N=examples.campaigns_N[places],
        users_N=examples.users_N[places],
        features_NF=examples.features_NF[places],
        horizon=None if examples.horizon is None else examples.horizon.take(places),
    )
    contributions_NF = ranker.contributions(chosen)
    if contributions_NF is None:
        return [None] * len(places)
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
