"""Settings of looks: what views, carts, searches, reviews and the like count in a shopper's affinity."""

from typing import Annotated, Literal

from pydantic import Field

from recommender.settings.sections import Section

LookKind = Literal["view", "click", "cart", "like", "favourite", "search", "review"]
"""Kinds of events by which a shopper shows interest without buying."""


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
    dwell_s: float = Field(
        30.0, gt=0, le=86_400, description="Seconds of a view or click that counts as one whose seconds are not known."
    )
    encoder: bool = Field(
        True,
        description="Match searches that no name answers, and read reviews without a rating, with the text encoder of "
        "the extra `text`, where it is installed.",
    )
