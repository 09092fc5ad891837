"""Settings of monitoring: how far features may move, how old data may be, how wrong served probabilities may be."""

from typing import Literal

from pydantic import Field

from recommender.settings.sections import Section

View = Literal[
    "events",
    "participations",
    "targets",
    "campaigns",
    "user_features",
    "user_serving",
    "campaign_features",
    "item_features",
    "champion",
]
"""What has an age: tables of the source, views of the feature store, and the training of the champion."""
WEEKLY_HOURS = 8 * 24.0
"""Eight days, as `serving.max_feature_age_s`: a weekly run may be a day late."""


def _promises() -> dict[View, float]:
    return {"events": WEEKLY_HOURS, "user_serving": WEEKLY_HOURS}


class MonitoringSettings(Section):
    """Limits of `recommender monitor` and of the pipeline `monitoring`. All numbers are chosen by hand.

    The step *materialise* of the other pipelines reads `accept_vanished_columns`.
    """

    accept_vanished_columns: bool = Field(
        False,
        description="Materialise features without columns that the serving version reads. It then answers with the "
        "popular list, marked degraded, until the same run has registered a version trained without them.",
    )
    max_psi: float = Field(
        0.25,
        gt=0,
        description="Greatest population stability index of a feature that matters. 0.1 is a moderate and 0.25 a major "
        "shift by the usual rule (Siddiqi, Credit Risk Scorecards, 2006).",
    )
    max_missing_increase: float = Field(
        0.1, gt=0, le=1, description="Greatest rise of the share of users for whom a feature that matters is missing."
    )
    min_importance: float = Field(
        0.01,
        ge=0,
        le=1,
        description="A feature matters if at least this share of all importance is its own. The drift of others is "
        "shown and breaks no limit.",
    )
    false_alarm: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Probability that any feature of an unchanged shop is called drifted, over all features together.",
    )
    max_age_hours: dict[View, float] = Field(
        default_factory=_promises,
        description="Greatest age of a table, of a view of the feature store, or of the champion's training, in hours. "
        "One that is not named has no promise.",
    )
    max_calibration_factor: float = Field(
        1.5,
        gt=1,
        description="Greatest factor between the participations that served probabilities add up to and those that "
        "came, too many or too few alike.",
    )
    min_expected: float = Field(
        30.0, gt=0, description="Served probabilities must add up to so many participations before they are judged."
    )
    min_campaigns: int = Field(
        4, ge=2, description="And to so many campaigns: a whole campaign is off by chance, so that few say nothing."
    )
