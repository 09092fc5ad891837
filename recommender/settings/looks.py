"""Settings of looks: what a view, click, cart, like or favourite of an item counts in a shopper's affinity."""

from typing import Annotated, Literal

from pydantic import Field

from recommender.settings.sections import Section

LookKind = Literal["view", "click", "cart", "like", "favourite"]
"""Kinds of events by which a shopper looks at an item without buying it."""


class LookSettings(Section):
    """What looks count. By default both are learnt from the purchases before the gate period."""

    learn: bool = Field(
        True,
        description="Learn weights and half-lives from what shoppers bought after they looked, before the gate period. "
        "Off: the values below, and by hand for the kinds that they do not name.",
    )
    weight: dict[LookKind, Annotated[float, Field(ge=0, le=1_000)]] = Field(
        {}, description="Kind of event -> what one counts. A kind that is named is not learnt."
    )
    half_life_days: dict[LookKind, Annotated[float, Field(gt=0, le=3_650)]] = Field(
        {}, description="Kind of event -> days after which one counts half. A kind that is named is not learnt."
    )
