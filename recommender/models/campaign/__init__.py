"""The table of campaign rankers. Each is imported when it is used, so serving the logistic one never loads torch."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from recommender.errors import BundleError, suggestion
from recommender.models.campaign.ranker import Ranker, Scores
from recommender.models.next_item import ITEM_RANKERS, item_ranker_module

OWN_RANKERS: Mapping[str, str] = {
    "popularity": "recommender.models.campaign.popularity:PopularityRanker",
    "rate_rule": "recommender.models.campaign.rate_rule:RateRuleRanker",
    "logistic": "recommender.models.campaign.logistic:LogisticRanker",
    "lightgbm": "recommender.models.campaign.lightgbm:LightGBMRanker",
    "transformer": "recommender.models.campaign.transformer:TransformerRanker",
}
"""Name -> module and class of each ranker that is made for campaigns. A new one is its file and a line here."""
ADAPTER = "recommender.models.campaign.next_item_adapter"
"""The module that makes a campaign ranker of every next-item ranker."""
RANKERS = (*OWN_RANKERS, *ITEM_RANKERS)
"""Names of all campaign rankers. Every next-item ranker is one, through `next_item_adapter`."""

__all__ = ["OWN_RANKERS", "RANKERS", "Ranker", "Scores", "ranker_class", "ranker_modules"]


def ranker_class(name: str) -> type[Ranker[Any]]:
    """Import the class of the campaign ranker called `name`.

    Raises:
        BundleError: There is no such ranker. The message names the nearest one.
    """
    if name in OWN_RANKERS:
        module, attribute = OWN_RANKERS[name].split(":")
        found: type[Ranker[Any]] = getattr(import_module(module), attribute)
        return found
    if name in ITEM_RANKERS:
        from recommender.models.campaign.next_item_adapter import adapted

        return adapted(name)
    raise BundleError(f"unknown ranker {name!r}; {suggestion(name, RANKERS)}")


def ranker_modules(name: str) -> tuple[str, ...]:
    """List the modules that define the campaign ranker called `name`, for its code identity. Imports none of them.

    Raises:
        BundleError: There is no such ranker. The message names the nearest one.
    """
    if name in ITEM_RANKERS:
        return (ADAPTER, item_ranker_module(name))
    if name in OWN_RANKERS:
        return (OWN_RANKERS[name].split(":")[0],)
    raise BundleError(f"unknown ranker {name!r}; {suggestion(name, RANKERS)}")
