"""The table of rankers. Each is imported only when it is asked for: a server of the logistic ranker never loads torch."""

from importlib import import_module
from typing import Any

from recommender.errors import BundleError
from recommender.models.campaign.ranker import Ranker, Scores
from recommender.models.next_item import ITEM_RANKERS, item_ranker_module

RANKERS = {
    "popularity": "recommender.models.campaign.popularity:PopularityRanker",
    "rate_rule": "recommender.models.campaign.rate_rule:RateRuleRanker",
    "logistic": "recommender.models.campaign.logistic:LogisticRanker",
    "lightgbm": "recommender.models.campaign.lightgbm:LightGBMRanker",
    "transformer": "recommender.models.campaign.transformer:TransformerRanker",
    **{name: f"recommender.models.campaign.campaign_items:{name}" for name in ITEM_RANKERS},
}
"""Name -> where its class is. Every next-item ranker is one of campaigns too, by what it says of their items."""

__all__ = ["RANKERS", "Ranker", "Scores", "defaults_of", "ranker_class", "ranker_modules"]


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


def ranker_modules(name: str) -> tuple[str, ...]:
    """The modules that define the ranker called `name`, for its code identity.

    Raises:
        BundleError: no ranker is called that; the message lists those there are.
    """
    own = ranker_class(name).__module__
    return (own, item_ranker_module(name)) if name in ITEM_RANKERS else (own,)


def defaults_of(name: str) -> dict[str, Any]:
    """The dials of a ranker with their defaults.

    Raises:
        BundleError: there is no such ranker.
    """
    return ranker_class(name).defaults()
