"""Settings of the features: how late events still count."""

from pydantic import Field

from recommender.settings.sections import Section


class FeatureSettings(Section):
    """How the features follow the log from day to day."""

    late_days: int = Field(
        30,
        ge=0,
        le=3_650,
        description="Days that a day stays open after the last run's newest event: until then late rows, corrections "
        "and returns count at once. Later ones are set aside until `recommender backfill` accepts their days. The "
        "default is by hand: shops take goods back for a month. 0: everything counts whenever it comes.",
    )
