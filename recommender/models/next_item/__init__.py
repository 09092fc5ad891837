"""The table of next-item rankers: one ranker a file, each imported only when it is asked for."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from recommender.errors import BundleError
from recommender.models.dials import check_dials
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
"""Name -> where its class is. Each module has `DEFAULTS`: its dials with their values."""

__all__ = [
    "ITEM_RANKERS",
    "ItemRanker",
    "item_defaults_of",
    "item_ranker_class",
    "item_ranker_module",
    "require_dials",
    "searched_of",
]


def item_ranker_class(name: str) -> type[ItemRanker]:
    """The class of the next-item ranker called `name`.

    Raises:
        BundleError: there is none; the message lists those there are.
    """
    try:
        module, attribute = ITEM_RANKERS[name].split(":")
    except KeyError:
        raise BundleError(f"no next-item ranker is called {name!r}; there are {', '.join(ITEM_RANKERS)}") from None
    found: type[ItemRanker] = getattr(import_module(module), attribute)
    return found


def item_ranker_module(name: str) -> str:
    """The module that defines the next-item ranker called `name`, for its code identity.

    Raises:
        BundleError: no next-item ranker is called that; the message lists those there are.
    """
    return item_ranker_class(name).__module__


def item_defaults_of(name: str) -> dict[str, Any]:
    """The dials of a next-item ranker with their defaults.

    Raises:
        BundleError: there is no such ranker.
    """
    return dict(import_module(item_ranker_class(name).__module__).DEFAULTS)


def searched_of(name: str) -> dict[str, Any]:
    """What a search may choose of a next-item ranker's dials: `training.search.Space`.

    Raises:
        BundleError: there is no such ranker.
    """
    return dict(import_module(item_ranker_class(name).__module__).SEARCHED)


def require_dials(name: str, given: Mapping[str, Any]) -> None:
    """As `check_dials`, by the defaults of the next-item ranker `name`.

    Raises:
        BundleError: there is no such ranker.
        SettingsError: it cannot have these dials.
    """
    check_dials(name, item_defaults_of(name), given)
