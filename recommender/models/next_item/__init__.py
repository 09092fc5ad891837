"""The table of next-item rankers: one ranker per file, imported only when it is used."""

from importlib import import_module
from typing import Any

from recommender.errors import BundleError, suggestion
from recommender.models.next_item.ranker import ItemRanker

ITEM_RANKERS = {
    "item_popularity": "recommender.models.next_item.item_popularity:ItemPopularity",
    "user_cf": "recommender.models.next_item.user_cf:UserCF",
    "item_cf": "recommender.models.next_item.item_cf:ItemCF",
    "content": "recommender.models.next_item.content:Content",
    "svd": "recommender.models.next_item.svd:SVD",
    "als": "recommender.models.next_item.als:ALS",
    "bpr": "recommender.models.next_item.bpr:BPR",
    "factorization_machine": "recommender.models.next_item.factorization_machine:FactorizationMachine",
    "neural_cf": "recommender.models.next_item.neural_cf:NeuralCF",
    "two_tower": "recommender.models.next_item.two_tower:TwoTower",
    "caser": "recommender.models.next_item.caser:Caser",
    "gru4rec": "recommender.models.next_item.gru4rec:GRU4Rec",
    "sasrec": "recommender.models.next_item.sasrec:SASRec",
    "bert4rec": "recommender.models.next_item.bert4rec:BERT4Rec",
    "rules": "recommender.models.next_item.rules:Rules",
    "content_rules": "recommender.models.next_item.content_rules:ContentRules",
    "fusion": "recommender.models.next_item.fusion:Fusion",
    "student": "recommender.models.next_item.student:Student",
}
"""Name -> module and class of the ranker."""

__all__ = ["ITEM_RANKERS", "ItemRanker", "item_ranker_class", "item_ranker_module"]


def item_ranker_class(name: str) -> type[ItemRanker[Any]]:
    """The class of the next-item ranker called `name`.

    Raises:
        BundleError: there is none; the message names the nearest one, or lists all.
    """
    if name not in ITEM_RANKERS:
        raise BundleError(f"unknown next-item ranker {name!r}; {suggestion(name, ITEM_RANKERS)}")
    module, attribute = ITEM_RANKERS[name].split(":")
    found: type[ItemRanker[Any]] = getattr(import_module(module), attribute)
    return found


def item_ranker_module(name: str) -> str:
    """The module that defines the next-item ranker called `name`, for its code identity.

    Raises:
        BundleError: there is none; the message names the nearest one, or lists all.
    """
    return item_ranker_class(name).__module__
