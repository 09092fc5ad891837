"""Small random pairs for the rankers' tests (taxonomy, campaigns, ragged histories, features with gaps), and a fit."""

from typing import Any

import numpy as np

from recommender.engine.context import FitContext
from recommender.matching.affinity import AXES
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Examples, Labels
from recommender.matching.look_baskets import LookHistories
from recommender.matching.look_rules import KINDS
from recommender.matching.packed_history import Histories
from recommender.matching.single_looks import ITEM
from recommender.models.campaign import Ranker, ranker_class

DAY_US = 86_400_000_000


def random_catalogue(rng: np.random.Generator, *, num_items: int = 120, num_campaigns: int = 9) -> Catalogue:
    sizes = {"product": num_items, "product_type": 12, "category": 6, "department": 3, "brand": 2, "manufacturer": 8}
    axes_VA = np.zeros((num_items + 1, len(AXES)), dtype=np.int32)
    for axis, name in enumerate(AXES):
        axes_VA[1:, axis] = (
            np.arange(1, num_items + 1) if name == "product" else rng.integers(1, sizes[name] + 1, num_items)
        )
    promoted = [np.sort(rng.choice(num_items, size=10, replace=False) + 1) for _ in range(num_campaigns)]
    starts_C = (np.arange(num_campaigns) * 30 + 17_000) * DAY_US
    return Catalogue(
        version=f"random-{num_items}-{num_campaigns}-{int(axes_VA.sum())}",
        item_ids=("", *(f"item-{row}" for row in range(1, num_items + 1))),
        item_names=("", *(f"Item {row}" for row in range(1, num_items + 1))),
        item_axes_VA=axes_VA,
        axis_values=tuple(("", *(f"{name}-{row}" for row in range(1, sizes[name] + 1))) for name in AXES),
        item_popularity_V=np.ones(num_items + 1, dtype=np.float32),
        campaign_ids=tuple(f"campaign-{row}" for row in range(num_campaigns)),
        campaign_names=tuple(f"Campaign {row}" for row in range(num_campaigns)),
        campaign_kinds=("coupon",) * num_campaigns,
        campaign_types=tuple("ABC"[row % 3] for row in range(num_campaigns)),
        campaign_starts_C=starts_C,
        campaign_ends_C=starts_C + 30 * DAY_US,
        campaign_item_offsets=np.cumsum([0, *(len(rows) for rows in promoted)]),
        campaign_items=np.concatenate(promoted).astype(np.int32),
        campaign_features_CG=rng.normal(size=(num_campaigns, 2)).astype(np.float32),
        campaign_feature_names=("campaign__one", "campaign__two"),
        campaign_popularity_C=np.full(num_campaigns, 0.1, dtype=np.float32),
    )


def random_histories(rng: np.random.Generator, *, num_users: int, num_items: int = 120) -> Histories:
    """Users with 0 … 11 baskets of 1 … 5 lines, oldest first."""
    baskets_U = rng.integers(0, 12, num_users)
    num_baskets = int(baskets_U.sum())
    lines_B = rng.integers(1, 6, num_baskets)
    ages = [np.sort(rng.uniform(0.5, 200, count))[::-1] for count in baskets_U]
    return Histories(
        basket_offsets=np.concatenate([[0], np.cumsum(baskets_U)]),
        line_offsets=np.concatenate([[0], np.cumsum(lines_B)]),
        items_T=rng.integers(0, num_items + 1, int(lines_B.sum())).astype(np.int32),
        age_days_B=np.concatenate([*ages, []]).astype(np.float32),
        spend_B=rng.gamma(2.0, 10.0, num_baskets).astype(np.float32),
    )


def random_looks(rng: np.random.Generator, catalogue: Catalogue, *, num_users: int) -> LookHistories:
    """Users with 0 … 7 days of 1 … 4 looks at items, or at values by a search, oldest first."""
    baskets_U = rng.integers(0, 8, num_users)
    lines_B = rng.integers(1, 5, int(baskets_U.sum()))
    ages = [np.sort(rng.uniform(0.5, 60, count))[::-1] for count in baskets_U]
    num_lines = int(lines_B.sum())
    axis_T = np.where(rng.random(num_lines) < 0.7, ITEM, rng.integers(1, len(AXES), num_lines))
    sizes = np.array([len(catalogue.item_ids) if axis == ITEM else len(catalogue.axis_values[axis]) for axis in axis_T])
    return LookHistories(
        basket_offsets=np.concatenate([[0], np.cumsum(baskets_U)]),
        line_offsets=np.concatenate([[0], np.cumsum(lines_B)]),
        kind_T=np.where(axis_T == ITEM, rng.integers(0, 5, num_lines), KINDS.index("search")).astype(np.uint8),
        axis_T=axis_T.astype(np.uint8),
        value_T=rng.integers(0, sizes).astype(np.int32),
        weight_T=rng.uniform(0.5, 3, num_lines).astype(np.float32),
        age_days_B=np.concatenate([*ages, []]).astype(np.float32),
    )


def random_examples(seed: int = 0, *, num_pairs: int = 300, num_users: int = 60) -> tuple[Examples, Labels]:
    """Pairs whose participation depends on the first two features. A tenth of one feature is missing."""
    rng = np.random.default_rng(seed)
    catalogue = random_catalogue(rng)
    features_NF = rng.normal(size=(num_pairs, 6)).astype(np.float32)
    features_NF[:, 2] = np.exp(3 * features_NF[:, 2])
    log_odds_N = 1.5 * features_NF[:, 0] - features_NF[:, 1] - 1.0
    features_NF[rng.random(num_pairs) < 0.1, 3] = np.nan
    features_NF[:, 5] = 1.0
    redeemed_N = (rng.random(num_pairs) < 1 / (1 + np.exp(-log_odds_N))).astype(np.float32)
    spend_N = (rng.gamma(2.0, 5.0, num_pairs) * np.exp(0.5 * features_NF[:, 0])).astype(np.float32)
    labels = Labels(redeemed_N=redeemed_N, spend_N=spend_N, excess_N=(spend_N - spend_N.mean()).astype(np.float32))
    labels.spend_N[:20] = np.nan
    labels.excess_N[:20] = np.nan
    examples = Examples(
        catalogue=catalogue,
        campaigns_N=rng.integers(0, len(catalogue.campaign_ids), num_pairs).astype(np.int32),
        users_N=rng.integers(0, num_users, num_pairs).astype(np.int32),
        features_NF=features_NF,
        feature_names=("behaviour__a", "behaviour__b", "consumption__c", "social__d", "base__e", "base__constant"),
        histories=random_histories(rng, num_users=num_users),
    )
    return examples, labels


def subset(examples: Examples, rows: slice) -> Examples:
    """Some of the pairs, with all histories."""
    return Examples(
        catalogue=examples.catalogue,
        campaigns_N=examples.campaigns_N[rows],
        users_N=examples.users_N[rows],
        features_NF=examples.features_NF[rows],
        feature_names=examples.feature_names,
        histories=examples.histories,
    )


def fit_ranker(
    name: str,
    examples: Examples,
    labels: Labels,
    *,
    corpus: Histories | None = None,
    context: FitContext | None = None,
    **hyperparameters: Any,
) -> Ranker[Any]:
    """Fit the campaign ranker `name`, without a corpus on the histories of the examples."""
    cls = ranker_class(name)
    return cls.fit(
        examples,
        labels,
        corpus=examples.histories if corpus is None else corpus,
        config=cls.Config.parse(hyperparameters, owner=name),
        context=context or FitContext(),
    )
