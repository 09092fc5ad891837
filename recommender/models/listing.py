"""List rankers with their hyperparameters, as their `Config` classes declare them. Behind `recommender rankers`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recommender.engine.hyperparameters import Choices, Hyperparameters, Range
from recommender.models.campaign import RANKERS, ranker_class
from recommender.models.next_item import ITEM_RANKERS, item_ranker_class


@dataclass(frozen=True)
class Hyperparameter:
    """One field of a `Config`."""

    name: str
    default: Any
    allowed: Mapping[str, Any]
    """Type and bounds as JSON Schema."""
    searched: Range | Choices | None
    """The values that a search chooses among. None if it is never searched."""
    meaning: str


@dataclass(frozen=True)
class Listed:
    """A ranker and its hyperparameters by use."""

    name: str
    kind: Literal["campaign", "both"]
    """`both`: a next-item ranker, which also ranks campaigns. There is no ranker of items alone."""
    meaning: str
    trains_on_gpu: bool
    campaign: tuple[Hyperparameter, ...]
    """As a campaign ranker: [training.rankers.<name>] of the settings, searched by `recommender tune`."""
    next_item: tuple[Hyperparameter, ...]
    """As a next-item ranker, searched on sequences. Empty where `kind` is `campaign`."""


def listed(name: str | None = None) -> Iterator[Listed]:
    """Describe all rankers, or the one called `name`.

    Raises:
        BundleError: There is no such ranker. The message names the nearest one.
    """
    for ranker in RANKERS if name is None else (name,):
        cls = ranker_class(ranker)
        campaign = tuple(_hyperparameters(cls.Config))
        if ranker not in ITEM_RANKERS:
            yield Listed(ranker, "campaign", _first_line(cls), cls.trains_on_gpu, campaign, ())
            continue
        items = item_ranker_class(ranker)
        yield Listed(
            ranker, "both", _first_line(items), cls.trains_on_gpu, campaign, tuple(_hyperparameters(items.Config))
        )


def _hyperparameters(config: type[Hyperparameters]) -> Iterator[Hyperparameter]:
    schema, defaults, space = config.model_json_schema(), config().model_dump(mode="json"), config.search_space()
    for name, field in config.user_fields().items():
        told = schema["properties"][name]
        allowed = {key: value for key, value in told.items() if key not in ("title", "description", "default")}
        yield Hyperparameter(name, defaults[name], allowed, space.get(name), field.description or "")


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]
