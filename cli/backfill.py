"""`backfill`: accept what the source has of some days now, and bring the new features to serving."""

from datetime import datetime

from recommender.days import DayStore
from recommender.errors import SettingsError
from recommender.settings import Settings


def backfill_and_refresh(settings: Settings, *, first: str, last: str) -> None:
    """Accept the source's present rows of some days, both included, and bring the new features to serving.

    Raises:
        SettingsError: a day is no date, or they are in the wrong order.
        StepFailed: a step failed. The days stay accepted: the next run reads them.
    """
    days = []
    for option, text in (("--from", first), ("--to", last)):
        try:
            days.append(datetime.strptime(text, "%Y-%m-%d").date())
        except ValueError:
            raise SettingsError(f"{option} {text}: must be a day such as 2017-05-31") from None
    DayStore.of(settings).backfill(*days)
    # Imports the pipelines, which takes seconds.
    from cli.monitoring import refresh_and_show

    refresh_and_show(settings, caching=True)
