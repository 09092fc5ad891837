"""Forecasts of what a user will do in the next days: buy, visit, take part in a campaign.

A forecast is a function of what it may learn from (`Learnt`), the users at the cutoff (`UsersAt`) and the outcome. It
returns a probability for each of these users. Their counts are known at the cutoff, so a model of counts is fitted to
them directly.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec

from recommender.errors import BundleError, suggestion
from recommender.matching.users_at import Floats, Learnt, UsersAt

Forecast = Callable[[Learnt, UsersAt, str, int], Floats]
"""Learnt, users at the cutoff, outcome, seed -> probability of each user, float64 [N]."""
FORECASTS: Mapping[str, str] = {
    "base_rate": "recommender.models.behaviour.rates:base_rate",
    "own_rate": "recommender.models.behaviour.rates:own_rate",
    "bg_nbd": "recommender.models.behaviour.bg_nbd:forecast",
    "logistic": "recommender.models.behaviour.regressions:logistic",
    "lightgbm": "recommender.models.behaviour.regressions:lightgbm",
}
"""Name -> module and function. The first three are baselines without features."""
BASELINES = ("base_rate", "own_rate", "bg_nbd")

__all__ = ["BASELINES", "FORECASTS", "Forecast", "available", "forecast_of"]


def available() -> list[str]:
    """Names of the forecasts that this installation can make: `lightgbm` needs the extra of that name."""
    return [name for name in FORECASTS if name != "lightgbm" or find_spec("lightgbm") is not None]


def forecast_of(name: str) -> Forecast:
    """Import the forecast called `name`.

    Raises:
        BundleError: There is no such forecast here. The message names the nearest one.
    """
    if name not in available():
        raise BundleError(f"unknown forecast of behaviour {name!r}; {suggestion(name, available())}")
    module, function = FORECASTS[name].split(":")
    found: Forecast = getattr(import_module(module), function)
    return found
