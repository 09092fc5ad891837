"""The table of rankers. Each is imported only when it is asked for: a server of the logistic ranker never loads torch."""

from importlib import import_module
from typing import Any

from recommender.errors import BundleError
from recommender.models.next_item import ITEM_RANKERS
from recommender.models.ranker import FitContext, Labels, Ranker, Scores

RANKERS = {
    "popularity": "recommender.models.popularity:PopularityRanker",
    "rate_rule": "recommender.models.rate_rule:RateRuleRanker",
    "logistic": "recommender.models.logistic:LogisticRanker",
    "lightgbm": "recommender.models.lightgbm:LightGBMRanker",
    "transformer": "recommender.models.transformer:TransformerRanker",
    **{name: f"recommender.models.campaign_items:{name}" for name in ITEM_RANKERS},
}
"""Name -> where its class is. Every next-item ranker is one of campaigns too, by what it says of their items."""

__all__ = ["RANKERS", "FitContext", "Labels", "Ranker", "Scores", "defaults_of", "ranker_class"]


def ranker_class(name: str) -> type[Ranker]:
    """The class of the ranker called `name`.

    Raises:
        BundleError: there is none; the message lists those there are.
    """
    try:
        module, attribute = RANKERS[name].split(":")
    except KeyError:
        raise BundleError(f"no ranker is called {name!r}; there are {', '.join(RANKERS)}") from None
    found: type[Ranker] = getattr(import_module(module), attribute)
    return found


def defaults_of(name: str) -> dict[str, Any]:
    """The dials of a ranker with their defaults.

    Raises:
        BundleError: there is no such ranker.
    """
    return ranker_class(name).defaults()
