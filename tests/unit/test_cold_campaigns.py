"""A campaign of items that nobody bought, in a shop whose items have nothing but names."""

from dataclasses import replace

import numpy as np
from random_examples import fit_ranker
from test_next_item_adapter import two_tastes

from recommender.matching.affinity import AXES
from recommender.matching.examples import Examples, Labels
from recommender.models.campaign.item_vocabulary import ItemVocabulary

COLD = (7, 8)
"""Campaigns of the second and of the first taste, each of five items that nobody bought."""


def named_shop() -> tuple[Examples, Labels]:
    """Two tastes of 60 items each, which only the items' names tell apart. The last five of each were never bought."""
    examples, labels = two_tastes()
    catalogue, histories = examples.catalogue, examples.histories
    axes_VA = catalogue.item_axes_VA.copy()
    axes_VA[:, [axis for axis, name in enumerate(AXES) if name != "product"]] = 0
    names = ("", *(f"{'Green tea' if row <= 60 else 'Motor oil'} no. {row}" for row in range(1, 121)))
    of_campaign = [catalogue.items_of(row) for row in range(len(catalogue.campaign_ids))]
    warm = [np.unique(np.where((rows - 1) % 60 >= 55, rows - 5, rows)) for rows in of_campaign]
    content = [*warm[:7], np.arange(116, 121), np.arange(56, 61)]
    catalogue = replace(
        catalogue,
        version="named",
        item_axes_VA=axes_VA,
        item_names=names,
        campaign_item_offsets=np.cumsum([0, *map(len, content)]),
        campaign_items=np.concatenate(content).astype(np.int32),
    )
    items_T = np.where((histories.items_T - 1) % 60 >= 55, histories.items_T - 5, histories.items_T).astype(np.int32)
    return replace(examples, catalogue=catalogue, histories=replace(histories, items_T=items_T)), labels


def auc_of_cold_campaigns(name: str) -> float:
    """AUC within each campaign, averaged, of a ranker that was trained on the other campaigns."""
    examples, labels = named_shop()
    cold_N = np.isin(examples.campaigns_N, COLD)
    known = replace(labels, redeemed_N=np.where(cold_N, np.nan, labels.redeemed_N).astype(np.float32))
    ranker = fit_ranker(name, examples, known, campaign_min_lines=0)
    p_N = ranker.score(examples).redeem_N
    found = []
    for row in COLD:
        mine = examples.campaigns_N == row
        yes, no = p_N[mine & (labels.redeemed_N > 0)], p_N[mine & (labels.redeemed_N == 0)]
        found.append(((yes[:, None] > no).mean() + (yes[:, None] >= no).mean()) / 2)
    return float(np.mean(found))


def test_names_alone_say_who_takes_up_a_cold_campaign() -> None:
    by_name, by_rules = auc_of_cold_campaigns("content_rules"), auc_of_cold_campaigns("rules")
    assert by_name > 0.65
    assert by_name > by_rules + 0.1


def test_no_least_number_of_lines_keeps_every_item_but_the_unknown_one() -> None:
    examples, _ = named_shop()
    vocabulary = ItemVocabulary.of(examples.catalogue, examples.histories.items_T, min_lines=0)
    assert vocabulary.items.ids == examples.catalogue.item_ids[1:]
