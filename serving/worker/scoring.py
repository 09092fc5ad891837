"""From one user's features to ranked, explained campaigns: build, score, rank, explain. Knows no TorchServe.

Shapes: N candidates · F features.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from recommender.errors import ServingError
from recommender.matching.affinity import AXES, unpack_user
from recommender.matching.examples import Examples, Shopper, build
from recommender.matching.item_choice import rank_items
from recommender.matching.reasons import FeatureGroups, popularity_reason, reasons
from recommender.models.campaign.ranker import Ranker
from recommender.policies.exploration import Exploration, explore
from serving.shop import Shop

_PRODUCT = AXES.index("product")


@dataclass(frozen=True, kw_only=True)
class Question:
    """A validated request for one user."""

    user_id: str
    as_of_us: int
    campaign_ids: Sequence[str] | None = None
    num_campaigns: int = 10
    num_items: int = 5
    return_features: bool = False
    exploration: Exploration | None = None
    """None: the order is the ranker's alone."""


def answer(ranker: Ranker[Any], shop: Shop, shopper: Shopper, question: Question) -> dict[str, Any]:
    """The ranked campaigns of one user.

    Raises:
        FeatureStoreError: the user's features are damaged or speak of another taxonomy than `shop`'s.
        BundleError: they are not the features that the ranker was trained on.
        ServingError: the ranker gave a score that is no number.
    """
    rows, dropped = shop.candidates(question.as_of_us, question.campaign_ids)
    found: dict[str, Any] = {"campaigns": [], "dropped_campaign_ids": dropped}
    if len(rows) == 0:
        return found
    users = np.zeros(len(rows), dtype=np.int32)
    examples = build([shopper], users, rows, shop.catalogue, np.full(len(rows), question.as_of_us, dtype=np.int64))
    score_N = ranker.score(examples).redeem_N
    if not np.isfinite(score_N).all():
        row = int(rows[~np.isfinite(score_N)][0])
        raise ServingError(f"the ranker's score of {shop.catalogue.campaign_ids[row]} is no number")
    # `rows` come most popular first, so equal scores (a ranker that knows only types) keep the popular order.
    top = np.argsort(-score_N, kind="stable")[: question.num_campaigns]
    if question.exploration is not None:
        explored = explore(score_N, question.user_id, question.exploration)
        top = explored.order_N[: question.num_campaigns]
        found["exploration"] = explored.record(len(top))
    user = unpack_user(shopper.affinity, shop.catalogue.taxonomy_version)
    laid_out = np.sort(rows)
    incidence, columns_N = shop.catalogue.incidence(laid_out), np.searchsorted(laid_out, rows)
    for pair, weights in zip(top.tolist(), _weights(ranker, examples, top.tolist()), strict=True):
        row = int(rows[pair])
        column = int(columns_N[pair])
        ranked = rank_items(
            user, shop.catalogue, row, question.num_items, present_v=incidence.present[_PRODUCT][:, column]
        )
        items = [shop.item(item, why) for item, why in ranked]
        why = reasons(user, incidence, column, weights=weights)
        why = why or [popularity_reason(shop.catalogue, row)]
        found["campaigns"].append(shop.campaign(row, float(score_N[pair]), items, why))
    if question.return_features:
        found["features"] = _features(examples)
    return found


def _weights(ranker: Ranker[Any], examples: Examples, pairs: list[int]) -> list[dict[str, float] | None]:
    chosen = replace(
        examples,
        campaigns_N=examples.campaigns_N[pairs],
        users_N=examples.users_N[pairs],
        features_NF=examples.features_NF[pairs],
    )
    contributions_NF = ranker.contributions(chosen)
    if contributions_NF is None:
        return [None] * len(pairs)
    groups = _groups(examples.feature_names)
    return [groups.weights(contributions_F) for contributions_F in contributions_NF]


@lru_cache(maxsize=8)
def _groups(feature_names: tuple[str, ...]) -> FeatureGroups:
    return FeatureGroups.of(feature_names)


def _features(examples: Examples) -> dict[str, Any]:
    """The features as the ranker received them, bit for bit: float32, little-endian, row by row."""
    return {
        "campaign_ids": [examples.catalogue.campaign_ids[row] for row in examples.campaigns_N.tolist()],
        "names": list(examples.feature_names),
        "shape": list(examples.features_NF.shape),
        "float32_base64": base64.b64encode(examples.features_NF.astype("<f4").tobytes()).decode(),
    }
