"""Small lists in memory, for the tests of list metrics and their guardrails."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from random_examples import random_catalogue, random_histories

from recommender.evaluation.list_metrics import ShownLists
from recommender.evaluation.shown_lists import PeriodLists
from recommender.features.decision_lists import NUM_ITEMS, DecisionLists
from recommender.matching.affinity import AXES
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Examples
from recommender.matching.rerank import Shares

TYPE, CATEGORY = AXES.index("product_type"), AXES.index("category")


def shop(*campaigns: list[int], num_items: int = 20) -> Catalogue:
    """Campaigns that promote items by row. Item k has product type and category k."""
    base = random_catalogue(np.random.default_rng(0), num_items=num_items, num_campaigns=len(campaigns))
    axes_VA = base.item_axes_VA.copy()
    values = ("", *(f"value-{row}" for row in range(1, num_items + 1)))
    axes_VA[:, [TYPE, CATEGORY]] = np.arange(num_items + 1)[:, None]
    return replace(
        base,
        item_axes_VA=axes_VA,
        axis_values=tuple(values if k in (TYPE, CATEGORY) else old for k, old in enumerate(base.axis_values)),
        campaign_item_offsets=np.cumsum([0, *map(len, campaigns)]),
        campaign_items=np.array([item for items in campaigns for item in items], dtype=np.int32),
    )


def shares(**lines: float) -> Shares:
    """A user's lines by category, as in c1=3."""
    values = sorted((int(name[1:]), number) for name, number in lines.items())
    total = sum(lines.values())
    return Shares(np.array([v for v, _ in values], dtype=np.int32), np.array([n / total for _, n in values]))


def shown(
    catalogue: Catalogue,
    lists: Sequence[Sequence[int]],
    *,
    items: Sequence[Sequence[Sequence[int]]] | None = None,
    relevant: Sequence[Sequence[int]] = (),
    candidates: Sequence[Sequence[int]] | None = None,
    own: Sequence[Shares] | None = None,
    groups: Sequence[int] | None = None,
    top: int = 1,
) -> ShownLists:
    """Lists of campaigns by number, -1 for an empty place. Every campaign was a candidate unless `candidates` says."""
    shown_LK = np.array(lists, dtype=np.int64)
    num_lists, num_campaigns = len(shown_LK), len(catalogue.campaign_ids)
    marks = np.zeros((2, num_lists, num_campaigns), dtype=bool)
    for one in range(num_lists):
        marks[0, one, list(range(num_campaigns)) if candidates is None else list(candidates[one])] = True
        marks[1, one, list(relevant[one]) if relevant else []] = True
    return ShownLists(
        catalogue=catalogue,
        rows_C=np.arange(num_campaigns, dtype=np.int32),
        shown_LK=shown_LK,
        items_LKI=np.zeros((*shown_LK.shape, 1), np.int32) if items is None else np.array(items, dtype=np.int32),
        candidate_LC=marks[0],
        relevant_LC=marks[1],
        shares=own or [shares(c1=1)] * num_lists,
        top=top,
        groups={} if groups is None else {"age_band": np.array(groups)},
    )


def period_lists(
    seed: int, *, num_users: int = 400, num_campaigns: int = 4, rate: float = 0.25
) -> tuple[PeriodLists, NDArray[np.float64]]:
    """Users of two groups, all campaigns candidates of each, and the true log-odds by which they take part [M]."""
    random = np.random.default_rng(seed)
    catalogue = random_catalogue(random, num_campaigns=num_campaigns)
    campaigns_M = np.tile(np.arange(num_campaigns), num_users).astype(np.int32)
    users_M = np.repeat(np.arange(num_users), num_campaigns).astype(np.int32)
    log_odds_M = np.log(rate / (1 - rate)) + random.normal(0, 1.5, len(campaigns_M))
    examples = Examples(
        catalogue=catalogue,
        campaigns_N=campaigns_M,
        users_N=users_M,
        features_NF=log_odds_M[:, None].astype(np.float32),
        feature_names=("base__truth",),
        histories=random_histories(random, num_users=num_users),
    )
    lists = DecisionLists(
        users=tuple(f"user-{user}" for user in range(num_users)),
        moments_us_L=np.zeros(num_users, dtype=np.int64),
        offsets=np.arange(num_users + 1) * num_campaigns,
        examples=examples,
        items_MI=np.stack([random.choice(catalogue.items_of(row), NUM_ITEMS, replace=False) for row in campaigns_M]),
        shares=tuple([shares(c1=2, c3=1)] * num_users),
    )
    relevant_M = random.random(len(campaigns_M)) < 1 / (1 + np.exp(-log_odds_M))
    bands = ["18-34" if user % 2 else "35-54" for user in range(num_users)]
    return PeriodLists(lists, relevant_M, {"age_band": bands}), log_odds_M
