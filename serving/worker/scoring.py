"""Turns one user's features into ranked, explained campaigns. It does not depend on TorchServe.

Shapes: N candidates, F features.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_US
from recommender.errors import ServingError
from recommender.matching.affinity import AXES, UserAffinity, match, unpack_user
from recommender.matching.candidates import Candidates
from recommender.matching.examples import Examples, Joined, Shopper, build
from recommender.matching.item_choice import ItemChooser
from recommender.matching.reasons import FeatureGroups, reasons
from recommender.matching.rerank import Shares
from recommender.models.campaign.ranker import Ranker
from recommender.policies.exploration import explore
from serving.answer import Campaign, Ranking
from serving.explanations import Ranked, dropped_ids, explained
from serving.request import ScoringRequest
from serving.shop import Shop

_PRODUCT = AXES.index("product")
RECENT_US = DAY_US
"""Features older than this know nothing about "the last 30 days": a day's run may be late by a day."""
_FEATURE_SETS = 8
"""How many sets of feature names keep their grouping. A worker serves one ranker, so one is in use at a time. By
hand."""


class Scored(NamedTuple):
    """A model's ranking, and the examples that the ranker received (None: no campaign was a candidate)."""

    ranking: Ranking
    examples: Examples | None


_OF_USER = frozenset({"taken_up", "hidden"})
"""Why a campaign is no candidate for one user, while it may be one for others."""


@dataclass(frozen=True)
class _Asker:
    """One user's request on its way through the ranker."""

    asked: ScoringRequest
    shopper: Shopper
    user: UserAffinity
    found: Candidates
    joined: Joined | None
    """None: no campaign is a candidate."""


def score(ranker: Ranker[Any], shop: Shop, shopper: Shopper, asked: ScoringRequest) -> Scored:
    """Rank the candidates of one request for one user, see `score_batch`."""
    (scored,) = score_batch(ranker, shop, [(shopper, asked)])
    return scored


def score_batch(ranker: Ranker[Any], shop: Shop, requests: Sequence[tuple[Shopper, ScoringRequest]]) -> list[Scored]:
    """Rank the candidates of each request, by one call of the ranker for all.

    Raises:
        FeatureStoreError: A user's features are damaged or refer to another taxonomy than the shop's catalogue.
        BundleError: They are not the features that the ranker was trained on.
        ServingError: The ranker returned NaN or Inf; names the campaign.
    """
    askers = [_asker(shop, shopper, asked) for shopper, asked in requests]
    with_some = [one for one in askers if one.joined is not None]
    if not with_some:
        return [_nothing(one) for one in askers]
    examples = _examples(shop, with_some)
    score_N, contributions = ranker.ranked(examples)
    if not np.isfinite(score_N).all():
        row = int(examples.campaigns_N[~np.isfinite(score_N)][0])
        raise ServingError(
            f"{ranker.name} returned NaN or Inf for campaign {shop.catalogue.campaign_ids[row]}; check its bundle"
        )
    orders, start = [], 0
    for one in with_some:
        orders.append(_Order.of(shop, one, score_N, start))
        start = orders[-1].end
    places = np.concatenate([order.described for order in orders])
    weights = iter(_weights(examples.feature_names, contributions(places), len(places)))
    scored = iter([_scored(shop, order, score_N, weights, examples) for order in orders])
    return [_nothing(one) if one.joined is None else next(scored) for one in askers]


def _asker(shop: Shop, shopper: Shopper, asked: ScoringRequest) -> _Asker:
    user = unpack_user(shopper.affinity, shop.catalogue.numbering)
    found = shop.candidates(asked, user)
    if not len(found.rows_N):
        return _Asker(asked, shopper, user, found, None)
    # The live campaigns without those that one user has taken up or hidden are a set that the catalogue has not
    # prepared: the user is joined with all of them.
    rows = np.sort(found.rows_N if _OF_USER.isdisjoint(found.dropped.values()) else shop.candidates(asked).rows_N)
    matched = match(user, shop.catalogue.incidence(rows))
    return _Asker(asked, shopper, user, found, Joined(matched, np.searchsorted(rows, found.rows_N)))


def _examples(shop: Shop, askers: Sequence[_Asker]) -> Examples:
    sizes = [len(one.found.rows_N) for one in askers]
    return build(
        [one.shopper for one in askers],
        np.repeat(np.arange(len(askers), dtype=np.int32), sizes),
        np.concatenate([one.found.rows_N for one in askers]),
        shop.catalogue,
        np.repeat(np.array([one.asked.as_of_us for one in askers], dtype=np.int64), sizes),
        joined=[one.joined for one in askers if one.joined is not None],
    )


def _nothing(asker: _Asker) -> Scored:
    """The empty ranking of a request without a candidate."""
    request, dropped = asker.asked.request, asker.found.dropped
    explanations = explained([], dropped, num_shown=0) if request.explain else None
    return Scored(Ranking([], dropped_ids(request, asker.found), explanations=explanations), None)


@dataclass(frozen=True)
class _Order:
    """The order of one request's candidates."""

    asker: _Asker
    start: int
    """Place of its first pair among those of the batch."""
    order_N: NDArray[np.int64]
    """Places among its own candidates, best first."""
    by_score_N: NDArray[np.int64]
    """The same before re-ranking."""
    exploration: dict[str, Any] | None

    @classmethod
    def of(cls, shop: Shop, asker: _Asker, score_N: NDArray[np.float32], start: int) -> "_Order":
        asked, rows_N = asker.asked, asker.found.rows_N
        score_N = score_N[start : start + len(rows_N)]
        # They come most popular first, so equal scores (a ranker that knows only campaign types) keep the popular
        # order.
        by_score_N, exploration = (-score_N).argsort(kind="stable"), None
        order_N = by_score_N
        if asked.rerank.is_on:
            order_N = asked.rerank.order(score_N, rows_N, shop.catalogue, Shares.of(asker.user))
        if asked.exploration is not None:
            explored = explore(score_N, asked.request.user_id, asked.exploration)
            order_N = by_score_N = explored.order_N
            exploration = explored.record(min(len(order_N), asked.request.num_campaigns))
        return cls(asker, start, order_N, by_score_N, exploration)

    @property
    def end(self) -> int:
        return self.start + len(self.order_N)

    @property
    def num_shown(self) -> int:
        return min(len(self.order_N), self.asker.asked.request.num_campaigns)

    @property
    def described(self) -> NDArray[np.int64]:
        """Places in the batch of the pairs that the answer says something of, in its order."""
        return self.start + (self.order_N if self.asker.asked.request.explain else self.order_N[: self.num_shown])


def _scored(
    shop: Shop,
    order: _Order,
    score_N: NDArray[np.float32],
    weights: Iterator[dict[str, float] | None],
    examples: Examples,
) -> Scored:
    asker, request = order.asker, order.asker.asked.request
    ranked: list[Ranked] = []
    campaigns: list[Campaign] = []
    chooser = ItemChooser(asker.user, shop.catalogue)
    assert asker.joined is not None
    matched, columns_N = asker.joined
    is_recent = asker.asked.as_of_us - asker.shopper.feature_time_us <= RECENT_US
    described = order.described
    for place, score in zip((described - order.start).tolist(), score_N[described].tolist(), strict=True):
        row, column, contributions = int(asker.found.rows_N[place]), int(columns_N[place]), next(weights)
        facts = reasons(matched, column, weights=contributions, base_rate=shop.base_rates[row], is_recent=is_recent)
        why = [fact.text for fact in facts] or [shop.popularity_reasons[row]]
        if len(campaigns) < order.num_shown:
            present_v = matched.campaigns.present[_PRODUCT][:, column]
            chosen = chooser.choose(row, request.num_items, present_v=present_v)
            campaigns.append(shop.campaign(row, score, [shop.item(item, reason) for item, reason in chosen], why))
        ranked.append(Ranked(shop.catalogue.campaign_ids[row], score, why, contributions))
    explanations = None
    if request.explain:
        places_by_score = (np.argsort(order.by_score_N)[order.order_N] + 1).tolist()
        explanations = explained(
            ranked, asker.found.dropped, num_shown=order.num_shown, places_by_score=places_by_score
        )
    ranking = Ranking(campaigns, dropped_ids(request, asker.found), order.exploration, explanations)
    is_alone = len(order.order_N) == len(examples.campaigns_N)
    return Scored(ranking, examples if is_alone else examples.take(np.arange(order.start, order.end)))


def _weights(
    names: tuple[str, ...], contributions_NF: NDArray[np.float32] | None, number: int
) -> list[dict[str, float]] | list[None]:
    """What each kind of fact added to the log-odds of each pair, or None if the ranker does not say."""
    return [None] * number if contributions_NF is None else _groups(names).weights(contributions_NF)


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
